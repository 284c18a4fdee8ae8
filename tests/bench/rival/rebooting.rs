// SPDX-License-Identifier: Apache-2.0
//! Nodes that reboot, for what speaks ssh: each has a server of its own, which ends with all of its sessions when the node
//! is told to reboot, and is there again after the node's down time, with another boot id.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sshd::{Sshd, program};
use crate::account::Group;
use crate::process::{command, run};

/// Ends the server's sessions, then the server, and starts it again. It answers at once, as `shutdown -r` does, so that
/// whoever called is not cut off in the middle of the answer.
const REBOOT: &str = r#"#!/bin/sh
exec setsid sh -c '
cd "$1" || exit
exec </dev/null >/dev/null 2>&1
(
  sleep 0.1
  pid=$(cat sshd.pid)
  pkill -KILL -P "$pid"
  kill -KILL "$pid"
  rm -f sshd.pid
  sleep "$(cat down-time)"
  echo "$(($(cat boot-id) + 1))" > boot-id
  exec "$(cat program)" -f "$1/sshd_config"
) &' reboot "$1"
"#;

/// The nodes.
#[derive(Debug)]
pub(crate) struct Rebooting {
    /// How to reach them.
    pub(crate) sshd: Sshd,
    directory: PathBuf,
}

impl Rebooting {
    /// Starts as many as there are down times.
    ///
    /// # Errors
    /// If one does not start.
    pub(crate) fn start(directory: &Path, down_times: &[Duration], group: &Group) -> Result<Self> {
        let program = program()?;
        let nodes = Self { sshd: Sshd::prepare(directory, down_times.len())?, directory: directory.to_owned() };
        fs::write(nodes.script(), REBOOT)?;
        fs::set_permissions(nodes.script(), fs::Permissions::from_mode(0o755))?;
        for (host, down_time) in nodes.sshd.hosts.iter().zip(down_times) {
            let node = directory.join(host);
            fs::create_dir_all(&node)?;
            let pid_file = node.join("sshd.pid").display().to_string();
            fs::write(node.join("sshd_config"), nodes.sshd.server_config(directory, host, &pid_file))?;
            fs::write(node.join("program"), program.display().to_string())?;
            fs::write(node.join("down-time"), format!("{:.3}", down_time.as_secs_f64()))?;
            fs::write(node.join("boot-id"), "1\n")?;
            let entered = group.enter()?;
            run(command(&program).arg("-f").arg(node.join("sshd_config")))?;
            drop(entered);
            nodes.sshd.wait_listening(host)?;
        }
        Ok(nodes)
    }

    fn script(&self) -> PathBuf {
        self.directory.join("reboot")
    }

    /// Reboots all of them, so many at a time, as Ansible's manual has it; nothing waits longer than it must.
    pub(crate) fn playbook(&self, at_a_time: usize) -> String {
        let (script, directory) = (self.script(), self.directory.display());
        format!(
            "- hosts: all\n  gather_facts: false\n  serial: {at_a_time}\n  tasks:\n    - name: reboot\n      reboot:\n        \
             reboot_command: \"{} {directory}/{{{{ inventory_hostname }}}}\"\n        \
             boot_time_command: \"cat {directory}/{{{{ inventory_hostname }}}}/boot-id\"\n        \
             test_command: /bin/true\n        connect_timeout: 2\n        reboot_timeout: 120\n        \
             pre_reboot_delay: 0\n        post_reboot_delay: 0\n",
            script.display(),
        )
    }

    /// Boots of all nodes so far.
    pub(crate) fn boots(&self) -> usize {
        let boots = self.sshd.hosts.iter().map(|host| {
            let text = fs::read_to_string(self.directory.join(host).join("boot-id")).unwrap_or_default();
            text.trim().parse::<usize>().unwrap_or(0)
        });
        boots.sum()
    }
}

impl Drop for Rebooting {
    fn drop(&mut self) {
        for host in &self.sshd.hosts {
            let pid = fs::read_to_string(self.directory.join(host).join("sshd.pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                // One that is down at this moment ends with its control group.
                let _ended = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
    }
}
