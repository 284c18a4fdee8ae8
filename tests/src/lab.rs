// SPDX-License-Identifier: Apache-2.0
//! What virtual machines of tests boot from and install from, made by `make test-lab` beside the programs under test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use tokio::net::{TcpListener, TcpStream};
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

    /// Serves the repositories on loopback, which local machines see as 10.0.2.2, until what this returns is dropped.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn serve(&self) -> Repositories {
        self.serve_as(Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 2, 2)).await
    }

    /// Serves the repositories at an address of this host.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn serve_at(&self, address: Ipv4Addr) -> Repositories {
        self.serve_as(address, address).await
    }

    async fn serve_as(&self, address: Ipv4Addr, seen: Ipv4Addr) -> Repositories {
        let listener = TcpListener::bind(SocketAddr::from((address, 0))).await.expect("a port");
        let seen = SocketAddr::from((seen, listener.local_addr().expect("an address").port()));
        let offered = Arc::new(Mutex::new(Some("repo")));
        let served = Served { directory: self.directory.join("repos"), offered: Arc::clone(&offered) };
        let files = axum::Router::new().fallback(file).with_state(served);
        let door = Door { listener, offered: Arc::clone(&offered) };
        let server = tokio::spawn(async move { axum::serve(door, files).await.expect("it serves") });
        Repositories { seen, offered, server }
    }
}

/// The server of the repositories. Machines that wait for one find whichever is offered now.
#[derive(Debug)]
pub struct Repositories {
    seen: SocketAddr,
    offered: Arc<Mutex<Option<&'static str>>>,
    server: JoinHandle<()>,
}

impl Repositories {
    /// Where a machine finds the repository.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/repository", self.seen)
    }

    /// Offers `repo`, or another one of the lab's, from now on; or hangs up on everybody.
    pub fn offer(&self, name: Option<&'static str>) {
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}

impl Drop for Repositories {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug, Clone)]
struct Served {
    directory: PathBuf,
    offered: Arc<Mutex<Option<&'static str>>>,
}

/// Takes connections while something is offered.
struct Door {
    listener: TcpListener,
    offered: Arc<Mutex<Option<&'static str>>>,
}

impl axum::serve::Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = axum::serve::Listener::accept(&mut self.listener).await;
            if self.offered.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn file(State(served): State<Served>, uri: Uri) -> impl IntoResponse {
    let offered = *served.offered.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(uri.path().trim_start_matches("/repository/"));
    let (Some(offered), true) = (offered, path.components().all(|part| matches!(part, Component::Normal(_)))) else {
        return (StatusCode::NOT_FOUND, Vec::new());
    };
    match tokio::fs::read(served.directory.join(offered).join(path)).await {
        Ok(content) => (StatusCode::OK, content),
        Err(_) => (StatusCode::NOT_FOUND, Vec::new()),
    }
}
