// SPDX-License-Identifier: Apache-2.0
//! What users of the bastion can do and see who are not root.

use windlass_tests::container::Machine;

use super::{AGENT, CONTROLLER, EXECUTOR, add_node, bastion, cli};

async fn add_users(machine: &Machine) {
    machine.words("groupadd --system ops").await.done();
    machine.words("useradd --create-home --groups ops ana").await.done();
    machine.words("useradd --create-home bob").await.done();
}

#[tokio::test]
async fn the_group_in_the_configuration_gives_a_role_and_nothing_else_does() {
    let machine = bastion().await;
    add_users(&machine).await;
    let refused = machine.run_as("ana", "windlass get nodes").await;
    refused.assert_refused(77, "ana@localhost has the role none", "[socket_access]");

    machine.write("/etc/windlass/controller.toml", "[socket_access]\noperators = [\"@ops\"]\nviewers = [\"bob\"]\n");
    machine.words("systemctl restart windlass-controller").await.done();
    machine.run_as("ana", "windlass get nodes").await.done();
    machine.run_as("ana", "windlass token create web1").await.done();
    machine.run_as("ana", "windlass operator create eve --role admin --out /home/ana/eve.toml").await.assert_refused(
        77,
        "ana@localhost has the role operator",
        "[socket_access]",
    );
    machine.run_as("bob", "windlass get nodes").await.done();
    let refused = machine.run_as("bob", "windlass token create web2").await;
    refused.assert_refused(77, "bob@localhost has the role viewer", "[socket_access]");
}

#[tokio::test]
async fn a_user_without_rights_finds_nothing_secret() {
    let machine = bastion().await;
    let token = add_node(&machine).await;
    add_users(&machine).await;
    for path in [
        "/var/lib/windlass",
        "/var/lib/windlass-agent",
        "/var/lib/windlass-executor",
        "/var/lib/windlass/audit",
        "/var/lib/windlass/pki",
    ] {
        assert_ne!(machine.run_as("bob", &format!("ls {path}")).await.code, 0, "{path} can be listed");
        assert_ne!(machine.run_as("bob", &format!("cp -r {path} /tmp/copy")).await.code, 0, "{path} can be copied");
    }
    // Nobody but root and the controller changes what is beside the socket, or puts another in its place.
    assert_ne!(machine.run_as("bob", "mv /run/windlass/windlass.sock /run/windlass/other").await.code, 0);
    for unit in [CONTROLLER, AGENT, EXECUTOR] {
        let pid = machine.property(unit, "MainPID").await;
        for name in ["environ", "mem", "maps", "fd/0"] {
            assert_ne!(machine.run_as("bob", &format!("head -c 1 /proc/{pid}/{name}")).await.code, 0, "{unit} {name}");
        }
        assert_eq!(machine.property(unit, "LimitCORE").await, "0", "{unit} could leave its keys in a core dump");
    }
    // Not even root sees a secret in arguments or environments: they go into support files and process lists.
    let secret = token.split_once('.').expect("ID.SECRET").1;
    let seen = machine.shell("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'").await.stdout;
    assert!(seen.contains("/usr/bin/windlass-agent") && !seen.contains(secret), "the token is seen");
    let journal = machine.words("journalctl --no-pager -o export").await.ok();
    let audit = machine.shell("cat /var/lib/windlass/audit/*").await.ok();
    assert!(!journal.contains(secret) && !audit.contains(secret), "the token is recorded");
    assert!(!journal.contains("PRIVATE KEY"), "a key is in the journal");
    cli(&machine, &["audit", "verify"]).await.done();
}
