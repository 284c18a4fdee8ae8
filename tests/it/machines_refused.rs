// SPDX-License-Identifier: Apache-2.0
//! What this machine lacks for machines on it: told by `plan`, refused by `apply` before anything is made, with the real
//! provider. Nothing is booted here; what goes wrong in machines that boot is in `tests/vm`.

use std::net::TcpListener;

use windlass_tests::controller::Controller;
use windlass_tests::process::without;

/// A controller that machines could reach.
fn prepared() -> Controller {
    Controller::prepared("advertise = [\"10.0.2.2\"]\n")
}

/// Writes a spec of one machine whose image is a disk with nothing on it; its path.
fn spec(controller: &Controller, image: &str, node: &str) -> String {
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let directory = controller.directory();
    std::fs::write(directory.join("disk"), disk).expect("written");
    let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n-----END PGP PUBLIC KEY BLOCK-----\n";
    std::fs::write(directory.join("key.asc"), key).expect("written");
    let text = format!(
        "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {{name: k8s1}}\nspec:\n  provider: {{qemu: {{image: {}, accel: \
         emulation}}}}\n  packages: {{repositories: [{{name: w, url: http://10.0.2.2/, gpgKey: key.asc}}]}}\n  nodes:\n    \
         - {node}\n",
        directory.join(image).display()
    );
    let path = directory.join("cluster.yaml");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// Plan tells it, apply refuses it, and there is nothing afterwards.
async fn is_refused(controller: &Controller, spec: &str, why: &str, advice: &str) {
    let planned = controller.cli(&["plan", "-f", spec]).await;
    let says = format!("{}{}", planned.stdout, planned.stderr);
    assert!(planned.code == 0 && says.contains("Cannot be applied now: ") && says.contains(why), "{planned:?}");
    controller.cli(&["apply", "-f", spec, "--yes"]).await.assert_refused(4, why, advice);
    for list in ["get machines", "get nodes", "run list", "get tokens"] {
        assert_eq!(controller.words(&format!("{list} -o name")).await.ok(), "", "{list}");
    }
    let machines = controller.state_inside().join("machines");
    let left: Vec<_> = std::fs::read_dir(machines).map(|left| left.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn qemu_that_is_not_installed_is_named_with_its_packages() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("not tried: only root can mount");
        return;
    }
    for (missing, name) in [("/usr/bin/qemu-system-x86_64", "QEMU"), ("/usr/bin/qemu-img", "qemu-img")] {
        let mut controller = prepared();
        controller.start_by(without(controller.serve_command(), &[missing])).await;
        let spec = spec(&controller, "disk", "{name: node1, memory: 256MiB}");
        let why = format!("{name} is not installed on this host");
        is_refused(&controller, &spec, &why, "install qemu-system-x86 and qemu-utils").await;
    }
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named() {
    let mut controller = prepared();
    controller.restart().await;
    let spec = spec(&controller, "no-such.qcow2", "{name: node1, memory: 256MiB}");
    is_refused(&controller, &spec, "no-such.qcow2: No such file or directory", "`make lab` builds one").await;
}

#[tokio::test]
async fn memory_that_this_machine_does_not_have_is_counted() {
    let mut controller = prepared();
    controller.restart().await;
    let spec = spec(&controller, "disk", "{name: node1, memory: 900000GiB}");
    is_refused(&controller, &spec, "node1 need 921600000 MiB of memory and this host has ", "less memory").await;
}

#[tokio::test]
async fn a_disk_without_room_is_named_with_what_is_left() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("not tried: only root can mount");
        return;
    }
    let mut controller = prepared();
    controller.start_on_tmpfs("size=64m").await;
    let spec = spec(&controller, "disk", "{name: node1, memory: 256MiB}");
    is_refused(&controller, &spec, "node1 need 1024 MiB to begin with in ", "make room").await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_what_shows_its_owner() {
    let mut controller = prepared();
    controller.restart().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let node = format!("{{name: node1, memory: 256MiB, forwards: [{{host: {port}, guest: 80}}]}}");
    let spec = spec(&controller, "disk", &node);
    let why = format!("tcp port 127.0.0.1:{port} of this host cannot lead to node1: Address already in use");
    is_refused(&controller, &spec, &why, "ss -lntup").await;
}
