// SPDX-License-Identifier: Apache-2.0
//! The sockets the daemon listens on: handed over by systemd by name, or bound here.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Settings;

/// The socket is open to every local user; the gate asks the kernel who calls and refuses those without a role.
const SOCKET_MODE: u32 = 0o666;

/// The open listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    /// Agents and remote operators.
    pub(super) agents: TcpListener,
    /// Machines that join.
    pub(super) join: TcpListener,
    /// livez, readyz, metrics.
    pub(super) http: TcpListener,
    /// Local operators.
    pub(super) socket: UnixListener,
    /// The socket was made here, and not handed over.
    pub(super) owns_socket: bool,
}

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A TCP address.
    #[error("listen on {address} for {purpose}")]
    Tcp {
        /// Which.
        address: SocketAddr,
        /// Who would connect.
        purpose: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The unix socket.
    #[error("listen on the socket {path}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another controller listens there.
    #[error("listen on the socket {0}: another controller answers there")]
    Taken(PathBuf),
    /// What systemd handed over is not what was expected.
    #[error("use the sockets handed over by systemd")]
    Activation(#[source] std::io::Error),
}

impl ListenError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Tcp { source, .. } | Self::Socket { source, .. } => match source.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program, perhaps another controller, uses it: `ss -ltnp` names it; end it or configure another"
                }
                std::io::ErrorKind::PermissionDenied => "run it as a user who may, or configure another",
                _ => "check the address in the configuration",
            },
            Self::Taken(_) => "end the other controller first, or give this one its own --socket and --state-dir",
            Self::Activation(_) => "compare the socket unit with the one in the package",
        }
    }
}

impl Listeners {
    /// Takes what systemd handed over and binds the rest.
    ///
    /// # Errors
    /// If one of them cannot be opened.
    pub(super) async fn open(settings: &Settings) -> Result<Self, ListenError> {
        let mut handed = Handed::take().map_err(ListenError::Activation)?;
        let local = handed.unix("socket").map_err(ListenError::Activation)?;
        Ok(Self {
            owns_socket: local.is_none(),
            agents: tcp(&mut handed, "listen", settings.listen, "agents").await?,
            join: tcp(&mut handed, "join", settings.join_listen, "joining machines").await?,
            http: tcp(&mut handed, "http", settings.http_listen, "health checks").await?,
            socket: match local {
                Some(listener) => listener,
                None => bind_socket(&settings.socket)?,
            },
        })
    }
}

async fn tcp(
    handed: &mut Handed,
    name: &str,
    address: SocketAddr,
    purpose: &'static str,
) -> Result<TcpListener, ListenError> {
    if let Some(listener) = handed.tcp(name).map_err(ListenError::Activation)? {
        return Ok(listener);
    }
    TcpListener::bind(address).await.map_err(|source| ListenError::Tcp { address, purpose, source })
}

/// A socket file that nobody answers on is left over from a controller that was killed.
pub(super) fn bind_socket(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Socket { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if is_answered(path) {
                return Err(ListenError::Taken(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        Ok(_) => return Err(failed(std::io::Error::from(std::io::ErrorKind::AlreadyExists))),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    Ok(listener)
}

fn is_answered(path: &Path) -> bool {
    let try_it = || {
        let probe = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        connect(std::os::fd::AsRawFd::as_raw_fd(&probe), &UnixAddr::new(path)?)
    };
    try_it().is_ok()
}

/// Descriptors from systemd, by the name in `FileDescriptorName=`.
struct Handed {
    descriptors: ListenFd,
    names: Vec<String>,
}

impl Handed {
    fn take() -> std::io::Result<Self> {
        let names = sd_notify::listen_fds_with_names()?.map(|(_, name)| name).collect();
        Ok(Self { descriptors: ListenFd::from_env(), names })
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    fn tcp(&mut self, name: &str) -> std::io::Result<Option<TcpListener>> {
        let Some(index) = self.index(name) else { return Ok(None) };
        let listener = self.descriptors.take_tcp_listener(index)?;
        listener
            .map(|listener| listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)))
            .transpose()
    }

    fn unix(&mut self, name: &str) -> std::io::Result<Option<UnixListener>> {
        let Some(index) = self.index(name) else { return Ok(None) };
        let listener = self.descriptors.take_unix_listener(index)?;
        listener
            .map(|listener| listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)))
            .transpose()
    }
}
