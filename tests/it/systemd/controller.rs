// SPDX-License-Identifier: Apache-2.0
//! The controller under its unit.

use std::time::Duration;

use tokio::time::Instant;
use windlass_tests::process::run;
use windlass_tests::wait::{LONG, wait_until};

use super::{
    CONTROLLER, NODE, bastion, bastion_with_node, begin, cli, end, job, node, quick_watchdog, wait_connected,
    wait_replaced,
};

const SOCKETS: [&str; 3] =
    ["windlass-controller.socket", "windlass-controller-join.socket", "windlass-controller-local.socket"];

#[tokio::test]
async fn starts_at_the_first_knock_on_a_socket_and_stops_cleanly() {
    let machine = bastion().await;
    for _ in 0..2 {
        machine.words("systemctl stop windlass-controller.service").await.done();
        assert_eq!(machine.property(CONTROLLER, "Result").await, "success");
        assert_eq!(machine.property(CONTROLLER, "ExecMainStatus").await, "0");
        for socket in SOCKETS {
            assert_eq!(machine.property(socket, "SubState").await, "listening", "{socket}");
        }
        cli(&machine, &["get", "nodes"]).await.done();
        assert_eq!(machine.property(CONTROLLER, "ActiveState").await, "active");
    }
    // The sockets are systemd's, not opened again by the controller: their inodes are.
    let pid = machine.property(CONTROLLER, "MainPID").await;
    let ours = machine.shell(&format!("readlink /proc/{pid}/fd/* | grep socket: | sort")).await.ok();
    let theirs = machine.shell("readlink /proc/1/fd/* | grep socket: | sort").await.ok();
    let shared = ours.lines().filter(|inode| theirs.lines().any(|other| other == *inode)).count();
    assert!(shared >= SOCKETS.len(), "{shared} of {ours} are in {theirs}");
}

#[tokio::test]
async fn runs_as_its_own_user_in_its_sandbox_and_tells_systemd_how_it_is() {
    let machine = bastion().await;
    assert_eq!(machine.property(CONTROLLER, "Type").await, "notify");
    let pid = machine.property(CONTROLLER, "MainPID").await;
    assert_eq!(machine.words(&format!("ps -o user= -p {pid}")).await.ok().trim(), "windlass");
    let status = machine.words(&format!("cat /proc/{pid}/status")).await.ok();
    for held in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(held), "no {held:?} in {status}");
    }
    wait_until("the status line is there", LONG, || async {
        let text = machine.words("systemctl status --no-pager windlass-controller").await.stdout;
        text.contains("Status: \"0 agents connected, 0 jobs under way\"")
    })
    .await;
    let state = machine.words("stat -c %U:%G:%a /var/lib/windlass").await.ok();
    assert_eq!(state.trim(), "windlass:windlass:700");
    let open = machine.shell("find /var/lib/windlass ! -user windlass -o -perm /077").await.ok();
    assert_eq!(open, "", "others could open these");
}

#[tokio::test]
async fn a_stuck_controller_is_replaced_by_the_watchdog() {
    let machine = bastion().await;
    quick_watchdog(&machine, CONTROLLER).await;
    super::a_stuck_process_is_replaced(&machine, CONTROLLER).await;
    cli(&machine, &["get", "nodes"]).await.done();
}

#[tokio::test]
async fn nobody_who_calls_during_a_restart_is_turned_away() {
    let machine = bastion_with_node().await;
    for _ in 0..3 {
        let before = machine.property(CONTROLLER, "MainPID").await;
        let mut command = machine.command(&["systemctl", "restart", CONTROLLER]);
        let restart = tokio::spawn(async move { run(&mut command).await });
        let mut calls = 0;
        while !restart.is_finished() {
            cli(&machine, &["get", "nodes"]).await.done();
            calls += 1;
        }
        restart.await.expect("it ends").done();
        assert!(calls > 0, "nobody called");
        wait_replaced(&machine, CONTROLLER, &before).await;
        wait_connected(&machine).await;
    }
    let begun = Instant::now();
    machine.words("systemctl stop windlass-controller.service").await.done();
    assert!(begun.elapsed() < Duration::from_secs(5), "an open session held up the end: {:?}", begun.elapsed());
    assert_eq!(machine.property(CONTROLLER, "Result").await, "success");
}

#[tokio::test]
async fn everything_is_there_again_after_a_power_cut() {
    let mut machine = bastion_with_node().await;
    cli(&machine, &["node", "label", NODE, "rack=r12"]).await.done();
    let job = begin(&machine, "sleep 100000").await;
    machine.power_cut().await;
    wait_connected(&machine).await;
    assert_eq!(node(&machine).await["labels"]["rack"], "r12");
    let lost = end(&machine, &job).await;
    assert_eq!((&lost["ok"], lost["exit_code"].is_null()), (&false.into(), true), "nobody knows how it ended: {lost}");
    cli(&machine, &["audit", "verify"]).await.done();
    let next = super::job(&machine, &[], "exit 5").await;
    assert_eq!(next["exit_code"], 5, "{next}");
}

#[tokio::test]
async fn what_happens_is_in_the_journal_with_its_fields() {
    let machine = bastion_with_node().await;
    assert_eq!(job(&machine, &[], "exit 3").await["exit_code"], 3);
    let lines = machine.journal("_SYSTEMD_UNIT=windlass-controller.service NODE=web1").await;
    let kinds: Vec<_> = lines.iter().filter_map(|line| line["KIND"].as_str()).collect();
    for kind in ["node.joined", "node.connected"] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    for unit in ["windlass-controller", "windlass-executor"] {
        let about_job = machine.journal(&format!("_SYSTEMD_UNIT={unit}.service JOB=1")).await;
        assert!(!about_job.is_empty(), "{unit} wrote nothing about the job");
    }
}

#[tokio::test]
async fn systemd_finds_nothing_wrong_with_what_is_installed() {
    let machine = bastion_with_node().await;
    let units = "windlass-controller.service windlass-agent.service windlass-executor.service \
                 windlass-executor.socket windlass-controller.socket windlass-controller-join.socket \
                 windlass-controller-local.socket";
    let verified = machine.words(&format!("systemd-analyze verify --man=no {units}")).await;
    assert_eq!((verified.code, verified.stderr.as_str()), (0, ""), "{verified:?}");
    for unit in [CONTROLLER, super::AGENT, super::EXECUTOR] {
        let online = exposure(&machine.words(&format!("systemd-analyze security --no-pager {unit}")).await.ok());
        let file = format!("/usr/lib/systemd/system/{unit}");
        let offline = machine.words(&format!("systemd-analyze security --no-pager --offline=true {file}")).await.ok();
        assert_eq!(online, exposure(&offline), "{unit}: what runs is not what the unit says");
    }
    let failed = machine.words("systemctl list-units --failed --plain --no-legend windlass*").await.ok();
    assert_eq!(failed, "");
}

fn exposure(text: &str) -> String {
    text.lines().find(|line| line.contains("Overall exposure level")).expect("a level").to_owned()
}
