// SPDX-License-Identifier: Apache-2.0
//! The simulated bastion with the real controller on it. The store is its disk and outlives every crash; the TLS, the
//! limits and the gate are the real ones, only the network below is simulated.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;
use windlass_controller::audit::{AuditLog, MemorySink};
use windlass_controller::config::Settings;
use windlass_controller::listener::tls::ServerConfigs;
use windlass_controller::listener::{Authentication, Connection, Gatekeeper, Incoming, Origin};
use windlass_controller::provider::existing::ExistingProvider;
use windlass_controller::server::{Controller, Parts};
use windlass_controller::store::Store;
use windlass_controller::store::memory::MemoryStore;
use windlass_types::event::EventKind;

use crate::clock::SimClock;
use crate::disk::SlowDisk;
use crate::replay::Replays;

/// The bastion's name in the network.
pub(crate) const BASTION: &str = "bastion";
/// Agents.
pub(crate) const AGENT_PORT: u16 = 7600;
/// Machines that join.
pub(crate) const JOIN_PORT: u16 = 7601;
/// Stands for the unix socket.
pub(crate) const LOCAL_PORT: u16 = 7602;

/// Connections wait here for the server.
const READY: usize = 64;

/// The bastion.
pub(crate) struct Bastion {
    directory: PathBuf,
    /// Its wall clock.
    pub(crate) clock: Arc<SimClock>,
    certificate_life: Option<Duration>,
    /// Makes its disk slow.
    slow_disk: Option<u64>,
    /// Orders that were sent, to be sent again.
    pub(crate) replays: Arc<Replays>,
    state: Mutex<State>,
}

struct State {
    disk: Arc<MemoryStore>,
    running: Option<Arc<Controller>>,
}

impl Bastion {
    pub(crate) fn new(directory: PathBuf, certificate_life: Option<Duration>, slow_disk: Option<u64>) -> Arc<Self> {
        let state = Mutex::new(State { disk: MemoryStore::new(), running: None });
        let (clock, replays) = Default::default();
        Arc::new(Self { directory, clock, certificate_life, slow_disk, replays, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The controller, while it runs.
    pub(crate) fn controller(&self) -> Option<Arc<Controller>> {
        self.state().running.clone()
    }

    /// What it keeps.
    pub(crate) fn disk(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.state().disk)
    }

    fn store(&self) -> Arc<dyn Store> {
        match self.slow_disk {
            Some(seed) => SlowDisk::new(self.disk(), seed),
            None => self.disk(),
        }
    }

    /// It was killed.
    pub(crate) fn died(&self) {
        self.state().running = None;
    }

    /// Puts another disk in; only while it does not run.
    pub(crate) fn insert(&self, disk: Arc<MemoryStore>) {
        self.state().disk = disk;
    }

    /// Runs the controller.
    pub(crate) async fn live(self: Arc<Self>) -> turmoil::Result {
        let mut settings = Settings::for_tests(&self.directory);
        settings.agent_certificate = self.certificate_life.unwrap_or(settings.agent_certificate);
        let controller = Controller::open(Parts {
            store: self.store(),
            database: None,
            audit: AuditLog::in_memory(MemorySink::default(), Arc::<SimClock>::clone(&self.clock)),
            clock: Arc::<SimClock>::clone(&self.clock),
            settings,
            agent_endpoint: format!("{BASTION}:{AGENT_PORT}"),
            join_endpoint: format!("{BASTION}:{JOIN_PORT}"),
            providers: vec![Arc::new(ExistingProvider)],
            stop: CancellationToken::new(),
            ballast: None,
        })
        .await?;
        let configs = ServerConfigs::new(controller.trust.authority(), Arc::<SimClock>::clone(&self.clock))?;
        let limits = controller.settings.limits.clone();
        let gatekeeper = Gatekeeper::new(Arc::clone(&controller.trust), configs, limits);
        let mut servers = JoinSet::new();
        let agents = tls(AGENT_PORT, &gatekeeper, Authentication::Certificate).await?;
        let joining = tls(JOIN_PORT, &gatekeeper, Authentication::None).await?;
        let local = local(&controller).await?;
        servers.spawn(Arc::clone(&controller).serve(agents, self.replays.around(controller.routes())));
        servers.spawn(Arc::clone(&controller).serve(joining, controller.join_routes()));
        servers.spawn(Arc::clone(&controller).serve(local, controller.routes()));
        controller.jobs.resume().await;
        if !controller.epoch.is_read_only() {
            controller.runs.resume_all();
        }
        controller.events.emit(EventKind::ControllerStarted, None, None, "controller started");
        self.state().running = Some(controller);
        while let Some(ended) = servers.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
}

async fn tls(port: u16, gatekeeper: &Arc<Gatekeeper>, authentication: Authentication) -> std::io::Result<Incoming> {
    let listener = listen(port).await?;
    let gatekeeper = Arc::clone(gatekeeper);
    Ok(incoming(listener, move |stream, address| {
        let gatekeeper = Arc::clone(&gatekeeper);
        async move { gatekeeper.admit(stream, address, authentication).await }
    }))
}

/// In the place of the unix socket: whoever connects is root.
async fn local(controller: &Arc<Controller>) -> std::io::Result<Incoming> {
    let listener = listen(LOCAL_PORT).await?;
    let trust = Arc::clone(&controller.trust);
    Ok(incoming(listener, move |stream, _| {
        let guard = trust.connections().register(None);
        let origin = Origin::Local { uid: 0, gid: 0, pid: None };
        std::future::ready(Some(Connection::new(Box::new(stream), origin, guard)))
    }))
}

fn incoming<F>(
    listener: TcpListener,
    admit: impl Fn(turmoil::net::TcpStream, SocketAddr) -> F + Send + 'static,
) -> Incoming
where
    F: Future<Output = Option<Connection>> + Send + 'static,
{
    let (ready, incoming) = mpsc::channel(READY);
    tokio::spawn(async move {
        while let Ok((stream, address)) = listener.accept().await {
            let (admitted, ready) = (admit(stream, address), ready.clone());
            tokio::spawn(async move {
                if let Some(connection) = admitted.await {
                    // The server has ended; so does the connection.
                    let _ended = ready.send(Ok(connection)).await;
                }
            });
        }
    });
    Incoming::new(incoming)
}
