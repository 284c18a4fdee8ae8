// SPDX-License-Identifier: Apache-2.0
//! One ssh server on loopback that stands for every node: all of 127.0.0.0/8 is this machine, so each node has its own
//! address. Only callers from there, with a key made for the occasion, get in.
//!
//! Tuned against us: no PAM, no motd, and curve25519 instead of the slower key exchange that is the default.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::account::Group;
use crate::process::{Daemon, command, run, wait_until};
use crate::report::progress;

/// The cheapest key exchange, under its name and the older one that pyinfra's library knows.
pub(crate) const KEY_EXCHANGE: &str = "curve25519-sha256,curve25519-sha256@libssh.org";

const HOST_KEY: &str = "host";

/// The server and how to reach it.
#[derive(Debug)]
pub(crate) struct Sshd {
    /// The one server; absent where every node has its own.
    _daemon: Option<Daemon>,
    /// Addresses of the nodes.
    pub(crate) hosts: Vec<String>,
    /// Port of all of them.
    pub(crate) port: u16,
    /// Who logs in.
    pub(crate) user: String,
    /// With which key.
    pub(crate) key: PathBuf,
    /// Configuration of clients.
    pub(crate) client_config: PathBuf,
}

impl Sshd {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be installed or started.
    pub(crate) fn start(directory: &Path, nodes: usize, group: &Group) -> Result<Self> {
        let program = program()?;
        let nodes = Self::prepare(directory, nodes)?;
        let config = directory.join("sshd_config");
        fs::write(&config, nodes.server_config(directory, "0.0.0.0", "none"))?;
        let entered = group.enter()?;
        let mut sshd = command(program);
        let daemon = Daemon::start(sshd.arg("-D").arg("-e").arg("-f").arg(&config), &directory.join("sshd.log"))?;
        drop(entered);
        group.watch(daemon.pid());
        nodes.wait_listening("127.0.0.1")?;
        Ok(Self { _daemon: Some(daemon), ..nodes })
    }

    /// Keys and addresses, and no server yet.
    ///
    /// # Errors
    /// If files cannot be written.
    pub(super) fn prepare(directory: &Path, nodes: usize) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (_host_key, key) = (make_key(directory, HOST_KEY)?, make_key(directory, "client")?);
        fs::copy(key.with_extension("pub"), directory.join("authorized_keys"))?;
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?.context("this user has no name")?.name;
        // Free now; nobody else here takes ports in between.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if nix::unistd::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").context("sshd needs /run/sshd")?;
        }
        let client_config = directory.join("ssh_config");
        fs::write(&client_config, client_options(&key, port, &user))?;
        let hosts = (0..nodes).map(|node| format!("127.1.{}.{}", node / 250, node % 250 + 1)).collect();
        Ok(Self { _daemon: None, hosts, port, user, key, client_config })
    }

    /// Waits until a server is there.
    ///
    /// # Errors
    /// If none is.
    pub(super) fn wait_listening(&self, address: &str) -> Result<()> {
        let every = Duration::from_millis(20);
        let listens = || TcpStream::connect((address, self.port)).is_ok();
        wait_until("sshd listens", Duration::from_secs(5), every, listens)
    }

    /// What a server is told.
    pub(super) fn server_config(&self, directory: &Path, address: &str, pid_file: &str) -> String {
        format!(
            "Port {}\nAddressFamily inet\nListenAddress {address}\nHostKey {}\nPidFile {pid_file}\nAuthorizedKeysFile {}\n\
             AllowUsers *@127.0.0.0/8\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nUseDNS no\nPrintMotd no\nPrintLastLog no\n\
             KexAlgorithms {KEY_EXCHANGE}\nMaxStartups 2000\nMaxSessions 100\nLogLevel ERROR\n\
             Subsystem sftp internal-sftp\n",
            self.port,
            directory.join(HOST_KEY).display(),
            directory.join("authorized_keys").display(),
        )
    }
}

/// Where sshd is; installs it if it is not there.
pub(super) fn program() -> Result<PathBuf> {
    let path = PathBuf::from("/usr/sbin/sshd");
    if !path.exists() {
        progress("installing openssh-server");
        // The benchmark starts its own; the package must not start one.
        let mut apt = command(if nix::unistd::geteuid().is_root() { "env" } else { "sudo" });
        apt.args(["RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes"]);
        run(apt.args(["--no-install-recommends", "openssh-server", "openssh-client"]))?;
    }
    Ok(path)
}

fn make_key(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    if !path.exists() {
        run(command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path))?;
    }
    Ok(path)
}

fn client_options(key: &Path, port: u16, user: &str) -> String {
    format!(
        "Host *\n  Port {port}\n  User {user}\n  IdentityFile {}\n  IdentitiesOnly yes\n  KexAlgorithms {KEY_EXCHANGE}\n  \
         StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  GlobalKnownHostsFile /dev/null\n  \
         BatchMode yes\n  LogLevel ERROR\n",
        key.display(),
    )
}

impl Sshd {
    /// Runs `/bin/true` on every node with plain ssh, 32 at a time.
    ///
    /// # Errors
    /// If one fails.
    pub(crate) fn run_true(&self) -> Result<()> {
        let mut xargs = command("xargs");
        xargs.args(["-P32", "-I{}", "ssh", "-F"]).arg(&self.client_config).args(["{}", "/bin/true"]);
        let list = self.client_config.with_file_name("hosts");
        fs::write(&list, self.hosts.join("\n") + "\n")?;
        run(xargs.stdin(fs::File::open(&list)?)).map(drop)
    }
}
