// SPDX-License-Identifier: Apache-2.0
//! A controller inside the test, with a provider of the test's own: everything else about it is real, and the programs
//! `windlass` and `windlass-agent` talk to it as to any other. It can be killed: its tasks end where they are, and only
//! its disk is left.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use windlass_controller::audit::{AuditLog, MemorySink};
use windlass_controller::client::{Calls, Target, connect};
use windlass_controller::clock::SystemClock;
use windlass_controller::config::Settings;
use windlass_controller::listener::tls::ServerConfigs;
use windlass_controller::listener::{Authentication, Gatekeeper, accept_local};
use windlass_controller::provider::Provider;
use windlass_controller::provider::existing::ExistingProvider;
use windlass_controller::server::{Controller, Parts};
use windlass_controller::store::Store;
use windlass_controller::store::memory::MemoryStore;

use crate::dying_store::DyingStore;
use crate::fake_provider::{FakeProvider, Shared};
use crate::process::{Answer, command, program, run};
use crate::wait::{LONG, wait_for};

/// A spec with so many nodes on the test's provider.
pub const SPEC_HEAD: &str = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: k8s1}\nspec:\n  provider: {qemu: \
                             {image: /images/guest.qcow2}}\n  packages: {repositories: [{name: w, url: \
                             http://10.0.2.2/, gpgKey: key.asc}]}\n  volumes: {docker: {size: 1GiB}}\n  nodes:\n";

/// A controller inside the test.
#[derive(Debug)]
pub struct Bastion {
    directory: TempDir,
    disk: Arc<MemoryStore>,
    store: Arc<DyingStore>,
    /// Its machines.
    pub provider: Arc<FakeProvider>,
    runtime: Option<Runtime>,
    agents_at: SocketAddr,
    join_at: SocketAddr,
}

impl Bastion {
    /// Starts one.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start() -> Self {
        let directory = memory().or_else(|_| tempfile::tempdir()).expect("a directory");
        std::fs::write(directory.path().join("key.asc"), KEY).expect("written");
        std::fs::create_dir(directory.path().join("guests")).expect("a directory");
        let provider = FakeProvider::new(directory.path().join("guests"));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let disk = MemoryStore::new();
        let store = DyingStore::new(Arc::clone(&disk));
        let mut bastion = Self { directory, disk, store, provider, runtime: None, agents_at: any, join_at: any };
        bastion.restart().await;
        bastion
    }

    /// Kills the controller: nothing of it goes on, and nothing is put in order.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill9(&mut self) {
        let runtime = self.runtime.take().expect("it runs");
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(std::time::Duration::from_secs(5)))
            .await
            .expect("it ends");
    }

    /// Starts it where it was, with what its disk holds.
    ///
    /// # Panics
    /// If it runs, or does not come to serve.
    pub async fn restart(&mut self) {
        self.restart_on(|_| {}).await;
    }

    /// The same, with something done to its disk before it reads it.
    ///
    /// # Panics
    /// If it runs, or does not come to serve.
    pub async fn restart_on(&mut self, prepare: impl FnOnce(&DyingStore)) {
        assert!(self.runtime.is_none(), "it runs");
        let runtime = Runtime::new().expect("a runtime");
        let provider: Arc<dyn Provider> = Arc::new(Shared(Arc::clone(&self.provider)));
        let providers = vec![provider, Arc::new(ExistingProvider) as _];
        self.store = DyingStore::new(Arc::clone(&self.disk));
        prepare(&self.store);
        let live =
            live(Arc::clone(&self.store), self.directory.path().to_owned(), providers, self.agents_at, self.join_at);
        let served = runtime.spawn(live).await.expect("no panic");
        (self.agents_at, self.join_at) = served;
        self.runtime = Some(runtime);
    }

    /// Writes a spec with these nodes, each a line of YAML without its dash, and gives its path.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn spec(&self, nodes: &[&str]) -> String {
        let nodes: String = nodes.iter().map(|node| format!("    - {node}\n")).collect();
        self.write("cluster.yaml", &format!("{SPEC_HEAD}{nodes}"))
    }

    /// Writes a file and gives its path.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// A path in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `windlass` with these words, which have no spaces in them.
    pub async fn words(&self, words: &str) -> Answer {
        run(&mut self.command(words)).await
    }

    /// `windlass` with these words, to be run as the test likes.
    #[must_use]
    pub fn command(&self, words: &str) -> tokio::process::Command {
        let mut windlass = command(program("windlass"), self.directory.path());
        windlass.arg("--socket").arg(self.path("windlass.sock")).args(words.split_whitespace());
        windlass
    }

    /// A connection as an operator of this machine has it.
    ///
    /// # Panics
    /// If there is none.
    pub async fn channel(&self) -> Calls {
        connect(&Target::Socket(self.path("windlass.sock"))).await.expect("connected").channel
    }

    /// Where its agents connect, and where machines join.
    #[must_use]
    pub const fn listeners(&self) -> (SocketAddr, SocketAddr) {
        (self.agents_at, self.join_at)
    }

    /// Its disk, which may be the last thing it writes to.
    #[must_use]
    pub fn store(&self) -> Arc<DyingStore> {
        Arc::clone(&self.store)
    }

    /// Everything the store holds, as text: for searching secrets.
    #[must_use]
    pub fn disk(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.disk)
    }
}

impl Drop for Bastion {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // What the controller was doing may hold the provider until this process is gone, and nobody would end its agents.
        self.provider.clear();
    }
}

/// A directory that no disk has: what its models flush is on none anyway.
fn memory() -> std::io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm")
}

/// Any text in the form of a key: nothing here checks a signature.
const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n-----END PGP PUBLIC KEY BLOCK-----\n";

/// As the C library reads it this is the loopback address, and a literal address to nobody else: the controller refuses
/// to tell machines of their own a loopback address.
fn advertised(at: SocketAddr) -> String {
    format!("127.1:{}", at.port())
}

async fn live(
    disk: Arc<DyingStore>,
    directory: PathBuf,
    providers: Vec<Arc<dyn Provider>>,
    agents_at: SocketAddr,
    join_at: SocketAddr,
) -> (SocketAddr, SocketAddr) {
    let agents = bind(agents_at).await;
    let joining = bind(join_at).await;
    let at = |listener: &TcpListener| listener.local_addr().expect("an address");
    let (agents_at, join_at) = (at(&agents), at(&joining));
    let stop = CancellationToken::new();
    let clock = Arc::new(SystemClock);
    let controller = Controller::open(Parts {
        store: disk as Arc<dyn Store>,
        database: None,
        audit: AuditLog::in_memory(MemorySink::default(), clock.clone()),
        clock: clock.clone(),
        settings: Settings::for_tests(&directory),
        agent_endpoint: advertised(agents_at),
        join_endpoint: advertised(join_at),
        providers,
        stop: stop.clone(),
        ballast: None,
    })
    .await
    .expect("the controller opens");
    let configs = ServerConfigs::new(controller.trust.authority(), clock).expect("a configuration");
    let gatekeeper = Gatekeeper::new(Arc::clone(&controller.trust), configs, controller.settings.limits.clone());
    let socket = local(&directory.join("windlass.sock"));
    let agents = gatekeeper.accept_tls(agents, Authentication::Certificate, stop.clone());
    let joining = gatekeeper.accept_tls(joining, Authentication::None, stop.clone());
    let operators = accept_local(socket, Arc::clone(&controller.trust), stop);
    tokio::spawn(Arc::clone(&controller).serve(agents, controller.routes()));
    tokio::spawn(Arc::clone(&controller).serve(joining, controller.join_routes()));
    tokio::spawn(Arc::clone(&controller).serve(operators, controller.routes()));
    controller.watch_machines();
    controller.jobs.resume().await;
    if !controller.epoch.is_read_only() {
        controller.runs.resume_all();
    }
    (agents_at, join_at)
}

/// Ports below those that connections are given: one that was just left is there for the next controller.
const PORTS: std::ops::Range<u16> = 11_000..32_000;

/// A port that was just left is free again at once.
async fn bind(at: SocketAddr) -> TcpListener {
    let listen = |port: u16| {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("allowed");
        socket.bind(SocketAddr::new(at.ip(), port)).and_then(|()| socket.listen(64))
    };
    if at.port() != 0 {
        // A process that is just being started holds it until it is another program.
        let (listener, _) = wait_for("the port to be free", LONG, async || listen(at.port()).ok()).await;
        return listener;
    }
    let first = fastrand::u16(..20_000);
    (PORTS.start + first..PORTS.end).find_map(|port| listen(port).ok()).expect("one is free")
}

fn local(path: &Path) -> UnixListener {
    if path.exists() {
        std::fs::remove_file(path).expect("removed");
    }
    UnixListener::bind(path).expect("free")
}
