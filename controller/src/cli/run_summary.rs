// SPDX-License-Identifier: Apache-2.0
//! How long the machines of a run took to come up, and how much of that was Windlass itself.

use std::time::Duration;

use windlass_proto::v1;
use windlass_types::time::UnixMillis;

use super::table::{Cell, Table};

/// The columns after the node's name, in the order in which stages are reached.
const STAGES: [(&str, v1::MachineStage); 6] = [
    ("CREATED", v1::MachineStage::Created),
    ("BOOTING", v1::MachineStage::Booting),
    ("CLOUD-INIT", v1::MachineStage::CloudInit),
    ("INSTALLED", v1::MachineStage::AgentInstalled),
    ("ENROLLED", v1::MachineStage::Enrolled),
    ("HEALTHY", v1::MachineStage::Healthy),
];

/// A table with a row for each machine that came up, and what it shows; `None` if there was none.
pub(crate) fn table(run: &v1::Run) -> Option<String> {
    let mut table =
        Table::new(std::iter::once("NODE").chain(STAGES.map(|(title, _)| title)).chain(["JOINING"]).collect());
    let came_up: Vec<_> = run.steps.iter().filter(|step| !step.stages.is_empty()).collect();
    if came_up.is_empty() {
        return None;
    }
    for step in came_up {
        let stages = STAGES.map(|(_, stage)| cell(after(step, stage)));
        table.row(std::iter::once(Cell::new(&step.node)).chain(stages).chain([cell(joining(step))]).collect());
    }
    let mut text = Vec::new();
    table.write(&mut text, false, "").ok()?;
    let note = "Since the step began. JOINING is Windlass itself, from installed to enrolled.\n";
    Some(String::from_utf8(text).ok()? + note)
}

/// When a stage was reached, if that was seen.
fn reached(step: &v1::RunStep, stage: v1::MachineStage) -> Option<UnixMillis> {
    step.stages.iter().find(|time| time.stage() == stage).map(|time| UnixMillis(time.unix_millis))
}

/// From the beginning of a step until its machine reached a stage.
pub(crate) fn after(step: &v1::RunStep, stage: v1::MachineStage) -> Option<Duration> {
    reached(step, stage).map(|at| at.since(UnixMillis(step.started_unix_millis)))
}

/// What Windlass itself took to make a node of a machine with an agent.
pub(crate) fn joining(step: &v1::RunStep) -> Option<Duration> {
    let installed = reached(step, v1::MachineStage::AgentInstalled)?;
    reached(step, v1::MachineStage::Enrolled).map(|enrolled| enrolled.since(installed))
}

fn cell(time: Option<Duration>) -> Cell {
    Cell::new(time.map_or_else(String::new, |time| format!("{:.1} s", time.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(node: &str, stages: &[(v1::MachineStage, i64)]) -> v1::RunStep {
        let time = |(stage, after): &(v1::MachineStage, i64)| v1::StageTime {
            stage: (*stage).into(),
            unix_millis: 1_000_000 + after,
        };
        let stages = stages.iter().map(time).collect();
        v1::RunStep { node: node.into(), started_unix_millis: 1_000_000, stages, ..Default::default() }
    }

    #[test]
    fn each_machine_has_a_row_of_at_most_eighty_columns() {
        let whole: Vec<_> =
            STAGES.iter().map(|(_, stage)| *stage).zip([900, 1_400, 36_210, 125_000, 126_940, 127_000]).collect();
        let steps = vec![
            step("master1", &whole),
            step("node1\u{1b}", &whole[..2]),
            v1::RunStep { node: "deleted".into(), ..Default::default() },
        ];
        let text = table(&v1::Run { steps, ..Default::default() }).expect("two machines");
        assert_eq!(
            text,
            "NODE         CREATED  BOOTING  CLOUD-INIT  INSTALLED  ENROLLED  HEALTHY  JOINING\n\
             master1      0.9 s    1.4 s    36.2 s      125.0 s    126.9 s   127.0 s  1.9 s\n\
             node1\\u{1b}  0.9 s    1.4 s    -           -          -         -        -\n\
             Since the step began. JOINING is Windlass itself, from installed to enrolled.\n"
        );
    }

    #[test]
    fn a_run_without_machines_has_no_table() {
        assert_eq!(table(&v1::Run { steps: vec![v1::RunStep::default()], ..Default::default() }), None);
    }

    #[test]
    fn a_stage_that_was_not_seen_is_no_time_at_all() {
        let step = step("node1", &[(v1::MachineStage::Enrolled, 5_000)]);
        assert_eq!((after(&step, v1::MachineStage::Created), joining(&step)), (None, None));
        assert_eq!(after(&step, v1::MachineStage::Enrolled), Some(Duration::from_secs(5)));
    }
}
