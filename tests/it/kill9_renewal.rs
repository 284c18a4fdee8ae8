// SPDX-License-Identifier: Apache-2.0
//! SIGKILL of the agent at every point of a renewal: it comes back with a valid identity, and renews to the end.
//!
//! Two of the points are inside a write, to a file beside the one that it then replaces. There a directory lies in the place
//! of that file: the agent says in its log that it cannot write, which tells where it is, and what a write leaves that was
//! cut off is put there once it was killed. The other points show in the directory or in the audit log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use windlass_tests::agent::{Agent, is_connected};
use windlass_tests::controller::Controller;
use windlass_tests::wait::{LONG, wait_until};

/// Renewed after half of it. Long enough that an agent that was killed then is back before its end, even on a busy machine
/// (and if not, it renews by possession, which is no less right).
const LIFE: Duration = Duration::from_secs(12);

/// How often it is looked whether the agent has come to its point: well below the time of a flush.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Where the agent is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The new key is made and not on the disk.
    BeforeRequest,
    /// The key is on the disk and the request on its way, or not even that.
    KeyKept,
    /// The controller has the request.
    Requested,
    /// The answer is here and not on the disk.
    Answered,
    /// Key and certificate are on the disk, and the key is also where the next one to ask for is kept.
    Written,
}

const POINTS: [Point; 5] = [Point::BeforeRequest, Point::KeyKept, Point::Requested, Point::Answered, Point::Written];

/// A directory where the agent wants to write a file.
struct Trap<'a> {
    file: &'a Path,
    place: PathBuf,
}

impl<'a> Trap<'a> {
    fn set(file: &'a Path) -> Self {
        let place = PathBuf::from(format!("{}.new", file.display()));
        std::fs::create_dir(&place).expect("a directory");
        Self { file, place }
    }

    /// Whether the agent has tried to write.
    fn has_caught(&self, agent: &Agent) -> bool {
        agent.log().contains(&format!("write {}", self.file.display()))
    }

    /// Leaves what a write does that was cut off.
    fn leaves_half(self) {
        let place = self.place.clone();
        drop(self);
        std::fs::write(place, "{\"node\": \"no").expect("half a file");
    }
}

impl Drop for Trap<'_> {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.place).expect("nothing put there by the agent");
    }
}

struct Case<'a> {
    controller: &'a Controller,
    agent: Agent,
    point: Point,
}

impl Case<'_> {
    fn identity_file(&self) -> PathBuf {
        self.agent.state_dir().join("identity.json")
    }

    fn key_file(&self) -> PathBuf {
        self.agent.state_dir().join("pending-key")
    }

    fn identity(&self) -> Value {
        let text = std::fs::read_to_string(self.identity_file()).expect("an identity");
        serde_json::from_str(&text).expect("JSON, whenever the agent is killed")
    }

    /// Requests of this node to renew that the controller has recorded.
    fn requests(&self, object: &str) -> usize {
        let audit = self.controller.audit();
        audit.iter().filter(|record| record["verb"] == "renew" && record["object"] == object).count()
    }

    async fn until(&self, mut condition: impl FnMut() -> bool) {
        let begun = tokio::time::Instant::now();
        while !condition() {
            assert!(begun.elapsed() < LONG, "{} does not come to {:?}", self.agent.name, self.point);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Lets the agent come to its point, where it is killed; leaves the disk as it was there.
    async fn killed_at_its_point(&mut self, object: &str) {
        let (identity, key) = (self.identity_file(), self.key_file());
        let before = self.identity();
        match self.point {
            Point::BeforeRequest => {
                let trap = Trap::set(&key);
                self.agent.run_unless_running();
                self.until(|| trap.has_caught(&self.agent)).await;
                self.agent.kill9().await;
                trap.leaves_half();
                assert!(!key.exists(), "the key was not to get to the disk");
            }
            Point::KeyKept => {
                let _trap = Trap::set(&identity);
                self.agent.run_unless_running();
                self.until(|| key.exists()).await;
                self.agent.kill9().await;
            }
            Point::Requested => {
                let (_trap, requests) = (Trap::set(&identity), self.requests(object));
                self.agent.run_unless_running();
                self.until(|| self.requests(object) > requests).await;
                self.agent.kill9().await;
            }
            Point::Answered => {
                let trap = Trap::set(&identity);
                self.agent.run_unless_running();
                self.until(|| trap.has_caught(&self.agent)).await;
                self.agent.kill9().await;
                trap.leaves_half();
            }
            Point::Written => {
                self.agent.run_unless_running();
                self.until(|| self.identity() != before).await;
                self.agent.kill9().await;
                // The next thing it does is to remove this; between the two, only luck could kill it.
                std::fs::write(&key, self.identity()["key_pem"].as_str().expect("a key")).expect("put back");
            }
        }
        let is_new = self.identity() != before;
        assert_eq!(is_new, self.point == Point::Written, "{:?}: another identity was to be on the disk", self.point);
    }

    async fn comes_back_and_renews(&mut self) {
        let (name, point) = (self.agent.name.clone(), self.point);
        let before = self.identity();
        self.agent.run();
        wait_until(&format!("{name}, killed at {point:?}, has renewed"), LONG, || async {
            self.identity() != before && !self.key_file().exists() && is_connected(self.controller, &name).await
        })
        .await;
        let ran = self.controller.cli(&["exec", &name, "--", "echo", "alive"]).await;
        assert_eq!(ran.code, 0, "{point:?}: {ran:?}\n{}", self.agent.log());
    }
}

async fn controller() -> Controller {
    let config = format!("[certificates]\nagent_life = \"{}s\"\n[session]\nheartbeat_seconds = 1\n", LIFE.as_secs());
    Controller::start_with(&config).await
}

#[tokio::test]
async fn an_agent_killed_at_any_point_of_a_renewal_comes_back_with_a_valid_identity() {
    let controller = &controller().await;
    join_all(POINTS.map(|point| async move {
        let name = format!("{point:?}").to_lowercase();
        let agent = Agent::connected(controller, &name).await;
        let mut case = Case { controller, agent, point };
        case.killed_at_its_point(&format!("node/{name}")).await;
        case.comes_back_and_renews().await;
    }))
    .await;
    assert_eq!(controller.words("audit verify").await.code, 0);
}

#[tokio::test]
async fn an_agent_killed_at_any_point_of_a_renewal_by_possession_comes_back_with_a_valid_identity() {
    let controller = &controller().await;
    join_all(POINTS.map(|point| async move {
        let name = format!("{point:?}").to_lowercase();
        let agent = Agent::joined(controller, &name).await;
        let node = controller.cli(&["get", "node", &name, "-o", "json"]).await.json();
        let serial = node["certificate_serial"].as_str().expect("a serial").to_owned();
        // It never ran; its certificate ends meanwhile.
        tokio::time::sleep(LIFE).await;
        let mut case = Case { controller, agent, point };
        case.killed_at_its_point(&format!("certificate/{serial}")).await;
        case.comes_back_and_renews().await;
    }))
    .await;
    assert_eq!(controller.words("audit verify").await.code, 0);
}
