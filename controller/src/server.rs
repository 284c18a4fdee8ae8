// SPDX-License-Identifier: Apache-2.0
//! The daemon: builds every part in order, opens the listeners, says it is ready, waits to be told to end, and drains.
//!
//! [`Controller::open`] makes a controller out of a store, an audit log and a clock, and [`Controller::routes`] its
//! services; a simulation uses those two alone. [`serve`] adds the real machine around them.

pub mod backup;
mod checks;
mod daemon;
mod heap;
mod housekeeping;
mod listeners;
mod machines;
pub mod rotate;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use windlass_proto::v1::admin_service_server::AdminServiceServer;
use windlass_proto::v1::event_service_server::EventServiceServer;
use windlass_proto::v1::job_service_server::JobServiceServer;
use windlass_proto::v1::join_service_server::JoinServiceServer;
use windlass_proto::v1::machine_service_server::MachineServiceServer;
use windlass_proto::v1::node_service_server::NodeServiceServer;
use windlass_proto::v1::plan_service_server::PlanServiceServer;
use windlass_proto::v1::run_service_server::RunServiceServer;
use windlass_proto::v1::session_service_server::SessionServiceServer;
use windlass_proto::v1::token_service_server::TokenServiceServer;
use windlass_proto::v1::transfer_service_server::TransferServiceServer;
use windlass_types::time::UnixMillis;

pub use daemon::{ServeError, serve};
pub use listeners::ListenError;

use crate::arbiter::Arbiter;
use crate::audit::AuditLog;
use crate::change::Changes;
use crate::clock::Clock;
use crate::config::Settings;
use crate::deadline::Deadline;
use crate::events::EventLog;
use crate::execute::Runs;
use crate::files::Files;
use crate::fleet::Fleet;
use crate::fleet::session::{SessionApi, Shared};
use crate::gate::Gate;
use crate::jobs::Jobs;
use crate::jobs::output::Outputs;
use crate::jobs::record::Records;
use crate::join::{Enrolment, JoinApi};
use crate::listener::Incoming;
use crate::listener::tls::ServerConfigs;
use crate::observe::{Observer, Providers};
use crate::operator::admin::AdminApi;
use crate::operator::events::EventApi;
use crate::operator::jobs::JobApi;
use crate::operator::machines::MachineApi;
use crate::operator::nodes::NodeApi;
use crate::operator::plans::PlanApi;
use crate::operator::runs::RunApi;
use crate::operator::tokens::TokenApi;
use crate::orders::Epoch;
use crate::pki::{Authority, OrderKey};
use crate::provider::Provider;
use crate::room::{Ballast, Room};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::survey::Surveyor;
use crate::tokens::Tokens;
use crate::transfer::TransferApi;
use crate::trust::Trust;

/// Requests of one connection answered at once; further ones are refused, not queued.
const CONCURRENT_REQUESTS: usize = 32;

/// Streams of one connection: somewhat more than requests, so that the refusal can be said.
const CONCURRENT_STREAMS: u32 = 64;

/// What a connection may have under way. HTTP/2 ends a connection on which small frames gather that nobody has read yet:
/// each costs up to 256 bytes of a budget that is half of this. So 40,000 heartbeats may lie here while the controller is
/// held up; with the usual 1 MiB it would be 2,100. One stream still has no more than its own 1 MiB.
const CONNECTION_WINDOW_BYTES: u32 = 20 * 1024 * 1024;

/// The largest message: bulk data comes in pieces of 64 KiB.
const LARGEST_MESSAGE: usize = 1 << 20;

/// A spec and the plan that was made from it, which comes back to be carried out: as large as an answer may be. Every node
/// and package of it takes some 100 bytes, so a thousand nodes with a hundred new packages each have 10 MiB. Only operators
/// send one: the gate has refused all others before anything of it is read.
pub(crate) const LARGEST_PLAN: usize = 64 << 20;

/// A silent peer is asked after this, and is gone after that.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// What a controller is made of.
#[derive(Debug)]
pub struct Parts {
    /// The state.
    pub store: Arc<dyn Store>,
    /// The database, where there is one to copy.
    pub database: Option<Arc<SqliteStore>>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The configuration.
    pub settings: Settings,
    /// Where agents connect, `HOST:PORT`.
    pub agent_endpoint: String,
    /// Where machines join, `HOST:PORT`.
    pub join_endpoint: String,
    /// Where machines come from.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Cancelled when the controller shall end.
    pub stop: CancellationToken,
    /// What is given up to revoke on a full disk, where there is a disk.
    pub ballast: Option<Arc<Ballast>>,
}

/// A controller.
#[derive(Debug)]
pub struct Controller {
    /// The configuration.
    pub settings: Settings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The events.
    pub events: Arc<EventLog>,
    /// How changes are made.
    pub changes: Changes,
    /// Who is trusted.
    pub trust: Arc<Trust>,
    /// Join tokens.
    pub tokens: Arc<Tokens>,
    /// The nodes.
    pub fleet: Arc<Fleet>,
    /// The jobs.
    pub jobs: Arc<Jobs>,
    /// The runs.
    pub runs: Arc<Runs>,
    /// Files on their way.
    pub files: Files,
    /// What is left of the disk.
    pub room: Room,
    /// Epoch and order sequence.
    pub epoch: Arc<Epoch>,
    /// Enrolment.
    pub enrolment: Arc<Enrolment>,
    /// Where agents connect.
    pub agent_endpoint: String,
    /// Where machines join.
    pub join_endpoint: String,
    /// When this process started.
    pub started_at: UnixMillis,
    /// Cancelled when the controller shall end.
    pub stop: CancellationToken,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) database: Option<Arc<SqliteStore>>,
    pub(crate) tls: OnceLock<ServerConfigs>,
}

impl Controller {
    /// Reads the state and connects the parts.
    ///
    /// # Errors
    /// If the state cannot be read, or the authority not be opened.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, ServeError> {
        let Parts { store, database, audit, clock, settings, agent_endpoint, join_endpoint, providers, stop, ballast } =
            parts;
        let started_at = clock.now();
        let authority = Authority::open(&settings.state_dir, started_at)?;
        let order_key = OrderKey::open(&settings.state_dir)?;
        let events = EventLog::open(Arc::clone(&store), Arc::clone(&clock)).await?;
        let epoch = Epoch::open(Arc::clone(&store)).await?;
        let providers = Providers::new(providers, authority.cluster());
        let trust = Trust::open(Arc::clone(&store), Arc::clone(&clock), authority).await?;
        let fleet =
            Fleet::open(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&events), settings.clock_skew_limit).await?;
        let in_state_dir = ServeError::state;
        let room = Room::new(&settings.state_dir, settings.limits.disk_reserve_bytes);
        let room = room.map_err(in_state_dir(&settings.state_dir))?;
        let files = Files::open(&settings.state_dir, room.clone(), Arc::clone(&clock));
        let files = files.map_err(in_state_dir(&settings.state_dir))?;
        let outputs = Outputs::new(&settings.state_dir, room.clone());
        let arbiter = Arbiter::open(Arc::clone(&store), Arc::clone(&events), Arc::clone(&clock)).await?;
        let jobs = Jobs::open(crate::jobs::Foundations {
            records: Records::new(Arc::clone(&store), outputs.clone()),
            outputs,
            fleet: Arc::clone(&fleet),
            arbiter: Arc::clone(&arbiter),
            events: Arc::clone(&events),
            clock: Arc::clone(&clock),
            epoch: Arc::clone(&epoch),
            order_key: Arc::clone(&order_key),
            output_limit_bytes: settings.output_limit_bytes,
        })
        .await?;
        let changes = Changes::new(audit, ballast);
        let tokens = Arc::new(Tokens::new(Arc::clone(&store), Arc::clone(&clock)));
        let with = crate::execute::Foundations {
            surveyor: Surveyor::new(Arc::clone(&jobs), Arc::clone(&fleet)),
            arbiter,
            observer: Observer {
                store: Arc::clone(&store),
                fleet: Arc::clone(&fleet),
                tokens: Arc::clone(&tokens),
                providers,
            },
            records: crate::execute::record::Records::new(Arc::clone(&store)),
            times: crate::execute::times::TimesStore::new(Arc::clone(&store)),
            step_times: crate::execute::step_times::StepTimes::new(Arc::clone(&store)),
            fleet: Arc::clone(&fleet),
            tokens: Arc::clone(&tokens),
            trust: Arc::clone(&trust),
            jobs: Arc::clone(&jobs),
            events: Arc::clone(&events),
            clock: Arc::clone(&clock),
            join_endpoint: join_endpoint.clone(),
            agent_endpoint: agent_endpoint.clone(),
        };
        let runs = Runs::open(with, epoch.is_read_only()).await?;
        let enrolment = Arc::new(Enrolment {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            trust: Arc::clone(&trust),
            order_key,
            tokens: Arc::clone(&tokens),
            fleet: Arc::clone(&fleet),
            runs: Arc::clone(&runs),
            events: Arc::clone(&events),
            changes: changes.clone(),
            certificate_life: settings.agent_certificate,
            agent_endpoint: agent_endpoint.clone(),
        });
        Ok(Arc::new(Self {
            settings,
            clock,
            events,
            changes,
            trust,
            tokens,
            fleet,
            jobs,
            runs,
            files,
            room,
            epoch,
            enrolment,
            agent_endpoint,
            join_endpoint,
            started_at,
            stop,
            store,
            database,
            tls: OnceLock::new(),
        }))
    }

    /// Everything agents and operators may call; the gate decides who may call what.
    #[must_use]
    pub fn routes(self: &Arc<Self>) -> Routes {
        let sessions = SessionApi::new(Shared {
            fleet: Arc::clone(&self.fleet),
            jobs: Arc::clone(&self.jobs),
            trust: Arc::clone(&self.trust),
            enrolment: Arc::clone(&self.enrolment),
            events: Arc::clone(&self.events),
            clock: Arc::clone(&self.clock),
            epoch: Arc::clone(&self.epoch),
            heartbeat: self.settings.heartbeat,
            stop: self.stop.clone(),
        });
        let transfers = TransferApi::new(Arc::clone(&self.jobs), self.files.clone(), self.stop.clone());
        Routes::new(SessionServiceServer::new(sessions).max_decoding_message_size(LARGEST_MESSAGE))
            .add_service(TransferServiceServer::new(transfers).max_decoding_message_size(LARGEST_MESSAGE))
            .add_service(NodeServiceServer::new(NodeApi(Arc::clone(self))).max_decoding_message_size(LARGEST_MESSAGE))
            .add_service(TokenServiceServer::new(TokenApi(Arc::clone(self))).max_decoding_message_size(LARGEST_MESSAGE))
            .add_service(JobServiceServer::new(JobApi(Arc::clone(self))).max_decoding_message_size(LARGEST_MESSAGE))
            .add_service(
                MachineServiceServer::new(MachineApi(Arc::clone(self))).max_decoding_message_size(LARGEST_MESSAGE),
            )
            .add_service(PlanServiceServer::new(PlanApi(Arc::clone(self))).max_decoding_message_size(LARGEST_PLAN))
            .add_service(RunServiceServer::new(RunApi(Arc::clone(self))).max_decoding_message_size(LARGEST_MESSAGE))
            .add_service(EventServiceServer::new(EventApi(Arc::clone(self))).max_decoding_message_size(LARGEST_MESSAGE))
            .add_service(AdminServiceServer::new(AdminApi(Arc::clone(self))).max_decoding_message_size(LARGEST_MESSAGE))
    }

    /// What machines without a certificate may call.
    #[must_use]
    pub fn join_routes(self: &Arc<Self>) -> Routes {
        let join = JoinApi::new(Arc::clone(&self.enrolment));
        Routes::new(JoinServiceServer::new(join).max_decoding_message_size(LARGEST_MESSAGE))
    }

    /// Serves routes behind the gate until the controller ends.
    ///
    /// # Errors
    /// If the transport fails.
    pub async fn serve(self: Arc<Self>, incoming: Incoming, routes: Routes) -> Result<(), tonic::transport::Error> {
        let gate = Gate::new(Arc::clone(&self.trust), self.settings.socket_access.clone(), self.epoch.read_only_flag());
        tonic::transport::Server::builder()
            .max_concurrent_streams(CONCURRENT_STREAMS)
            .concurrency_limit_per_connection(CONCURRENT_REQUESTS)
            .load_shed(true)
            .initial_connection_window_size(Some(CONNECTION_WINDOW_BYTES))
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .layer(Deadline)
            .layer(gate)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, self.stop.clone().cancelled_owned())
            .await
    }

    /// Size of the state database, bytes.
    #[must_use]
    pub fn state_size_bytes(&self) -> u64 {
        self.database.as_ref().map_or(0, |database| database.size_bytes())
    }
}

#[cfg(test)]
mod tests;
