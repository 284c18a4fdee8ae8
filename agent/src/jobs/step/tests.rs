// SPDX-License-Identifier: Apache-2.0
//! Programs of a step that an earlier agent started.

use windlass_types::action::{Action, Argv};
use windlass_types::name::NodeName;

use super::*;
use crate::host::clock::SystemClock;
use crate::host::fake::FakeHost;
use crate::jobs::JobParts;
use crate::jobs::fake::{FakeRunner, Script};
use crate::jobs::runner::Runner as _;
use crate::jobs::signature::OrderKey;
use crate::test_pki::TestOrders;
use crate::transfer::Carriers;

fn order() -> Order {
    Order {
        job: JobId::new("1").expect("digits"),
        epoch: 1,
        sequence: 1,
        expires: None,
        timeout: None,
        output_limit: 1 << 20,
        action: Action::Exec(Argv::new(vec!["true".into()]).expect("valid")),
    }
}

/// A step that begins again, with its first program under way for a day.
async fn taken_up(state_dir: &Path, ends: Ends) -> Programs {
    let runner = FakeRunner::new(|_| Script { takes: Duration::from_secs(24 * 3600), ..Script::default() });
    let jobs = Jobs::open(JobParts {
        node: NodeName::new("node1").expect("valid"),
        state_dir: state_dir.to_owned(),
        exec: true,
        order_key: OrderKey::new(TestOrders::new().public()),
        runner: Arc::new(runner.clone()),
        host: Arc::new(FakeHost::new("node1")),
        carriers: Carriers::new(state_dir.join("transfers"), 1),
        clock: Arc::new(SystemClock),
        ended: CancellationToken::new(),
    });
    let (jobs, order) = (jobs.expect("opens"), order());
    for record in [Record::Accepted(order.clone()), Record::Program { job: order.job.clone(), number: 1, ends }] {
        jobs.table().journal.append(record).expect("appended");
    }
    let key = program_key(&order.job, 1).expect("valid");
    let spool = Spool::begin(&programs_root(state_dir), &key, MOST_PRINTED).expect("a spool");
    let argv = Argv::new(vec!["set-default".into()]).expect("valid");
    runner.start(&key, &argv, &spool).await.expect("started");
    let spool = Spool::begin(&jobs.spool_root(), &order.job, LEAST_KEPT).expect("a spool");
    Programs { jobs, order, spool, stop: CancellationToken::new(), last: tokio::sync::Mutex::default() }
}

#[tokio::test(start_paused = true)]
async fn an_adopted_program_that_nobody_may_stop_has_a_limit_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let programs = taken_up(dir.path(), Ends { may_be_killed: false, ignores_stop: true }).await;
    let begun = Instant::now();
    programs.stop.cancel();
    assert_eq!(programs.settle().await, None, "it was late");
    assert_eq!(begun.elapsed().as_secs(), UNSTOPPABLE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_adopted_program_has_the_time_of_its_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let programs = taken_up(dir.path(), Ends::default()).await;
    let begun = Instant::now();
    assert!(programs.settle().await.is_some_and(|ran| ran.code == 0));
    assert!(begun.elapsed() > UNSTOPPABLE);
}
