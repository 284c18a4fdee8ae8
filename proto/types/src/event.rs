// SPDX-License-Identifier: Apache-2.0
//! What happened, for whoever watches: command line, journal, metrics, people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{JobId, NodeName, RunId};
use crate::time::UnixMillis;

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Normal course.
    Info,
    /// Somebody should look when convenient.
    Warning,
    /// Somebody should look now.
    Alarm,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Alarm => "alarm",
        })
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $severity:ident;)*) => {
        /// What kind of thing happened. The text is stable: it is a filter and a metric label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
            /// Written by a newer version.
            #[serde(other)]
            Unknown,
        }

        impl EventKind {
            /// Its text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* Self::Unknown => "unknown" }
            }

            /// How serious it is.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* Self::Unknown => Severity::Warning }
            }
        }
    };
}

kinds! {
    /// The controller began to serve.
    ControllerStarted = "controller.started", Info;
    /// The controller was asked to end.
    ControllerStopping = "controller.stopping", Info;
    /// A restored controller's new epoch was confirmed.
    EpochConfirmed = "controller.epoch-confirmed", Warning;
    /// A stage of a CA rotation was taken.
    CaRotated = "ca.rotated", Warning;
    /// A backup was taken.
    BackupTaken = "backup.taken", Info;
    /// A join token was made.
    TokenCreated = "token.created", Info;
    /// A join token was made useless.
    TokenDeleted = "token.deleted", Info;
    /// A machine joined and became a node.
    NodeJoined = "node.joined", Info;
    /// Somebody tried to join with a token they should not have.
    JoinRefused = "join.refused", Warning;
    /// A used token was presented with another key: one of the two is a thief.
    TokenReused = "token.reused", Alarm;
    /// An agent opened its session.
    NodeConnected = "node.connected", Info;
    /// An agent's session ended.
    NodeDisconnected = "node.disconnected", Warning;
    /// Two live sessions claim to be one node.
    NodeContested = "node.contested", Alarm;
    /// A node became healthy.
    NodeHealthy = "node.healthy", Info;
    /// A node stopped being healthy.
    NodeUnhealthy = "node.unhealthy", Warning;
    /// A node needs a reboot.
    RebootNeeded = "node.reboot-needed", Warning;
    /// A node needs no reboot any more.
    RebootNotNeeded = "node.reboot-not-needed", Info;
    /// A node was rebooted: its boot id changed.
    NodeRebooted = "node.rebooted", Info;
    /// A node's clock is off.
    ClockSkewed = "node.clock-skewed", Warning;
    /// A node's clock is right again.
    ClockRight = "node.clock-right", Info;
    /// A node's certificate was renewed.
    CertificateRenewed = "node.certificate-renewed", Info;
    /// A node's labels changed.
    NodeLabelled = "node.labelled", Info;
    /// A node's certificates were revoked.
    NodeRevoked = "node.revoked", Warning;
    /// A node was forgotten.
    NodeRemoved = "node.removed", Warning;
    /// Something that machines of a cluster share is there.
    CloudPrepared = "cloud.prepared", Info;
    /// Something that machines of a cluster shared was removed.
    CloudCleared = "cloud.cleared", Warning;
    /// An agent has obeyed a newer controller than this one.
    EpochBehind = "controller.epoch-behind", Alarm;
    /// An operator certificate was made.
    OperatorCreated = "operator.created", Info;
    /// An operator's role changed.
    OperatorChanged = "operator.changed", Info;
    /// An operator's certificate was renewed.
    OperatorRenewed = "operator.certificate-renewed", Info;
    /// An operator is trusted no longer.
    OperatorRemoved = "operator.removed", Info;
    /// A job began.
    JobStarted = "job.started", Info;
    /// A job failed on one node.
    JobNodeFailed = "job.node-failed", Warning;
    /// Somebody asked a job to stop.
    JobStopRequested = "job.stop-requested", Info;
    /// A job ended.
    JobEnded = "job.ended", Info;
    /// A run began.
    RunStarted = "run.started", Info;
    /// A run that a former process left under way goes on.
    RunResumed = "run.resumed", Info;
    /// Somebody asked a run to stop.
    RunStopRequested = "run.stop-requested", Info;
    /// A run ended.
    RunEnded = "run.ended", Info;
    /// A step of a run began.
    StepStarted = "step.started", Info;
    /// A step of a run ended well.
    StepDone = "step.done", Info;
    /// A step of a run failed.
    StepFailed = "step.failed", Warning;
    /// A run was told to begin nothing further for a while, or told itself so after a failure; or it cannot be understood, and
    /// does not go on.
    RunPaused = "run.paused", Warning;
    /// A paused run goes on.
    RunContinued = "run.continued", Info;
    /// What failed in a run is tried again.
    RunRetried = "run.retried", Info;
    /// A node that could not be asked when a run was planned is planned for.
    RunExtended = "run.extended", Info;
    /// A node that could not be asked when a run was planned is left out of it.
    RunLeftOut = "run.left-out", Warning;
    /// A step of a run cannot begin yet.
    StepHeld = "step.held", Info;
    /// A step of a run is tried again.
    StepRetried = "step.retried", Warning;
    /// A run was given the right to take a node down.
    LeaseGranted = "lease.granted", Info;
    /// A run gave that right back.
    LeaseReleased = "lease.released", Info;
    /// An operator took a node from a run.
    LeaseBroken = "lease.broken", Warning;
    /// Nothing that takes this node down is begun any more.
    NodeQuarantined = "node.quarantined", Warning;
    /// The quarantine of a node ended.
    NodeReleased = "node.released", Info;
    /// A machine reached a stage on its way to a healthy node.
    MachineStage = "machine.stage", Info;
    /// A server that was there already became a machine.
    MachineAdopted = "machine.adopted", Info;
    /// A machine has trouble on its way and tries again.
    MachineTrouble = "machine.trouble", Warning;
    /// A machine was deleted.
    MachineDeleted = "machine.deleted", Warning;
    /// A machine is off and nobody here switched it off.
    MachineStopped = "machine.stopped", Warning;
    /// A machine restarted itself.
    MachineRestarted = "machine.restarted", Info;
    /// The kernel in a machine panicked.
    MachinePanicked = "machine.panicked", Warning;
    /// A machine's disk cannot be read or written on its host.
    MachineDiskFailed = "machine.disk-failed", Warning;
    /// A machine stands still.
    MachinePaused = "machine.paused", Warning;
    /// A machine that stood still goes on.
    MachineResumed = "machine.resumed", Info;
    /// Somebody switched a machine on or off, or reset it.
    MachinePower = "machine.power", Warning;
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with every event.
    pub cursor: u64,
    /// When, by the controller's clock.
    pub at: UnixMillis,
    /// What kind.
    pub kind: EventKind,
    /// The node it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The job it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The run it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// What happened, in a sentence.
    pub message: String,
}
