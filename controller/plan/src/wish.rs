// SPDX-License-Identifier: Apache-2.0
//! What shall become of a node, beyond that it is there: from the spec, or from a command such as `update packages`.

use serde::{Deserialize, Serialize};
use windlass_types::action::Argv;
use windlass_types::package::PackagesWish;
use windlass_types::setting::Setting;
use windlass_types::survey::{KernelWish, SurveyRequest};

/// What shall become of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeWish {
    /// Small things, each of which shall be so; brought about in this order.
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// Its packages; `None` leaves them alone.
    #[serde(default)]
    pub packages: Option<PackagesWish>,
    /// Its kernel; `None` leaves it alone.
    #[serde(default)]
    pub kernel: Option<KernelWish>,
    /// When it reboots.
    #[serde(default)]
    pub reboot: RebootWish,
    /// What is run before it goes down and after it is back.
    #[serde(default)]
    pub hooks: Hooks,
}

impl NodeWish {
    /// What is asked of the node, so that it can be planned for. Whoever asks decides how young metadata has to be.
    #[must_use]
    pub fn request(&self) -> SurveyRequest {
        SurveyRequest {
            settings: self.settings.clone(),
            packages: self.packages.clone(),
            kernel: self.kernel.clone(),
            ..SurveyRequest::default()
        }
    }

    /// Whether nothing is wished for, so that the node need not be asked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.settings.is_empty()
            && self.packages.is_none()
            && self.kernel.is_none()
            && matches!(self.reboot, RebootWish::Never | RebootWish::AfterChanges)
    }
}

/// When a node reboots. A kernel that is due is always booted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebootWish {
    /// Only for a kernel.
    #[default]
    Never,
    /// When what runs is not what is installed.
    IfNeeded,
    /// Whenever its packages were changed.
    AfterChanges,
    /// In any case: somebody asked for a reboot.
    Always,
}

/// What is run around a disruption. Each must be idempotent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before the node, or what runs on it, goes down.
    #[serde(default)]
    pub before: Option<Hook>,
    /// After it is back.
    #[serde(default)]
    pub after: Option<Hook>,
}

/// A program of the site, run on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The program.
    pub argv: Argv,
    /// Milliseconds it may take.
    pub timeout_millis: u64,
}
