// SPDX-License-Identifier: Apache-2.0
//! Ansible with forks 50, pipelining, and ssh connections that stay open.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::python;
use super::sshd::{KEY_EXCHANGE, Sshd};
use crate::process::{command, run};

/// The last release that needs no newer Python than Debian 12 has, and no slower than its successors.
const PACKAGES: &[&str] = &["ansible-core==2.14.18"];

/// Ansible and its inventory.
#[derive(Debug)]
pub(crate) struct Ansible {
    environment: PathBuf,
    directory: PathBuf,
    nodes: usize,
}

impl Ansible {
    /// Installs and configures it.
    ///
    /// # Errors
    /// If it cannot be installed.
    pub(crate) fn install(cache: &Path, directory: &Path, sshd: &Sshd) -> Result<Self> {
        let environment = python::environment(cache, "ansible", PACKAGES)?;
        let ansible = Self { environment, directory: directory.join("ansible"), nodes: sshd.hosts.len() };
        fs::create_dir_all(ansible.directory.join("files"))?;
        fs::write(ansible.directory.join("ansible.cfg"), ansible.config())?;
        fs::write(ansible.directory.join("inventory.ini"), ansible.inventory(sshd))?;
        fs::write(ansible.directory.join("ten.yml"), ten_steps())?;
        Ok(ansible)
    }

    fn config(&self) -> String {
        let directory = self.directory.display();
        // A socket's path may have 108 bytes, so it is not below the directory.
        format!(
            "[defaults]\nforks = 50\ngathering = explicit\nhost_key_checking = False\ninventory = {directory}/inventory.ini\n\
             local_tmp = {directory}/local\nremote_tmp = {directory}/remote\nretry_files_enabled = False\n\
             deprecation_warnings = False\n[ssh_connection]\npipelining = True\ncontrol_path_dir = /tmp/wb-{}\n\
             ssh_args = -o ControlMaster=auto -o ControlPersist=1800 -o KexAlgorithms={KEY_EXCHANGE} \
             -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR\n",
            std::process::id(),
        )
    }

    fn inventory(&self, sshd: &Sshd) -> String {
        let mut text = String::from("[all]\n");
        for host in &sshd.hosts {
            text.push_str(host);
            text.push('\n');
        }
        let python = fs::canonicalize(self.environment.join("bin/python3")).unwrap_or_else(|_| "python3".into());
        text + &format!(
            "[all:vars]\nansible_port={}\nansible_user={}\nansible_ssh_private_key_file={}\n\
             ansible_python_interpreter={}\n",
            sshd.port,
            sshd.user,
            sshd.key.display(),
            python.display(),
        )
    }

    fn program(&self, name: &str) -> Command {
        let mut program = command(self.environment.join("bin").join(name));
        program.env("ANSIBLE_CONFIG", self.directory.join("ansible.cfg")).current_dir(&self.directory);
        program
    }

    fn module(&self, module: &str, arguments: &str) -> Result<()> {
        let mut ansible = self.program("ansible");
        ansible.args(["all", "-o", "-m", module]);
        if !arguments.is_empty() {
            ansible.args(["-a", arguments]);
        }
        let output = run(&mut ansible)?;
        let answers = String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(" | ")).count();
        ensure!(answers == self.nodes, "ansible answered for {answers} nodes instead of {}", self.nodes);
        Ok(())
    }

    /// `/bin/true` by the `command` module.
    ///
    /// # Errors
    /// If one node fails.
    pub(crate) fn command_true(&self) -> Result<()> {
        self.module("command", "/bin/true")
    }

    /// `/bin/true` without a module.
    ///
    /// # Errors
    /// If one node fails.
    pub(crate) fn raw_true(&self) -> Result<()> {
        self.module("raw", "/bin/true")
    }

    /// All facts, or the least it can gather.
    ///
    /// # Errors
    /// If one node fails.
    pub(crate) fn setup(&self, arguments: &str) -> Result<()> {
        self.module("setup", arguments)
    }

    /// Copies a file to a place of each node's own.
    ///
    /// # Errors
    /// If one node fails.
    pub(crate) fn copy(&self, source: &Path) -> Result<()> {
        let to = self.directory.join("files");
        self.module("copy", &format!("src={} dest={}/{{{{ inventory_hostname }}}}", source.display(), to.display()))
    }

    /// Ten commands, each on all nodes before the next.
    ///
    /// # Errors
    /// If one node fails.
    pub(crate) fn ten_steps(&self) -> Result<()> {
        run(self.program("ansible-playbook").arg("ten.yml")).map(drop)
    }
}

impl Drop for Ansible {
    fn drop(&mut self) {
        // Its ssh processes end with their control group; their sockets are ours to remove.
        let _absent = fs::remove_dir_all(format!("/tmp/wb-{}", std::process::id()));
    }
}

fn ten_steps() -> String {
    let mut text = String::from("- hosts: all\n  gather_facts: false\n  tasks:\n");
    for step in 1..=10 {
        text.push_str(&format!("    - name: step {step}\n      command: /bin/true\n"));
    }
    text
}
