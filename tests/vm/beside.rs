// SPDX-License-Identifier: Apache-2.0
//! The same packages on the same three machines, brought by Windlass and, after they were put back, by Ansible over ssh. Both
//! come to the same end; how long each takes is told, not judged.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;
use windlass_tests::process::{Answer, command, run, run_within};
use windlass_tests::python;

use crate::site::{BOOT, Site, with_site};

const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// Packages of the lab in two versions; the one has a service.
const OLD: &str = "lab-words-1-1 lab-web-1-1";
const NAMES: &str = "lab-words,lab-web";

#[tokio::test]
async fn three_machines_are_updated_by_windlass_and_by_ansible_to_the_same_end() {
    with_site(async |site| {
        let ports = NODES.map(|_| free_port());
        let node = |nth: usize| {
            let (name, port) = (NODES[nth], ports[nth]);
            format!(
                "{{name: {name}, address: 10.77.0.1{nth}, cpus: 1, memory: 768MiB, roles: [worker], forwards: [{{host: {port}, \
                 guest: 22}}]}}"
            )
        };
        let nodes: Vec<&'static str> = (0..NODES.len()).map(|nth| &*node(nth).leak()).collect();
        site.apply(&site.spec(&nodes)).await.done();
        site.on_all(&format!("dnf -q -y install {OLD}")).await;
        let ansible = Ansible::set_up(site, &ports).await;

        let ours = timed(async || site.windlass(&update()).await.done()).await;
        are_current(site).await;
        let idle = timed(async || site.windlass(&update()).await.done()).await;
        tell("Windlass", ours, idle);

        put_back(site).await;
        let theirs = timed(async || ansible.play().await.done()).await;
        are_current(site).await;
        let idle = timed(async || ansible.play().await.done()).await;
        tell("Ansible", theirs, idle);
    })
    .await;
}

fn update() -> Vec<&'static str> {
    let names = NAMES.split(',').flat_map(|name| ["--only", name]);
    ["update", "packages", "--all", "--max-unavailable", "3", "--yes"].into_iter().chain(names).collect()
}

async fn timed(work: impl AsyncFnOnce()) -> Duration {
    let begun = Instant::now();
    work().await;
    begun.elapsed()
}

#[expect(clippy::print_stdout, reason = "the figure is for people")]
fn tell(who: &str, changed: Duration, idle: Duration) {
    println!("{who}: {changed:.1?} to update {NAMES} on {} machines, {idle:.1?} once that is done", NODES.len());
}

async fn are_current(site: &Site) {
    for node in NODES {
        let installed = site.shell(node, "rpm -q lab-words lab-web").await.ok();
        assert!(installed.contains("lab-words-2-1") && installed.contains("lab-web-2-1"), "{node}: {installed}");
    }
}

/// By Windlass itself: the transaction that each node's history has last.
async fn put_back(site: &Site) {
    for node in NODES {
        let history = site.windlass(&["packages", "history", node, "--newest", "1", "-o", "json"]).await.json();
        let number = history["items"][0]["number"].to_string();
        site.windlass(&["packages", "undo", node, &number, "--yes"]).await.done();
        let installed = site.shell(node, "rpm -q lab-words lab-web").await.ok();
        assert!(installed.contains("lab-words-1-1") && installed.contains("lab-web-1-1"), "{node}: {installed}");
    }
}

/// Nobody else here takes ports in between.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Ansible as its manual advises: pipelining, connections that stay open, no facts that nobody asked for.
struct Ansible {
    environment: PathBuf,
    directory: PathBuf,
}

impl Ansible {
    #[expect(clippy::print_stderr, reason = "installing takes a while")]
    async fn set_up(site: &Site, ports: &[u16]) -> Self {
        let cache = python::cache().expect("a cache");
        let environment = python::environment(&cache, "ansible", &[python::ANSIBLE], |said| eprintln!("{said}"));
        let directory = site.controller.directory().join("ansible");
        std::fs::create_dir_all(&directory).expect("a directory");
        let ansible = Self { environment: environment.expect("Ansible"), directory };
        let key = ansible.file("key");
        run(command("ssh-keygen", &ansible.directory).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))
            .await
            .done();
        let public = std::fs::read_to_string(key.with_extension("pub")).expect("a key");
        site.on_all(&sshd(public.trim())).await;
        let mut inventory = String::from("[all]\n");
        for (node, port) in NODES.iter().zip(ports) {
            inventory.push_str(&format!("{node} ansible_host=127.0.0.1 ansible_port={port}\n"));
        }
        inventory.push_str(&format!(
            "[all:vars]\nansible_user=root\nansible_ssh_private_key_file={}\nansible_python_interpreter=/usr/bin/python3\n",
            key.display()
        ));
        ansible.write("inventory.ini", &inventory);
        ansible.write("ansible.cfg", &config(&ansible.directory));
        let names: Vec<_> = NAMES.split(',').collect();
        ansible.write("update.yml", &format!(
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: update\n      dnf: {{name: [{}], state: latest, \
             update_cache: true}}\n",
            names.join(", ")
        ));
        ansible
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("written");
    }

    async fn play(&self) -> Answer {
        let mut play: Command = command(self.environment.join("bin/ansible-playbook"), &self.directory);
        play.arg("update.yml").env("ANSIBLE_CONFIG", self.file("ansible.cfg")).env("LC_ALL", "C.UTF-8");
        run_within(BOOT, &mut play).await
    }
}

impl Drop for Ansible {
    fn drop(&mut self) {
        // Its ssh processes end by themselves within a minute; their sockets are ours to remove.
        let _absent = std::fs::remove_dir_all(sockets());
    }
}

fn sockets() -> PathBuf {
    PathBuf::from(format!("/tmp/wv-{}", std::process::id()))
}

/// A path of a socket may have 108 bytes, so those of ssh are not below the directory.
fn config(directory: &Path) -> String {
    let sockets = sockets();
    let sockets = sockets.display();
    format!(
        "[defaults]\nforks = 50\ngathering = explicit\nhost_key_checking = False\ninventory = {}/inventory.ini\n\
         retry_files_enabled = False\n[ssh_connection]\npipelining = True\ncontrol_path_dir = {sockets}\n\
         ssh_args = -o ControlMaster=auto -o ControlPersist=60 -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR\n",
        directory.display()
    )
}

/// Has a node be as one that is kept by Ansible: with sshd, and a key.
fn sshd(public: &str) -> String {
    format!(
        "mkdir -p -m 700 /root/.ssh /run/sshd && echo '{public}' >/root/.ssh/authorized_keys && ssh-keygen -A && \
         systemd-run --unit=lab-sshd /usr/sbin/sshd -D"
    )
}
