// SPDX-License-Identifier: Apache-2.0
//! Both programs as they are installed, under a real systemd: their units, users, sockets and sandbox.
//!
//! - [`agent`]: the agent under its unit, and what it sees of other units.
//! - [`controller`]: the controller under its unit, its sockets and its watchdog.
//! - [`jobs`]: jobs as units of their own.
//! - [`users`]: what others on the bastion can do and see.

mod agent;
mod controller;
mod jobs;
mod users;

use serde_json::Value;
use windlass_tests::agent::holds;
use windlass_tests::container::{HOST, Machine};
use windlass_tests::process::Answer;
use windlass_tests::wait::{LONG, wait_until};

const CONTROLLER: &str = "windlass-controller.service";
const AGENT: &str = "windlass-agent.service";
const EXECUTOR: &str = "windlass-executor.service";

/// The name of the one node.
const NODE: &str = "web1";

/// A bastion, set up as the manual says.
async fn bastion() -> Machine {
    let machine = Machine::boot().await;
    machine.words("systemctl enable --now windlass-controller").await.done();
    machine
}

/// A bastion that is its own node.
async fn bastion_with_node() -> Machine {
    let machine = bastion().await;
    let _token = add_node(&machine).await;
    machine
}

/// Joins by the command that `windlass token create` prints, and returns the token.
async fn add_node(machine: &Machine) -> String {
    let token = cli(machine, &["token", "create", NODE, "-o", "json"]).await.json();
    let text = |name: &str| token[name].as_str().expect("text").to_owned();
    assert_eq!(text("join_endpoint"), format!("{HOST}:7601"));
    machine.shell(&format!("umask 077; printf %s {} > /root/token", text("token"))).await.done();
    machine.shell(&format!("cd /root && {}", text("join_command"))).await.done();
    machine.words("systemctl enable --now windlass-agent").await.done();
    wait_connected(machine).await;
    text("token")
}

/// Runs an operator's command line as root.
async fn cli(machine: &Machine, arguments: &[&str]) -> Answer {
    machine.run(&[&["windlass", "--no-color"], arguments].concat()).await
}

async fn node(machine: &Machine) -> Value {
    cli(machine, &["get", "node", NODE, "-o", "json"]).await.json()
}

async fn wait_connected(machine: &Machine) {
    wait_until("the node is connected", LONG, || async { holds(&node(machine).await, "connected") }).await;
}

/// Runs a line of shell on the node and returns what became of it there.
async fn job(machine: &Machine, options: &[&str], line: &str) -> Value {
    let words = [&["exec", NODE, "-o", "json"], options, &["--", "sh", "-c", line]].concat();
    result(&cli(machine, &words).await)
}

/// Begins to run a line of shell on the node and returns the job's id once it runs there.
async fn begin(machine: &Machine, line: &str) -> String {
    let words = ["exec", NODE, "--detach", "--", "sh", "-c", line];
    let begun = cli(machine, &words).await;
    assert_eq!(begun.code, 7, "detached, so the work goes on: {begun:?}");
    let id = begun.stdout.trim().to_owned();
    let unit = unit(&id);
    wait_until("the job's unit runs", LONG, || async { machine.property(&unit, "SubState").await == "running" }).await;
    id
}

/// Follows a job to its end and returns what became of it on the node.
async fn end(machine: &Machine, id: &str) -> Value {
    result(&cli(machine, &["attach", id, "-o", "json"]).await)
}

fn result(answer: &Answer) -> Value {
    let result: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("no JSON in {answer:?}"));
    result["items"][0].clone()
}

fn unit(job: &str) -> String {
    format!("windlass-job-{job}.service")
}

/// Waits until a unit is active with another main process than `before`. One question for both: between two, much happens.
async fn wait_replaced(machine: &Machine, unit: &str, before: &str) {
    wait_until("another process of the unit runs", LONG, || async {
        let state = machine.words(&format!("systemctl show -p ActiveState -p MainPID {unit}")).await.ok();
        let has = |line: &str| state.lines().any(|found| found == line);
        has("ActiveState=active") && !has("MainPID=0") && !has(&format!("MainPID={before}"))
    })
    .await;
}

/// Makes the watchdog of a unit a matter of seconds.
async fn quick_watchdog(machine: &Machine, unit: &str) {
    machine.write(&format!("/etc/systemd/system/{unit}.d/watchdog.conf"), "[Service]\nWatchdogSec=3s\n");
    machine.words("systemctl daemon-reload").await.done();
    machine.words(&format!("systemctl restart {unit}")).await.done();
}

/// Stops a unit's process where it is and sees that systemd starts another.
async fn a_stuck_process_is_replaced(machine: &Machine, unit: &str) {
    let stuck = machine.property(unit, "MainPID").await;
    machine.words(&format!("systemctl kill -s STOP {unit}")).await.done();
    wait_replaced(machine, unit, &stuck).await;
    assert_eq!(machine.property(unit, "NRestarts").await, "1");
    let journal = machine.journal(&format!("-u {unit}")).await;
    let said = journal.iter().any(|line| line["MESSAGE"].as_str().unwrap_or("").contains("Watchdog timeout"));
    assert!(said, "nothing of the watchdog in {journal:?}");
}
