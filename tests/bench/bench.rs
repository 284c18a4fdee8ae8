// SPDX-License-Identifier: Apache-2.0
//! What every benchmark works with: programs, directories, and who is there to be measured.

use std::path::PathBuf;

use anyhow::Result;

use crate::account::{Accounts, Group};
use crate::ours::agents::Agents;
use crate::ours::{Controller, Programs};
use crate::report::Report;
use crate::rival::ansible::Ansible;
use crate::rival::pyinfra::Pyinfra;
use crate::rival::sshd::Sshd;

/// What was asked for, and where it is done.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Ours only.
    pub(crate) quick: bool,
    /// Runs of what is not slow.
    pub(crate) runs: usize,
    /// Nodes.
    pub(crate) nodes: usize,
    /// Salt's nodes.
    pub(crate) minions: usize,
    /// Where rivals are installed.
    pub(crate) cache: PathBuf,
    /// Where everything of this run is.
    pub(crate) work: PathBuf,
    /// Ours.
    pub(crate) programs: Programs,
    /// Who counts.
    pub(crate) accounts: Accounts,
}

/// Our controller and its agents.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The agents; first, so that they end first.
    pub(crate) agents: Agents,
    /// The controller.
    pub(crate) controller: Controller,
    /// Counts the controller and the command line.
    pub(crate) control: Group,
    /// Counts the agents.
    pub(crate) nodes: Group,
    /// Memory of the controller before it had a node, bytes.
    pub(crate) empty_controller_bytes: f64,
}

/// Everything that speaks ssh.
#[derive(Debug)]
pub(crate) struct SshRivals {
    /// Ansible and what it started.
    pub(crate) ansible: Option<(Ansible, Group)>,
    /// pyinfra and what it started.
    pub(crate) pyinfra: Option<(Pyinfra, Group)>,
    /// What plain ssh started.
    pub(crate) plain: Group,
    /// The nodes.
    pub(crate) sshd: Sshd,
    /// Counts the nodes.
    pub(crate) nodes: Group,
}

impl SshRivals {
    /// Starts and warms them. One that cannot be installed is left out, loudly.
    ///
    /// # Errors
    /// If there is no ssh server; then there is no rival at all.
    pub(crate) fn start(bench: &Bench, report: &mut Report) -> Result<Self> {
        let nodes = bench.accounts.group("ssh-nodes")?;
        let sshd = Sshd::start(&bench.work.join("ssh"), bench.nodes, &nodes)?;
        let plain = bench.accounts.group("ssh")?;
        let ansible = Ansible::install(&bench.cache, &bench.work, &sshd).and_then(|ansible| {
            let group = bench.accounts.group("ansible")?;
            let entered = group.enter()?;
            ansible.command_true()?;
            drop(entered);
            Ok((ansible, group))
        });
        let pyinfra = Pyinfra::install(&bench.cache, &bench.work, &sshd).and_then(|pyinfra| {
            pyinfra.run_true()?;
            Ok((pyinfra, bench.accounts.group("pyinfra")?))
        });
        Ok(Self {
            ansible: ansible.inspect_err(|error| report.not_measured("ansible", error)).ok(),
            pyinfra: pyinfra.inspect_err(|error| report.not_measured("pyinfra", error)).ok(),
            plain,
            sshd,
            nodes,
        })
    }
}
