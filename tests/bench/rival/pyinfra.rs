// SPDX-License-Identifier: Apache-2.0
//! pyinfra, which speaks ssh by itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use windlass_tests::python;

use super::sshd::Sshd;
use crate::process::{command, run};
use crate::report::progress;

const PACKAGES: &[&str] = &["pyinfra==3.10.0"];

/// pyinfra and its inventory.
#[derive(Debug)]
pub(crate) struct Pyinfra {
    environment: PathBuf,
    directory: PathBuf,
}

impl Pyinfra {
    /// Installs and configures it.
    ///
    /// # Errors
    /// If it cannot be installed.
    pub(crate) fn install(cache: &Path, directory: &Path, sshd: &Sshd) -> Result<Self> {
        let environment = python::environment(cache, "pyinfra", PACKAGES, progress)?;
        let directory = directory.join("pyinfra");
        fs::create_dir_all(&directory)?;
        let data = format!(
            "{{'ssh_port': {}, 'ssh_user': '{}', 'ssh_key': '{}', 'ssh_strict_host_key_checking': 'no', \
             'ssh_known_hosts_file': '/dev/null'}}",
            sshd.port,
            sshd.user,
            sshd.key.display(),
        );
        let hosts: String = sshd.hosts.iter().map(|host| format!("    ('{host}', {data}),\n")).collect();
        fs::write(directory.join("inventory.py"), format!("hosts = [\n{hosts}]\n"))?;
        Ok(Self { environment, directory })
    }

    /// `/bin/true` on every node.
    ///
    /// # Errors
    /// If one node fails.
    pub(crate) fn run_true(&self) -> Result<()> {
        let mut pyinfra = command(self.environment.join("bin/pyinfra"));
        pyinfra.current_dir(&self.directory).args([
            "-y",
            "--parallel",
            "50",
            "inventory.py",
            "exec",
            "--",
            "/bin/true",
        ]);
        run(&mut pyinfra).map(drop)
    }
}
