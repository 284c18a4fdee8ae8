// SPDX-License-Identifier: Apache-2.0
//! A cloud for tests: a small HTTP server on loopback that answers as it is told, and notes what it was asked.
//!
//! It is written on bare TCP, so that it can do what servers for HTTP do only by accident: hang up without an answer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::client::Client;
use super::clouds::{CloudConfig, Domain, Interface, Login, Named, Proxies};
use super::secret::Secret;

/// What the user's password is. It must be seen nowhere.
pub(super) const PASSWORD: &str = "correct-horse";

/// How tokens begin. They must be seen nowhere.
pub(super) const TOKEN: &str = "token-of-the-cloud";

/// A question that came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Method and target, with the query.
    pub(super) line: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Value,
    /// Which connection it came on.
    pub(super) connection: usize,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The same, and the connection is closed afterwards without having said so.
    AnswerAndClose(Value),
    /// The connection is closed instead.
    HangUp,
    /// Nothing, for ever.
    Silence,
}

/// An answer in JSON.
pub(super) fn reply(status: u16, body: Value) -> Reply {
    Reply::Answer { status, headers: Vec::new(), body: body.to_string() }
}

/// An answer with a header.
pub(super) fn reply_with(status: u16, header: (&'static str, &str), body: Value) -> Reply {
    Reply::Answer { status, headers: vec![(header.0, header.1.to_owned())], body: body.to_string() }
}

#[derive(Debug, Default)]
struct State {
    asked: Vec<Asked>,
    replies: HashMap<String, VecDeque<Reply>>,
    connections: usize,
    tokens: usize,
}

/// A cloud for tests.
#[derive(Debug)]
pub(super) struct FakeCloud {
    /// Where it is.
    pub(super) root: String,
    state: Arc<Mutex<State>>,
    authority: Option<(tempfile::TempDir, PathBuf)>,
}

impl FakeCloud {
    pub(super) async fn start() -> Self {
        Self::serve(None, None).await
    }

    /// With TLS and an authority of its own.
    pub(super) async fn start_with_tls() -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, key.cert.pem()).expect("written");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a certificate");
        Self::serve(Some(TlsAcceptor::from(Arc::new(config))), Some((directory, path))).await
    }

    async fn serve(acceptor: Option<TlsAcceptor>, authority: Option<(tempfile::TempDir, PathBuf)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let root = format!("{scheme}://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, at) = (Arc::clone(&state), root.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, at, acceptor) = (Arc::clone(&shared), at.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => converse(stream, &shared, &at).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => converse(stream, &shared, &at).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { root, state, authority }
    }

    /// What is answered to this, in turn; the last for ever.
    pub(super) fn on<const N: usize>(&self, line: &str, replies: [Reply; N]) {
        self.state.lock().expect("the state").replies.insert(line.to_owned(), replies.into());
    }

    /// The questions whose method and target begin like this.
    pub(super) fn asked(&self, line: &str) -> Vec<Asked> {
        let state = self.state.lock().expect("the state");
        state.asked.iter().filter(|asked| asked.line.starts_with(line)).cloned().collect()
    }

    /// How often a token was asked for.
    pub(super) fn logins(&self) -> usize {
        self.asked("POST /identity/v3/auth/tokens").len()
    }

    pub(super) fn cacert(&self) -> Option<&Path> {
        self.authority.as_ref().map(|(_, path)| path.as_path())
    }

    pub(super) fn config(&self) -> CloudConfig {
        let domain = Domain::Name("Default".to_owned());
        let named = |name: &str| Named::Name { name: name.to_owned(), domain: domain.clone() };
        CloudConfig {
            name: "lab".to_owned(),
            auth_url: format!("{}/identity/v3", self.root),
            login: Login::Password { user: named("demo"), password: Secret::new(PASSWORD) },
            project: Some(named("demo")),
            region: None,
            interface: Interface::Public,
            cacert: self.cacert().map(Path::to_owned),
            verify: true,
            proxies: Proxies::default(),
        }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.config()).expect("a client")
    }
}

/// The token's description as services of several releases write it.
pub(super) fn token(root: &str, issued: &str, expires: &str) -> Value {
    let endpoint = |path: &str| {
        json!([{"id": "e", "interface": "public", "region": "RegionOne", "region_id": "RegionOne",
                "url": format!("{root}{path}")}])
    };
    json!({"token": {
        "methods": ["password"], "issued_at": issued, "expires_at": expires, "is_domain": false,
        "user": {"id": "u1", "name": "demo", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p1", "name": "demo", "domain": {"id": "default", "name": "Default"}},
        "roles": [{"id": "r1", "name": "member"}, {"id": "r2", "name": "reader"}],
        "catalog": [
            {"type": "compute", "name": "nova", "endpoints": endpoint("/compute/v2.1")},
            {"type": "network", "name": "neutron", "endpoints": endpoint("/network")},
            {"type": "image", "name": "glance", "endpoints": endpoint("/image")},
            {"type": "volumev3", "name": "cinderv3", "endpoints": endpoint("/volume/v3/p1")},
        ],
    }})
}

/// Answers until the other side or we hang up.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>, root: &str) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let connection = {
        let mut state = state.lock().expect("the state");
        state.connections += 1;
        state.connections
    };
    loop {
        let asked = question(&mut stream, connection).await?;
        let (status, headers, body, close) = match answer(&asked, &mut state.lock().expect("the state"), root) {
            Reply::Answer { status, headers, body } => (status, headers, body, false),
            Reply::AnswerAndClose(body) => (200, Vec::new(), body.to_string(), true),
            Reply::HangUp => return None,
            Reply::Silence => (0, Vec::new(), String::new(), false),
        };
        if status == 0 {
            std::future::pending::<()>().await;
        }
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        if close {
            return None;
        }
    }
}

async fn question(stream: &mut (impl AsyncBufRead + Unpin), connection: usize) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let pair = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: BTreeMap<_, _> = lines.iter().skip(1).filter_map(pair).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let line = lines.first()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, headers, body: serde_json::from_slice(&body).unwrap_or_default(), connection })
}

fn answer(asked: &Asked, state: &mut State, root: &str) -> Reply {
    state.asked.push(asked.clone());
    if let Some(replies) = state.replies.get_mut(&asked.line) {
        let last = replies.front().cloned();
        return if replies.len() > 1 { replies.pop_front() } else { last }.unwrap_or(Reply::HangUp);
    }
    match asked.line.as_str() {
        "POST /identity/v3/auth/tokens" => {
            state.tokens += 1;
            let name = format!("{TOKEN}-{}", state.tokens);
            let body = token(root, "2026-11-26T03:00:00.000000Z", "2026-11-26T04:00:00.000000Z");
            reply_with(201, ("x-subject-token", &name), body)
        }
        "GET /compute/v2.1/" => {
            let version = json!({"id": "v2.1", "status": "CURRENT", "version": "2.95", "min_version": "2.1"});
            reply(200, json!({"version": version}))
        }
        _ => reply(404, json!({"itemNotFound": {"code": 404, "message": "The resource could not be found."}})),
    }
}
