// SPDX-License-Identifier: Apache-2.0
//! The keys of cloud-init that are used, as cloud-init names them, and what is put into each.

use serde::Serialize;
use windlass_types::name::NodeName;

use super::{FIRST_BOOT_SCRIPT, FIRST_BOOT_UNIT, FirstBoot, Repository};

/// Where the machine keeps what it needs until it has joined. Removed afterwards.
const DIRECTORY: &str = "/var/lib/windlass-first-boot";

/// Every name that sshd's units have on the systems we know.
const SSHD_UNITS: [&str; 4] = ["sshd.service", "sshd.socket", "ssh.service", "ssh.socket"];

const LOCKED_ROOT: User = User::Locked { name: "root", lock_passwd: true };

/// A cloud-config document.
#[derive(Debug, Serialize)]
pub(super) struct CloudConfig {
    hostname: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fqdn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefer_fqdn_over_hostname: Option<bool>,
    users: Vec<User>,
    disable_root: bool,
    ssh_pwauth: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh_authorized_keys: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bootcmd: Vec<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    write_files: Vec<WriteFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runcmd: Vec<Vec<String>>,
}

/// An empty list would not do: cloud-init would make its default user. One with just root, locked, makes none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum User {
    Default(&'static str),
    Locked { name: &'static str, lock_passwd: bool },
}

#[derive(Debug, Serialize)]
struct WriteFile {
    path: String,
    owner: &'static str,
    permissions: &'static str,
    content: String,
}

/// The document as cloud-init reads it.
pub(super) fn text(config: &CloudConfig) -> String {
    let json = serde_json::to_string_pretty(config).expect("strings, booleans and lists can be written");
    format!("#cloud-config\n{json}\n")
}

impl CloudConfig {
    /// A machine with a name, and nobody who can log in.
    pub(super) fn named(name: &NodeName) -> Self {
        // cloud-init cuts a host name at its first dot unless it is told that the whole is meant.
        let dotted = name.as_str().contains('.').then(|| name.to_string());
        Self {
            hostname: name.to_string(),
            prefer_fqdn_over_hostname: dotted.as_ref().map(|_| true),
            fqdn: dotted,
            users: vec![LOCKED_ROOT],
            disable_root: true,
            ssh_pwauth: false,
            ssh_authorized_keys: Vec::new(),
            bootcmd: Vec::new(),
            write_files: Vec::new(),
            runcmd: Vec::new(),
        }
    }

    /// A machine that becomes a node.
    pub(super) fn first_boot(boot: &FirstBoot) -> Self {
        let has_ssh = !boot.ssh_keys.is_empty();
        let begun = format!("WINDLASS-MARK node={} stage=cloud-init state=reached", boot.name);
        let mut bootcmd = vec![command(&["cloud-init-per", "instance", "windlass-begun", "echo", &begun])];
        let mut runcmd = Vec::new();
        if !has_ssh {
            // Masked before it would be started; stopped in case the image starts it before cloud-init.
            let mask = ["cloud-init-per", "instance", "windlass-no-sshd", "systemctl", "mask"];
            bootcmd.push(command(&[&mask[..], &SSHD_UNITS].concat()));
            runcmd.push(command(&[&["systemctl", "stop"][..], &SSHD_UNITS].concat()));
        }
        runcmd.push(command(&["systemctl", "daemon-reload"]));
        runcmd.push(command(&["systemctl", "enable", "windlass-first-boot.service"]));
        runcmd.push(command(&["systemctl", "start", "--no-block", "windlass-first-boot.service"]));
        Self {
            users: vec![if has_ssh { User::Default("default") } else { LOCKED_ROOT }],
            ssh_authorized_keys: boot.ssh_keys.clone(),
            bootcmd,
            write_files: files(boot),
            runcmd,
            ..Self::named(&boot.name)
        }
    }
}

fn command(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

fn files(boot: &FirstBoot) -> Vec<WriteFile> {
    let lines = |lines: Vec<String>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let file = |path: String, permissions, content| WriteFile { path, owner: "root:root", permissions, content };
    let beside = |name: &str, content| file(format!("{DIRECTORY}/{name}"), "0600", content);
    let mut files: Vec<_> = boot.repositories.iter().flat_map(repository_files).collect();
    files.extend([
        beside("run", FIRST_BOOT_SCRIPT.to_owned()),
        beside("node", lines(vec![boot.name.to_string()])),
        beside("package", lines(vec![boot.package.clone()])),
        beside("repositories", lines(boot.repositories.iter().map(|repository| repository.id.clone()).collect())),
        beside("controller", lines(vec![boot.join.controller.clone()])),
        beside("pins", lines(boot.join.pins.iter().map(ToString::to_string).collect())),
        beside("token", lines(vec![boot.join.token.clone()])),
        file("/etc/systemd/system/windlass-first-boot.service".to_owned(), "0644", FIRST_BOOT_UNIT.to_owned()),
    ]);
    files
}

fn repository_files(repository: &Repository) -> [WriteFile; 2] {
    let Repository { id, base_url, key, has_signed_metadata } = repository;
    let key_path = format!("/etc/pki/rpm-gpg/RPM-GPG-KEY-{id}");
    let checked = u8::from(*has_signed_metadata);
    let text = format!(
        "[{id}]\nname={id}\nbaseurl={base_url}\nenabled=1\ngpgcheck=1\nrepo_gpgcheck={checked}\ngpgkey=file://{key_path}\n"
    );
    let file = |path, content| WriteFile { path, owner: "root:root", permissions: "0644", content };
    [file(format!("/etc/yum.repos.d/{id}.repo"), text), file(key_path, key.clone())]
}
