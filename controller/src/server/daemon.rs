// SPDX-License-Identifier: Apache-2.0
//! The daemon around a controller: state, listeners, readiness, signals, drain.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;

use super::listeners::{self, ListenError, Listeners};
use super::{Controller, Parts};
use super::{heap, housekeeping};
use crate::audit::{AuditError, AuditLog};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::fleet::FleetError;
use crate::http;
use crate::listener::tls::{ServerConfigs, TlsError};
use crate::listener::{Authentication, Gatekeeper, accept_local};
use crate::pki::AuthorityError;
use crate::provider::Provider;
use crate::provider::existing::ExistingProvider;
use crate::provider::qemu::{QemuError, QemuProvider};
use crate::room::Ballast;
use crate::store::StoreError;
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::trust::TrustError;

/// How long open requests may take to end when the controller is told to.
const DRAIN: Duration = Duration::from_secs(10);

/// How often is looked whether the socket's file is still there: a person who lost it tries again within seconds.
const LOOK_FOR_SOCKET: Duration = Duration::from_secs(3);

/// Without a watchdog in the unit, the status line is still kept current this often.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// A controller that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state directory cannot be used.
    #[error("use the state directory {path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The state database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authority cannot be opened.
    #[error("open the certificate authority")]
    Authority(#[from] AuthorityError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Stored certificates cannot be read.
    #[error("read who is trusted")]
    Trust(#[from] TrustError),
    /// Stored nodes cannot be read.
    #[error("read the nodes")]
    Fleet(#[from] FleetError),
    /// Stored runs cannot be read.
    #[error("read the runs")]
    Runs(#[from] crate::execute::record::RecordError),
    /// Stored leases cannot be read.
    #[error("read who may take which node down")]
    Arbiter(#[from] crate::arbiter::ArbiterError),
    /// The directory of machines cannot be used.
    #[error("open the directory of machines")]
    Machines(#[from] QemuError),
    /// TLS cannot be configured.
    #[error("prepare the listeners")]
    Tls(#[from] TlsError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be received.
    #[error("receive signals")]
    Signal(#[source] std::io::Error),
}

impl ServeError {
    pub(super) fn state(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::State { path, source }
    }

    /// What to do about it; empty where the error says so itself.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Listen(error) => error.advice(),
            Self::State { .. } => "make it writable for this user, or give another --state-dir",
            Self::Store(_) | Self::Trust(_) | Self::Fleet(_) | Self::Runs(_) | Self::Arbiter(_) => {
                "restore a backup with `windlass restore`"
            }
            Self::Open(_)
            | Self::Machines(_)
            | Self::Authority(_)
            | Self::Audit(_)
            | Self::Tls(_)
            | Self::Signal(_) => "",
        }
    }
}

/// Runs the controller until it is told to end.
///
/// # Errors
/// If it cannot start.
pub async fn serve(settings: Settings) -> Result<(), ServeError> {
    raise_open_files();
    let stop = CancellationToken::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let _recorder = crate::metrics::recorder();
    let database = SqliteStore::open(&settings.state_dir)?;
    let audit = AuditLog::open(&settings.state_dir.join("audit"), Arc::clone(&clock))?;
    let listeners = Listeners::open(&settings).await?;
    let at = |listener: &tokio::net::TcpListener| listener.local_addr().map_err(ListenError::Activation);
    let (agents_at, join_at, http_at) = (at(&listeners.agents)?, at(&listeners.join)?, at(&listeners.http)?);
    let controller = Controller::open(Parts {
        store: Arc::clone(&database) as Arc<dyn crate::store::Store>,
        database: Some(database),
        audit,
        clock: Arc::clone(&clock),
        agent_endpoint: endpoint(&settings, agents_at),
        join_endpoint: endpoint(&settings, join_at),
        ballast: Some(Ballast::open(&settings.state_dir).map_err(ServeError::state(&settings.state_dir))?),
        providers: providers(&settings, &clock)?,
        settings,
        stop: stop.clone(),
    })
    .await?;
    let mut signals = Signals::new().map_err(ServeError::Signal)?;
    let servers = start(&controller, listeners)?;
    controller.watch_machines();
    controller.jobs.resume().await;
    if !controller.epoch.is_read_only() {
        controller.runs.resume_all();
    }
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(%version, agents = %agents_at, join = %join_at, http = %http_at,
        socket = %controller.settings.socket.display(), "serving");
    controller.events.emit(EventKind::ControllerStarted, None, None, format!("controller {version} started"));
    notify(&[NotifyState::Ready]);
    signals.wait_and_watch(&controller).await;
    drain(&controller, servers).await;
    Ok(())
}

/// Where machines come from, besides clouds.
fn providers(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Vec<Arc<dyn Provider>>, ServeError> {
    let qemu = QemuProvider::open(&settings.state_dir, Arc::clone(clock))?;
    Ok(vec![Arc::new(qemu), Arc::new(ExistingProvider)])
}

/// Every connection is a descriptor, and shells start programs with a soft limit for a handful of files.
fn raise_open_files() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files; it bounds how many agents can connect");
    }
}

/// Opens the doors.
fn start(controller: &Arc<Controller>, listeners: Listeners) -> Result<JoinSet<()>, ServeError> {
    let configs = ServerConfigs::new(controller.trust.authority(), Arc::clone(&controller.clock))?;
    let _first = controller.tls.set(configs.clone());
    let gatekeeper =
        Gatekeeper::new(Arc::clone(&controller.trust), configs.clone(), controller.settings.limits.clone());
    let stop = &controller.stop;
    let agents = gatekeeper.accept_tls(listeners.agents, Authentication::Certificate, stop.clone());
    let joining = gatekeeper.accept_tls(listeners.join, Authentication::None, stop.clone());
    let local = accept_local(listeners.socket, Arc::clone(&controller.trust), stop.clone());
    let (_, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(windlass_proto::DESCRIPTOR)
        .build_v1()
        .expect("the descriptor set was made by the build");
    let mut servers = JoinSet::new();
    servers.spawn(run(Arc::clone(controller), agents, controller.routes().add_service(health.clone())));
    servers.spawn(run(Arc::clone(controller), joining, controller.join_routes().add_service(health.clone())));
    let all_local = controller.routes().add_service(health).add_service(reflection);
    if listeners.owns_socket {
        servers.spawn(keep_socket(Arc::clone(controller), all_local.clone()));
    }
    servers.spawn(run(Arc::clone(controller), local, all_local));
    let http = http::serve(listeners.http, Arc::clone(controller), stop.clone());
    servers.spawn(async move {
        if let Err(error) = http.await {
            tracing::error!(%error, "the http listener failed");
        }
    });
    servers.spawn(housekeeping::run(Arc::clone(controller), configs));
    let (stop, keep_small) = (stop.clone(), heap::keep_small(gatekeeper.connection_ended()));
    servers.spawn(async move { stop.run_until_cancelled_owned(keep_small).await.unwrap_or(()) });
    Ok(servers)
}

/// A socket whose file is gone can be reached by nobody, though it is open: it is made again. Somebody else's file in its
/// place is left alone.
async fn keep_socket(controller: Arc<Controller>, routes: tonic::service::Routes) {
    let path = &controller.settings.socket;
    let mut servers = JoinSet::new();
    while controller.stop.run_until_cancelled(tokio::time::sleep(LOOK_FOR_SOCKET)).await.is_some() {
        if std::fs::symlink_metadata(path).is_ok() {
            continue;
        }
        match listeners::bind_socket(path) {
            Ok(listener) => {
                tracing::error!(socket = %path.display(), "the socket's file was removed; it is made again");
                let local = accept_local(listener, Arc::clone(&controller.trust), controller.stop.clone());
                servers.spawn(run(Arc::clone(&controller), local, routes.clone()));
            }
            Err(error) => tracing::error!(error = %ErrorChain(&error), "the socket's file was removed"),
        }
    }
    while servers.join_next().await.is_some() {}
}

async fn run(controller: Arc<Controller>, incoming: crate::listener::Incoming, routes: tonic::service::Routes) {
    if let Err(error) = controller.serve(incoming, routes).await {
        tracing::error!(error = %ErrorChain(&error), "a listener failed");
    }
}

/// Ends: no new connections, open requests may finish, then everything is closed and the last events are stored.
async fn drain(controller: &Arc<Controller>, mut servers: JoinSet<()>) {
    notify(&[NotifyState::Stopping]);
    controller.events.emit(EventKind::ControllerStopping, None, None, "controller stopping");
    controller.stop.cancel();
    let all = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all).await.is_err() {
        controller.trust.connections().close_all();
    }
    controller.events.close().await;
}

/// The signals that end the daemon.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a signal, and meanwhile tells systemd that the controller works: its database, not just its loop.
    async fn wait_and_watch(&mut self, controller: &Controller) {
        let every = sd_notify::watchdog_enabled().map_or(STATUS_EVERY, |limit| limit / 2);
        let mut tick = tokio::time::interval(every);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = tick.tick() => {
                    let nodes = controller.fleet.sessions();
                    let jobs = controller.jobs.under_way();
                    let status = format!("{nodes} agents connected, {jobs} jobs under way");
                    if controller.store.get("meta/epoch").await.is_ok() {
                        notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
                    }
                }
            }
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// How others reach a listener: by the first advertised name, else by its own address, else by this host's name.
fn endpoint(settings: &Settings, bound: SocketAddr) -> String {
    let host = match settings.advertise.first() {
        Some(name) => name.clone(),
        None if !bound.ip().is_unspecified() => match bound {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        },
        None => nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_else(|| "localhost".to_owned()),
    };
    format!("{host}:{}", bound.port())
}
