// SPDX-License-Identifier: Apache-2.0
//! A roll over three nodes whose controller is killed again and again while it carries it out: `windlass serve` as a process
//! with its database on a disk, ended by SIGKILL and started again. Nobody does anything else, and the roll ends as one that
//! nobody disturbs.
//!
//! In [`crate::grid`] the test chooses the write that the controller dies at, which for that is a runtime inside the test.
//! Here an instant is something that the run tells for the first time and a short time after it, chosen by a seed. So the
//! instants together fall into every step, into the time in which nodes come back, and, because what a controller told last
//! may be read only from the next one, into the moments in which that finds the run. Some are killed before they serve.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use windlass_proto::v1;
use windlass_proto::v1::event_service_client::EventServiceClient;
use windlass_proto::v1::run_service_client::RunServiceClient;
use windlass_tests::controller::Controller;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::process::Running;
use windlass_tests::wait::LONG;

use crate::grid::roll::{NODES, STEPS, are_well, has_become, is_all_done, outdated, spec, took_turns};

/// Each is a roll of its own, all at the same time.
const SEEDS: [u64; 2] = [1, 2];

/// A controller lives at most so long after what it told: about as long as a step takes.
const LATEST: Duration = Duration::from_millis(40);

/// One that is killed while it begins lives at most so long: about as long as it takes to serve.
const BEGINNING: Duration = Duration::from_millis(100);

/// What a controller may be killed after.
const TOLD: [&str; 5] = ["step.started", "step.done", "lease.granted", "lease.released", "run.ended"];

/// Each of the steps is told of twice. When several nodes are at work one kill may come after a few of these; with fewer kills
/// than this the test has not seen what was told.
const FEWEST_KILLS: usize = STEPS.len() * 2;

/// A roll and its controllers.
struct Siege {
    controller: Controller,
    nodes: Vec<ModelledNode>,
    random: fastrand::Rng,
    /// Up to which event everything was read.
    cursor: u64,
    told: BTreeSet<String>,
    /// Nodes that were seen in the hands of the run.
    were_held: BTreeSet<String>,
    kills: usize,
    how: String,
}

impl Siege {
    /// A roll that has begun.
    async fn begun(seed: u64) -> Self {
        let controller = Controller::start().await;
        let mut nodes = Vec::new();
        for name in NODES {
            let node = ModelledNode::start(&controller, name).await;
            node.host.change(outdated);
            nodes.push(node);
        }
        are_well(controller.channel().await, nodes.len()).await;
        std::fs::write(controller.directory().join("cluster.yaml"), spec(&NODES, false, 10)).expect("written");
        let begun = controller.words("apply -f cluster.yaml --yes --detach").await;
        assert_eq!(begun.code, 7, "{begun:?}");
        let (random, how) = (fastrand::Rng::with_seed(seed), format!("seed {seed}"));
        let (cursor, told, were_held, kills) = Default::default();
        Self { controller, nodes, random, cursor, told, were_held, kills, how }
    }

    /// Kills the controller at the next instant, and lets another one begin.
    async fn kill9(&mut self) {
        self.until_told().await;
        self.at_most_one_is_held().await;
        sleep(self.some(LATEST)).await;
        self.controller.kill9().await;
        self.kills += 1;
        if self.random.u8(..4) == 0 {
            let begins = Running::start(&mut self.controller.serve_command(), &self.controller.log_path());
            sleep(self.some(BEGINNING)).await;
            begins.kill9().await;
            self.kills += 1;
        }
        self.controller.restart().await;
        // Agents that lose one controller after the other dial ever more slowly; new ones do not, and the test takes seconds.
        self.nodes.iter().for_each(ModelledNode::renew_front);
    }

    /// A part of this time.
    fn some(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.random.f64())
    }

    /// Waits for something that was not told before.
    async fn until_told(&mut self) {
        let request = v1::WatchEventsRequest { after: self.cursor, follow: true, ..Default::default() };
        let events = EventServiceClient::new(self.controller.channel().await).watch_events(request).await;
        let mut events = events.expect("events").into_inner();
        loop {
            let Ok(batch) = timeout(LONG, events.message()).await else {
                let shown = self.controller.words("run show r1").await;
                panic!("{}: nothing more happens after {} kills: {shown:?}", self.how, self.kills);
            };
            let batch = batch.expect("it serves").expect("it follows").events;
            self.cursor = batch.last().map_or(self.cursor, |event| event.cursor);
            let before = self.told.len();
            self.told.extend(batch.iter().filter_map(told));
            if self.told.len() > before {
                return;
            }
        }
    }

    async fn at_most_one_is_held(&mut self) {
        let mut runs = RunServiceClient::new(self.controller.channel().await);
        let holds = runs.list_holds(v1::ListHoldsRequest {}).await.expect("holds").into_inner().holds;
        assert!(holds.len() <= 1, "{}: after {} kills: {holds:?}", self.how, self.kills);
        self.were_held.extend(holds.into_iter().map(|hold| hold.node));
    }

    /// How the run stands.
    async fn state(&self) -> v1::RunState {
        let mut runs = RunServiceClient::new(self.controller.channel().await);
        let runs = runs.list_runs(v1::ListRunsRequest::default()).await.expect("runs").into_inner().runs;
        assert_eq!(runs.len(), 1, "{}: {runs:?}", self.how);
        runs[0].state()
    }

    /// Sees that it has ended as one that nobody disturbed.
    async fn is_over(&self) {
        let how = format!("{}, {} kills", self.how, self.kills);
        let shown = self.controller.words("run show r1 -o json").await.json();
        let steps = shown["steps"].as_array().expect("a list");
        assert_eq!((&shown["state"], steps.len()), (&"succeeded".into(), NODES.len() * STEPS.len()), "{how}: {shown}");
        assert!(steps.iter().all(|step| step["state"] == "done"), "{how}: {shown}");
        self.nodes.iter().for_each(|node| has_become(node, 1, &how));
        took_turns(&self.nodes, &how);
        let mut runs = RunServiceClient::new(self.controller.channel().await);
        let holds = runs.list_holds(v1::ListHoldsRequest {}).await.expect("holds").into_inner().holds;
        assert!(holds.is_empty(), "{how}: {holds:?}");
        let plan = || async { self.controller.words("plan -f cluster.yaml --detailed-exitcode").await };
        is_all_done(&how, plan).await;
        self.controller.words("audit verify").await.done();
        assert!(self.kills >= FEWEST_KILLS, "{how}: what was told was not seen: {:?}", self.told);
        assert!(!self.were_held.is_empty(), "{how}: holds were never seen");
    }
}

/// What an event tells of the run and which is told once, however many controllers there are.
fn told(event: &v1::Event) -> Option<String> {
    let subject = event.message.split(' ').next().unwrap_or_default();
    TOLD.contains(&event.kind.as_str()).then(|| format!("{} {} {subject}", event.kind, event.node))
}

async fn goes_on_by_itself(seed: u64) {
    let mut siege = Siege::begun(seed).await;
    // Asked of each controller only once, when it begins: the end of the run, too, is an instant.
    while siege.state().await == v1::RunState::Running {
        siege.kill9().await;
    }
    siege.is_over().await;
}

#[tokio::test]
async fn a_roll_whose_controller_is_killed_all_the_time_does_everything_once_and_one_node_after_the_other() {
    join_all(SEEDS.map(goes_on_by_itself)).await;
}
