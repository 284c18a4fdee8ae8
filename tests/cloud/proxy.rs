// SPDX-License-Identifier: Apache-2.0
//! A proxy for HTTP that loses the question or the answer of a certain change, as networks and load balancers do.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It never comes to the cloud.
    Question,
    /// The cloud does it, and nobody is told.
    Answer,
    /// The cloud does it, and whoever asked is dead.
    Asker,
    /// It comes with a token that the cloud does not know any more.
    Token,
}

#[derive(Debug, Default)]
struct State {
    changes: Vec<String>,
    loss: Option<(usize, Loss)>,
}

/// A proxy on loopback. It is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// As `http_proxy` names it.
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
    death: Arc<Notify>,
    server: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    /// Starts one that loses something at the change with this number.
    pub(crate) async fn start(loss: Option<(usize, Loss)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State { loss, ..State::default() }));
        let death = Arc::new(Notify::new());
        let (shared, dies) = (Arc::clone(&state), Arc::clone(&death));
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (shared, dies) = (Arc::clone(&shared), Arc::clone(&dies));
                // A connection that breaks is the business of whoever made it.
                tokio::spawn(async move { drop(pass_on(client, &shared, &dies).await) });
            }
        });
        Self { address, state, death, server }
    }

    /// Waits until the cloud has done what nobody shall hear of.
    pub(crate) async fn asker_dies(&self) {
        self.death.notified().await;
    }

    /// The changes that came by.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).changes.clone()
    }
}

/// One question and its answer; then the connection is closed, as the lab's services do.
async fn pass_on(mut client: TcpStream, state: &Mutex<State>, death: &Notify) -> std::io::Result<()> {
    let (head, body) = read_request(&mut client).await?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    let loss = note(&line, state);
    if loss == Some(Loss::Question) {
        return Ok(());
    }
    let rest = line.split(' ').nth(1).and_then(|target| target.strip_prefix("http://")).unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut cloud = TcpStream::connect(host).await?;
    let method = line.split(' ').next().unwrap_or_default();
    let is_token = |line: &str| line.to_ascii_lowercase().starts_with("x-auth-token:");
    let header = |line: &str| match loss == Some(Loss::Token) && is_token(line) {
        true => "X-Auth-Token: ended\r\n".to_owned(),
        false => format!("{line}\r\n"),
    };
    let headers: String = head.lines().skip(1).filter(|line| !line.is_empty()).map(header).collect();
    let request = format!("{method} /{path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    cloud.write_all(request.as_bytes()).await?;
    cloud.write_all(&body).await?;
    let mut answer = Vec::new();
    cloud.read_to_end(&mut answer).await?;
    match loss {
        None | Some(Loss::Token) => client.write_all(&answer).await?,
        Some(Loss::Asker) => {
            death.notify_one();
            // It hears nothing before it is dead.
            return std::future::pending().await;
        }
        Some(Loss::Question | Loss::Answer) => {}
    }
    client.shutdown().await
}

/// Counts a change; what of it is to be lost. A token is no change, and neither is looking at a console.
fn note(line: &str, state: &Mutex<State>) -> Option<Loss> {
    let is_change = !line.starts_with("GET ") && !line.contains("/auth/tokens");
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_change {
        return None;
    }
    let nth = state.changes.len();
    state.changes.push(line.to_owned());
    state.loss.filter(|(at, _)| *at == nth).map(|(_, loss)| loss)
}

async fn read_request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = read.split_off(end);
    let head = String::from_utf8_lossy(&read).into_owned();
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    while body.len() < length.unwrap_or(0) {
        if client.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((head, body))
}
