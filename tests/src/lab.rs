// SPDX-License-Identifier: Apache-2.0
//! What virtual machines of tests boot from and install from, made by `make test-lab` beside the programs under test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The lab.
#[derive(Debug, Clone)]
pub struct Lab {
    directory: PathBuf,
}

impl Lab {
    /// The lab in the directory of everything that was built.
    ///
    /// # Panics
    /// If it was not made.
    #[must_use]
    pub fn find() -> Self {
        let tests = std::env::current_exe().expect("this program has a file");
        let target = tests.ancestors().nth(3).expect("TARGET/PROFILE/deps");
        let lab = Self { directory: target.join("lab") };
        for part in [lab.image(), lab.key(), lab.directory.join("repos")] {
            assert!(part.exists(), "{} is not there: run `make test-lab`", part.display());
        }
        lab
    }

    /// The disk to boot from.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.directory.join("guest.qcow2")
    }

    /// The key that packages and metadata are signed with.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory.join("RPM-GPG-KEY-lab")
    }

    /// Serves the repositories on loopback until what this returns is dropped.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn serve(&self) -> Repositories {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let files = axum::Router::new().fallback(file).with_state(self.directory.join("repos"));
        let server = tokio::spawn(async move { axum::serve(listener, files).await.expect("it serves") });
        Repositories { port, server }
    }
}

/// The server of the repositories.
#[derive(Debug)]
pub struct Repositories {
    port: u16,
    server: JoinHandle<()>,
}

impl Repositories {
    /// Where a machine finds one of them: `repo`, or another one of the lab's.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://10.0.2.2:{}/{name}", self.port)
    }
}

impl Drop for Repositories {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn file(State(directory): State<PathBuf>, uri: Uri) -> impl IntoResponse {
    let path = Path::new(uri.path().trim_start_matches('/'));
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return (StatusCode::BAD_REQUEST, Vec::new());
    }
    match tokio::fs::read(directory.join(path)).await {
        Ok(content) => (StatusCode::OK, content),
        Err(_) => (StatusCode::NOT_FOUND, Vec::new()),
    }
}
