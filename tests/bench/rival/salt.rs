// SPDX-License-Identifier: Apache-2.0
//! Salt: one master and as many minions as fit (each is two Python processes).

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;
use windlass_tests::python;

use crate::account::Group;
use crate::process::{Daemon, command, run, wait_until};
use crate::report::progress;

const PACKAGES: &[&str] = &["salt==3008.3"];

/// Sixty Python agents start slowly where two processors are shared.
const START_PATIENCE: Duration = Duration::from_secs(300);

/// A master, its minions, and how long they took to come.
#[derive(Debug)]
pub(crate) struct Salt {
    environment: PathBuf,
    directory: PathBuf,
    /// Minions.
    pub(crate) minions: usize,
    /// From the first start to the last accepted key and answer, seconds.
    pub(crate) enrolment_seconds: f64,
    _daemons: Vec<Daemon>,
}

impl Salt {
    /// Installs it and starts everything.
    ///
    /// # Errors
    /// If it cannot be installed or does not come up.
    pub(crate) fn start(
        cache: &Path,
        directory: &Path,
        minions: usize,
        (control, nodes): (&Group, &Group),
    ) -> Result<Self> {
        let environment = python::environment(cache, "salt", PACKAGES, progress)?;
        let directory = directory.join("salt");
        let (publish, answer) = (free_port()?, free_port()?);
        let mut salt = Self { environment, directory, minions, enrolment_seconds: f64::NAN, _daemons: Vec::new() };
        let master = salt.configure("master", &master_config(publish, answer))?;
        let entered = control.enter()?;
        salt.spawn("salt-master", &master, control)?;
        drop(entered);
        wait_until("the salt master listens", START_PATIENCE, Duration::from_millis(100), || {
            TcpListener::bind(("127.0.0.1", answer)).is_err()
        })?;
        let begun = Instant::now();
        let entered = nodes.enter()?;
        for minion in 0..minions {
            let name = format!("minion{minion}");
            let config = salt.configure(&name, &minion_config(&name, publish, answer))?;
            salt.spawn("salt-minion", &config, nodes)?;
        }
        drop(entered);
        let accepted = salt.directory.join("master/etc/salt/pki/master/minions");
        wait_until("salt's minions come", START_PATIENCE, Duration::from_millis(100), || {
            fs::read_dir(&accepted).is_ok_and(|keys| keys.count() >= minions)
        })?;
        wait_until("salt's minions answer", START_PATIENCE, Duration::from_millis(100), || salt.run_true().is_ok())?;
        salt.enrolment_seconds = begun.elapsed().as_secs_f64();
        Ok(salt)
    }

    /// Makes the directory of one program; its configuration directory.
    fn configure(&self, name: &str, config: &str) -> Result<PathBuf> {
        let root = self.directory.join(name);
        let etc = root.join("etc/salt");
        fs::create_dir_all(&etc)?;
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?.map_or_else(String::new, |user| user.name);
        let kind = if name == "master" { "master" } else { "minion" };
        fs::write(etc.join(kind), format!("root_dir: {}\nuser: {user}\n{config}", root.display()))?;
        Ok(etc)
    }

    fn program(&self, name: &str, config: &Path) -> Command {
        let mut program = command(self.environment.join("bin").join(name));
        program.arg("-c").arg(config);
        program
    }

    fn spawn(&mut self, name: &str, config: &Path, group: &Group) -> Result<()> {
        let daemon = Daemon::start(&mut self.program(name, config), &self.directory.join("log"))?;
        group.watch(daemon.pid());
        self._daemons.push(daemon);
        Ok(())
    }

    fn call(&self, arguments: &[&str]) -> Result<()> {
        let mut salt = self.program("salt", &self.directory.join("master/etc/salt"));
        let output = run(salt.args(["--static", "--out=json", "--timeout=60", "*"]).args(arguments))?;
        let answers: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&output.stdout)?;
        ensure!(answers.len() == self.minions, "{} of {} minions answered", answers.len(), self.minions);
        Ok(())
    }

    /// `/bin/true` on every minion.
    ///
    /// # Errors
    /// If one does not answer.
    pub(crate) fn run_true(&self) -> Result<()> {
        self.call(&["cmd.run", "/bin/true", "python_shell=False"])
    }

    /// All facts of every minion.
    ///
    /// # Errors
    /// If one does not answer.
    pub(crate) fn grains(&self) -> Result<()> {
        self.call(&["grains.items"])
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn master_config(publish: u16, answer: u16) -> String {
    format!(
        "interface: 127.0.0.1\nauto_accept: True\npublish_port: {publish}\nret_port: {answer}\nworker_threads: 5\n\
         pki_dir: /etc/salt/pki/master\nlog_level: error\nlog_level_logfile: quiet\ntimeout: 60\n"
    )
}

fn minion_config(name: &str, publish: u16, answer: u16) -> String {
    format!(
        "id: {name}\nmaster: 127.0.0.1\npublish_port: {publish}\nmaster_port: {answer}\npki_dir: /etc/salt/pki/minion\n\
         log_level: error\nlog_level_logfile: quiet\nrandom_reauth_delay: 0\nrecon_default: 100\nacceptance_wait_time: 1\n"
    )
}
