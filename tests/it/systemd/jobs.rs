// SPDX-License-Identifier: Apache-2.0
//! Jobs as units of their own.

use windlass_tests::container::Machine;
use windlass_tests::wait::{LONG, wait_until};

use super::{AGENT, EXECUTOR, NODE, bastion_with_node, begin, cli, end, job, unit, wait_connected, wait_replaced};

/// A job that writes, waits for a file and writes again.
const WAITS: &str = "echo begun; until [ -e /run/go ]; do sleep 0.05; done; echo ended; exit 7";

async fn assert_whole(machine: &Machine, id: &str) {
    machine.words("touch /run/go").await.done();
    let result = end(machine, id).await;
    assert_eq!(result["exit_code"], 7, "{result}");
    assert_eq!(result["stdout"], "begun\nended\n", "{result}");
    assert_eq!(result["stdout_missing_bytes"], 0, "{result}");
}

#[tokio::test]
async fn a_job_is_a_unit_of_its_own_outside_of_the_agents_sandbox() {
    let machine = bastion_with_node().await;
    let result = job(&machine, &[], "cat /proc/self/cgroup; grep NoNewPrivs /proc/self/status; env").await;
    let seen = result["stdout"].as_str().expect("text");
    assert!(seen.contains("/system.slice/windlass-job-1.service\n"), "{seen}");
    assert!(seen.contains("NoNewPrivs:\t0\n") && !seen.contains("windlass-agent"), "{seen}");
    assert!(!seen.contains("NOTIFY_SOCKET") && !seen.contains("WATCHDOG"), "the agent's environment: {seen}");
    assert_eq!(machine.property(&unit("1"), "LoadState").await, "not-found", "what ended is left behind");
    let failed = job(&machine, &[], "exit 3").await;
    assert_eq!(failed["exit_code"], 3);
    assert_eq!(machine.property(&unit("2"), "LoadState").await, "not-found", "what failed is left behind");
}

#[tokio::test]
async fn a_job_outlives_either_half_that_is_killed_and_nothing_of_it_is_lost() {
    let machine = bastion_with_node().await;
    for half in [AGENT, EXECUTOR] {
        let before = machine.property(half, "MainPID").await;
        let id = begin(&machine, WAITS).await;
        machine.words(&format!("systemctl kill -s KILL {half}")).await.done();
        wait_replaced(&machine, half, &before).await;
        assert_eq!(machine.property(&unit(&id), "SubState").await, "running");
        assert_whole(&machine, &id).await;
        machine.words("rm /run/go").await.done();
    }
}

#[tokio::test]
async fn a_job_outlives_a_restart_of_the_agent_and_nothing_of_it_is_lost() {
    let machine = bastion_with_node().await;
    let id = begin(&machine, WAITS).await;
    machine.words("systemctl restart windlass-agent").await.done();
    assert_eq!(machine.property(&unit(&id), "SubState").await, "running");
    assert_whole(&machine, &id).await;
}

#[tokio::test]
async fn a_job_that_ends_while_the_agent_is_stopped_is_reported_later() {
    let machine = bastion_with_node().await;
    let id = begin(&machine, WAITS).await;
    machine.words("systemctl stop windlass-agent").await.done();
    assert_eq!(machine.property(AGENT, "Result").await, "success");
    assert_eq!(machine.property(&unit(&id), "SubState").await, "running", "the agent ended the job");
    machine.words("touch /run/go").await.done();
    wait_until("the job has ended", LONG, || async { machine.property(&unit(&id), "SubState").await == "exited" })
        .await;
    machine.words("systemctl start windlass-agent").await.done();
    wait_connected(&machine).await;
    assert_whole(&machine, &id).await;
}

#[tokio::test]
async fn a_job_outlives_a_restart_of_the_controller() {
    let machine = bastion_with_node().await;
    let id = begin(&machine, WAITS).await;
    machine.words("systemctl restart windlass-controller").await.done();
    assert_whole(&machine, &id).await;
}

#[tokio::test]
async fn every_kind_of_end_is_told_as_it_was() {
    let machine = bastion_with_node().await;
    let killed = job(&machine, &[], "kill -9 $$").await;
    assert_eq!((&killed["result"], &killed["signal"]), (&"signaled".into(), &9.into()), "{killed}");
    let late = job(&machine, &["--timeout", "1s"], "echo soon; sleep 100").await;
    assert_eq!((&late["result"], &late["stdout"]), (&"timed-out".into(), &"soon\n".into()), "{late}");

    let polite = begin(&machine, "trap 'echo bye; exit 9' TERM; while :; do sleep 0.05; done").await;
    cli(&machine, &["stop", &polite]).await.done();
    let stopped = end(&machine, &polite).await;
    assert_eq!((&stopped["result"], &stopped["stdout"]), (&"stopped".into(), &"bye\n".into()), "{stopped}");

    let absent = cli(&machine, &["exec", NODE, "-o", "json", "--", "no-such-program"]).await;
    let absent = super::result(&absent);
    assert!(absent["message"].as_str().expect("text").contains("no-such-program"), "{absent}");
    let units = machine.words("systemctl list-units --all --plain --no-legend windlass-job-*").await.ok();
    assert_eq!(units, "", "units are left behind");
}

#[tokio::test]
async fn a_job_outlives_the_bus_and_a_systemd_that_executes_itself_anew() {
    let machine = bastion_with_node().await;
    let id = begin(&machine, WAITS).await;
    machine.words("systemctl kill -s KILL dbus.service").await.done();
    machine.words("systemctl daemon-reexec").await.done();
    assert_eq!(job(&machine, &[], "exit 3").await["exit_code"], 3, "no job can begin any more");
    machine.words("systemctl kill -s KILL dbus.service").await.done();
    assert_whole(&machine, &id).await;
    let units = machine.words("systemctl list-units --all --plain --no-legend windlass-job-*").await.ok();
    assert_eq!(units, "", "units are left behind");
}

/// systemd has something else to do before it starts jobs, as in a boot, until the file /run/go is there.
async fn hold_back_starts(machine: &Machine) {
    let gate = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.05; done'\n";
    machine.write("/etc/systemd/system/gate.service", gate);
    machine.write("/etc/systemd/system/windlass-job-.service.d/gate.conf", "[Unit]\nAfter=gate.service\n");
    machine.words("systemctl daemon-reload").await.done();
    machine.words("systemctl start --no-block gate.service").await.done();
}

/// Begins a job that systemd does not start yet, and returns its id.
async fn begin_held_back(machine: &Machine, line: &str) -> String {
    let begun = cli(machine, &["exec", NODE, "--detach", "--", "sh", "-c", line]).await;
    let id = begun.stdout.trim().to_owned();
    wait_until("systemd has the start before it", LONG, || async {
        machine.words("systemctl list-jobs --plain --no-legend").await.ok().contains(&unit(&id))
    })
    .await;
    id
}

#[tokio::test]
async fn a_program_that_systemd_starts_later_is_waited_for() {
    let machine = bastion_with_node().await;
    hold_back_starts(&machine).await;
    let id = begin_held_back(&machine, "echo late; exit 5").await;
    assert_eq!(machine.property(&unit(&id), "ActiveState").await, "inactive");
    machine.words("touch /run/go").await.done();
    let result = end(&machine, &id).await;
    assert_eq!((&result["exit_code"], &result["stdout"]), (&5.into(), &"late\n".into()), "{result}");
}

#[tokio::test]
async fn a_program_that_is_stopped_before_systemd_starts_it_never_begins() {
    let machine = bastion_with_node().await;
    hold_back_starts(&machine).await;
    let id = begin_held_back(&machine, "touch /run/begun").await;
    cli(&machine, &["stop", &id]).await.done();
    let result = end(&machine, &id).await;
    assert_eq!(result["result"], "stopped", "{result}");
    let late = job(&machine, &["--timeout", "1s"], "touch /run/begun").await;
    assert_eq!(late["result"], "timed-out", "{late}");
    machine.words("touch /run/go").await.done();
    assert_eq!(job(&machine, &[], "[ ! -e /run/begun ]").await["exit_code"], 0, "it was begun after its end was told");
}

#[tokio::test]
async fn a_job_that_does_not_hear_is_killed_with_all_it_started() {
    let machine = bastion_with_node().await;
    let deaf = begin(&machine, "trap '' TERM; sleep 98765 & while :; do sleep 0.05; done").await;
    cli(&machine, &["stop", &deaf]).await.done();
    let stopped = end(&machine, &deaf).await;
    assert_eq!(stopped["result"], "stopped", "{stopped}");
    let left = machine.words("pgrep -f 98765").await.stdout;
    assert_eq!(left, "", "what the job started goes on");
}

#[tokio::test]
async fn output_is_complete_up_to_its_bound_and_counted_beyond() {
    let machine = bastion_with_node().await;
    let numbers = job(&machine, &[], "seq 100000; echo done >&2").await;
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(numbers["stdout"] == expected.as_str(), "{} bytes came", numbers["stdout"].as_str().map_or(0, str::len));
    assert_eq!(numbers["stderr"], "done\n");
    let flood = job(&machine, &[], "head -c 3000000 /dev/zero | tr '\\0' x").await;
    let kept = flood["stdout"].as_str().expect("text").len() as u64;
    assert_eq!((kept, flood["stdout_missing_bytes"].as_u64()), (1_048_576, Some(3_000_000 - 1_048_576)));
    assert_eq!(flood["exit_code"], 0);
}
