// SPDX-License-Identifier: Apache-2.0
//! What every verb needs: the terminal, the controller that is meant, the time.

use tokio::sync::OnceCell;
use windlass_proto::v1::admin_service_client::AdminServiceClient;
use windlass_proto::v1::event_service_client::EventServiceClient;
use windlass_proto::v1::job_service_client::JobServiceClient;
use windlass_proto::v1::machine_service_client::MachineServiceClient;
use windlass_proto::v1::node_service_client::NodeServiceClient;
use windlass_proto::v1::plan_service_client::PlanServiceClient;
use windlass_proto::v1::run_service_client::RunServiceClient;
use windlass_proto::v1::token_service_client::TokenServiceClient;
use windlass_types::time::UnixMillis;

use super::connection::{self, ConnectionArgs, Typed};
use super::failure::Failure;
use super::terminal::Terminal;
use super::upkeep;
use crate::client::{Calls, Target};
use crate::clock::{Clock as _, SystemClock};

/// Largest answer, bytes: a page of a thousand nodes with many disks each is a few MiB, a plan of packages for them has 10;
/// tonic's own limit is 4.
const LARGEST_ANSWER_BYTES: usize = crate::server::LARGEST_PLAN;

/// What every verb needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// The standard streams.
    pub(crate) terminal: Terminal,
    connection: ConnectionArgs,
    typed: Typed,
    channel: OnceCell<Calls>,
}

impl Context {
    /// Nothing is connected yet.
    pub(crate) const fn new(terminal: Terminal, connection: ConnectionArgs, typed: Typed) -> Self {
        Self { terminal, connection, typed, channel: OnceCell::const_new() }
    }

    /// Now, by this machine's clock.
    pub(crate) fn now(&self) -> UnixMillis {
        SystemClock.now()
    }

    /// The controller that is meant.
    ///
    /// # Errors
    /// If the profile cannot be used.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        self.connection.target(self.typed)
    }

    /// The socket that was named, by flag or environment.
    pub(crate) fn socket(&self) -> Option<std::path::PathBuf> {
        self.connection.socket.clone()
    }

    /// The connection of this command, made when it is first needed.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn channel(&self) -> Result<Calls, Failure> {
        self.channel.get_or_try_init(|| self.connect()).await.cloned()
    }

    /// A new connection, for going on after a loss.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn connect(&self) -> Result<Calls, Failure> {
        let target = self.target()?;
        if let Target::Remote { profile, path } = &target {
            upkeep::require_current(profile, path, self.now())?;
        }
        let connected = connection::connect(&target).await?;
        if let Target::Remote { profile, path } = &target
            && !upkeep::keep(&self.terminal, profile, path, &connected, self.now()).await
        {
            return Ok(connection::connect(&target).await?.channel);
        }
        Ok(connected.channel)
    }

    /// The nodes.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn nodes(&self) -> Result<NodeServiceClient<Calls>, Failure> {
        Ok(NodeServiceClient::new(self.channel().await?).max_decoding_message_size(LARGEST_ANSWER_BYTES))
    }

    /// The tokens.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn tokens(&self) -> Result<TokenServiceClient<Calls>, Failure> {
        Ok(TokenServiceClient::new(self.channel().await?).max_decoding_message_size(LARGEST_ANSWER_BYTES))
    }

    /// The machines.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn machines(&self) -> Result<MachineServiceClient<Calls>, Failure> {
        Ok(MachineServiceClient::new(self.channel().await?).max_decoding_message_size(LARGEST_ANSWER_BYTES))
    }

    /// The jobs.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn jobs(&self) -> Result<JobServiceClient<Calls>, Failure> {
        Ok(job_client(self.channel().await?))
    }

    /// The plans.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn plans(&self) -> Result<PlanServiceClient<Calls>, Failure> {
        Ok(PlanServiceClient::new(self.channel().await?).max_decoding_message_size(LARGEST_ANSWER_BYTES))
    }

    /// The runs.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn runs(&self) -> Result<RunServiceClient<Calls>, Failure> {
        Ok(run_client(self.channel().await?))
    }

    /// The events.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn events(&self) -> Result<EventServiceClient<Calls>, Failure> {
        Ok(event_client(self.channel().await?))
    }

    /// The controller itself.
    ///
    /// # Errors
    /// If the controller cannot be reached.
    pub(crate) async fn admin(&self) -> Result<AdminServiceClient<Calls>, Failure> {
        Ok(AdminServiceClient::new(self.channel().await?).max_decoding_message_size(LARGEST_ANSWER_BYTES))
    }
}

/// The jobs over a connection of one's own.
pub(crate) fn job_client(channel: Calls) -> JobServiceClient<Calls> {
    JobServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER_BYTES)
}

/// The runs over a connection of one's own.
pub(crate) fn run_client(channel: Calls) -> RunServiceClient<Calls> {
    RunServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER_BYTES)
}

/// The events over a connection of one's own.
pub(crate) fn event_client(channel: Calls) -> EventServiceClient<Calls> {
    EventServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER_BYTES)
}
