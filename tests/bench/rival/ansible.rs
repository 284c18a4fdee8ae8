// SPDX-License-Identifier: Apache-2.0
//! Ansible with forks 50, pipelining, and ssh connections that stay open; alone, or with mitogen beneath it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use windlass_tests::python;

use super::sshd::{KEY_EXCHANGE, Sshd};
use crate::process::{command, run};
use crate::report::progress;

const PACKAGES: &[&str] = &[python::ANSIBLE];

/// Mitogen knows that release.
const WITH_MITOGEN: &[&str] = &[python::ANSIBLE, "mitogen==0.3.54"];

/// Ansible and its inventory.
#[derive(Debug)]
pub(crate) struct Ansible {
    environment: PathBuf,
    directory: PathBuf,
    control_path: PathBuf,
    nodes: usize,
}

impl Ansible {
    /// Installs and configures it.
    ///
    /// # Errors
    /// If it cannot be installed.
    pub(crate) fn install(cache: &Path, directory: &Path, sshd: &Sshd) -> Result<Self> {
        let environment = python::environment(cache, "ansible", PACKAGES, progress)?;
        Self::set_up(environment, directory, "ansible", sshd, "")
    }

    /// The same with mitogen's strategy instead of its own way to nodes.
    ///
    /// # Errors
    /// If it cannot be installed.
    pub(crate) fn install_with_mitogen(cache: &Path, directory: &Path, sshd: &Sshd) -> Result<Self> {
        let environment = python::environment(cache, "mitogen", WITH_MITOGEN, progress)?;
        let versions = fs::read_dir(environment.join("lib")).context("find Python's packages")?.flatten();
        let plugins = versions.map(|version| version.path().join("site-packages/ansible_mitogen/plugins/strategy"));
        let plugins = plugins.filter(|path| path.is_dir()).last().context("mitogen has no strategy for Ansible")?;
        let strategy = format!("strategy_plugins = {}\nstrategy = mitogen_linear\n", plugins.display());
        Self::set_up(environment, directory, "mitogen", sshd, &strategy)
    }

    fn set_up(environment: PathBuf, directory: &Path, name: &str, sshd: &Sshd, defaults: &str) -> Result<Self> {
        // A socket's path may have 108 bytes, so it is not below the directory.
        let control_path = PathBuf::from(format!("/tmp/wb-{}-{name}", std::process::id()));
        let ansible = Self { environment, directory: directory.join(name), control_path, nodes: sshd.hosts.len() };
        fs::create_dir_all(ansible.directory.join("files"))?;
        fs::write(ansible.directory.join("ansible.cfg"), ansible.config(defaults))?;
        fs::write(ansible.directory.join("inventory.ini"), ansible.inventory(sshd))?;
        Ok(ansible)
    }

    fn config(&self, defaults: &str) -> String {
        let (directory, control_path) = (self.directory.display(), self.control_path.display());
        format!(
            "[defaults]\nforks = 50\ngathering = explicit\nhost_key_checking = False\ninventory = {directory}/inventory.ini\n\
             local_tmp = {directory}/local\nremote_tmp = {directory}/remote\nretry_files_enabled = False\n\
             deprecation_warnings = False\n{defaults}[ssh_connection]\npipelining = True\ncontrol_path_dir = {control_path}\n\
             ssh_args = -o ControlMaster=auto -o ControlPersist=1800 -o KexAlgorithms={KEY_EXCHANGE} \
             -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR\n"
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
        self.play("ten", &ten_steps()).map(drop)
    }

    /// Forty files of each node's own that are there already, each by the `copy` module.
    ///
    /// # Errors
    /// If one node fails, or had anything to do.
    pub(crate) fn unchanged_files(&self, files: &[(String, String)]) -> Result<()> {
        let mut text = String::from("- hosts: all\n  gather_facts: false\n  tasks:\n");
        for (name, content) in files {
            let to = self.directory.join("files/{{ inventory_hostname }}").join(name);
            text.push_str(&format!(
                "    - name: {name}\n      copy: {{content: \"{content}\\n\", dest: \"{}\", mode: \"0644\"}}\n",
                to.display()
            ));
        }
        let recap = self.play("unchanged", &text)?;
        let done = format!("ok={}", files.len());
        let idle = recap.lines().filter(|line| line.contains(&done) && line.contains("changed=0 ")).count();
        ensure!(idle == self.nodes, "{idle} of {} nodes had nothing to do", self.nodes);
        Ok(())
    }

    /// Puts these files where [`Self::unchanged_files`] will find them.
    ///
    /// # Errors
    /// If one cannot be written.
    pub(crate) fn place_files(&self, sshd: &Sshd, files: &[(String, String)]) -> Result<()> {
        for host in &sshd.hosts {
            let directory = self.directory.join("files").join(host);
            fs::create_dir_all(&directory)?;
            files.iter().try_for_each(|(name, content)| fs::write(directory.join(name), format!("{content}\n")))?;
        }
        Ok(())
    }

    /// Runs a playbook; what it says.
    ///
    /// # Errors
    /// If a task fails.
    pub(crate) fn play(&self, name: &str, text: &str) -> Result<String> {
        let file = format!("{name}.yml");
        fs::write(self.directory.join(&file), text)?;
        let output = run(self.program("ansible-playbook").arg(&file))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Ansible {
    fn drop(&mut self) {
        // Its ssh processes end with their control group; their sockets are ours to remove.
        let _absent = fs::remove_dir_all(&self.control_path);
    }
}

fn ten_steps() -> String {
    let mut text = String::from("- hosts: all\n  gather_facts: false\n  tasks:\n");
    for step in 1..=10 {
        text.push_str(&format!("    - name: step {step}\n      command: /bin/true\n"));
    }
    text
}
