// SPDX-License-Identifier: Apache-2.0
//! Real QEMU with disks that hold nothing: everything but what a guest would do.

mod news;

use std::time::Duration;

use windlass_types::digest::Sha256Digest;
use windlass_types::error_chain::ErrorChain;
use windlass_types::machine::{PortForward, Protocol};
use windlass_types::outcome::ErrorClass;

use super::fixtures::{disk, qemu, spec};
use super::place::entries;
use super::*;
use crate::clock::SystemClock;
use crate::cloud_init::{FirstBoot, JoinOrder, Repository};

const TOKEN: &str = "0a1b2c3d4e5f.00112233445566778899aabbccddeeff";

/// A place with an empty disk to make machines from. Ends what still runs there.
struct Place {
    provider: QemuProvider,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let _installed = qemu();
        let directory = tempfile::tempdir().expect("a directory");
        let mut image = vec![0; 1 << 20];
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        // Beside the state: an image is the operator's. Its boot sector does nothing: `hlt` for ever.
        image[..3].copy_from_slice(&[0xf4, 0xeb, 0xfd]);
        fs::write(directory.path().join("image"), image).expect("written");
        fs::create_dir(directory.path().join("state")).expect("made");
        Self { provider: Self::open(directory.path()), directory }
    }

    fn open(directory: &Path) -> QemuProvider {
        QemuProvider::open(&directory.join("state"), Arc::new(SystemClock)).expect("a provider")
    }

    /// As after the controller was killed and started again.
    fn restart(&mut self) {
        self.provider = Self::open(self.directory.path());
    }

    fn spec(&self, name: &str) -> MachineSpec {
        let image = self.directory.path().join("image").display().to_string();
        MachineSpec { image, forwards: Vec::new(), ..spec(name) }
    }

    async fn create(&self, spec: MachineSpec) -> Result<MachineReport, ProviderError> {
        let user_data = user_data(&spec);
        self.provider.create(NewMachine { spec, spec_hash: Sha256Digest::new([1; 32]), user_data }).await
    }

    async fn created(&self, name: &str) -> MachineReport {
        self.create(self.spec(name)).await.expect("a machine")
    }

    async fn observed(&self) -> Vec<MachineReport> {
        self.provider.observe(&ClusterName::new("k8s1").expect("a name")).await.expect("it can tell")
    }

    async fn power(&self, name: &str, action: PowerAction) {
        self.provider.power(&key(name), action).await.expect("it obeys");
    }

    fn machine(&self, name: &str) -> PathBuf {
        self.provider.directory(&key(name))
    }

    fn process(&self, name: &str) -> Option<Process> {
        Process::find(&self.machine(name), &self.provider.record(&key(name)).expect("a record").id)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for record in self.provider.records(None).unwrap_or_default() {
            let directory = self.provider.directory(&MachineKey::of(&record.spec));
            if let Some(process) = Process::find(&directory, &record.id) {
                let _gone = process.kill();
            }
        }
    }
}

fn key(name: &str) -> MachineKey {
    MachineKey::of(&spec(name))
}

fn user_data(spec: &MachineSpec) -> UserData {
    let repository = Repository {
        id: "windlass".to_owned(),
        base_url: "http://10.0.2.2/".to_owned(),
        key: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n".to_owned(),
        has_signed_metadata: true,
    };
    let join = JoinOrder { controller: "10.0.2.2:7601".to_owned(), pins: Vec::new(), token: TOKEN.to_owned() };
    let (name, package) = (spec.name.clone(), "windlass-agent".to_owned());
    UserData::new(&FirstBoot { name, repositories: vec![repository], package, join, ssh_keys: Vec::new() })
        .expect("user-data")
}

/// What failed, why, and what to do, as one text.
fn told(error: &ProviderError) -> String {
    format!("{}; {}", ErrorChain(error), error.advice())
}

fn wanted(machines: &[&MachineSpec]) -> Wanted {
    Wanted { machines: machines.iter().copied().cloned().collect(), ..Wanted::default() }
}

#[tokio::test]
async fn a_machine_is_made_found_and_removed_with_everything() {
    let place = Place::new();
    let made = place.created("node1").await;
    assert_eq!((made.power, made.complete, made.accel), (PowerState::On, true, Some(Accel::Emulation)));
    assert_eq!((made.disks[0].serial.as_str(), made.addresses.len()), ("docker-1a2b", 1));
    assert_eq!(place.observed().await, [made]);
    let process = place.process("node1").expect("it runs");
    place.provider.delete(&key("node1")).await.expect("removed");
    assert!(!process.runs() && place.observed().await.is_empty());
    assert_eq!(entries(&place.provider.place).expect("readable"), [] as [String; 0]);
    assert!(place.directory.path().join("image").exists());
    place.provider.delete(&key("node1")).await.expect("removed already");
}

#[tokio::test]
async fn a_machine_that_is_complete_is_not_made_again() {
    let place = Place::new();
    let (first, process) = (place.created("node1").await, place.process("node1"));
    assert_eq!(place.created("node1").await.id, first.id);
    assert_eq!(place.process("node1"), process);
}

#[tokio::test]
async fn machines_outlive_the_controller_and_are_found_again() {
    let mut place = Place::new();
    let (made, process) = (place.created("node1").await, place.process("node1"));
    place.restart();
    assert_eq!(place.observed().await, [made]);
    assert_eq!(place.process("node1"), process);
    place.power("node1", PowerAction::Off).await;
    assert_eq!(place.observed().await[0].power, PowerState::Off);
    place.power("node1", PowerAction::Off).await;
    place.power("node1", PowerAction::On).await;
    let again = place.process("node1").expect("it runs");
    assert_ne!(Some(again), process);
    place.power("node1", PowerAction::Reset).await;
    assert_eq!(place.process("node1"), Some(again));
}

#[tokio::test]
async fn a_machine_whose_process_was_killed_is_off_and_can_be_switched_on() {
    let place = Place::new();
    place.created("node1").await;
    let process = place.process("node1").expect("it runs");
    process.kill().expect("killed");
    assert!(process.has_gone_within(Duration::from_secs(30)).await);
    let report = place.observed().await.remove(0);
    assert_eq!((report.power, report.complete), (PowerState::Off, true));
    place.power("node1", PowerAction::Reset).await;
    assert_eq!(place.observed().await[0].power, PowerState::On);
}

#[tokio::test]
async fn what_a_kill_interrupted_is_found_incomplete_and_made_once() {
    let mut place = Place::new();
    // Killed after the intent was written.
    let mut record = fixtures::record("node1");
    record.spec = place.spec("node1");
    record.write_first(&place.machine("node1")).expect("written");
    // Killed after the process was started and before that was written.
    place.created("node2").await;
    let mut started = place.provider.record(&key("node2")).expect("a record");
    started.complete = false;
    started.write(&place.machine("node2")).expect("written");
    let process = place.process("node2").expect("it runs");
    // Killed before the intent had its place, and in the middle of removing.
    for leftover in [".new-x", ".deleted-x"] {
        fs::create_dir(place.machine("node1").with_file_name(leftover)).expect("made");
    }
    place.restart();
    assert!(place.observed().await.iter().all(|machine| !machine.complete));
    let error = place.provider.power(&key("node1"), PowerAction::On).await.expect_err("incomplete");
    assert_eq!(error.class(), ErrorClass::Blocked);
    for name in ["node1", "node2"] {
        place.created(name).await;
    }
    let machines = place.observed().await;
    assert!(machines.len() == 2 && machines.iter().all(|machine| machine.complete), "{machines:?}");
    assert!(!process.runs());
    assert_eq!(entries(&place.provider.place.join("k8s1")).expect("readable"), ["node1", "node2"]);
}

#[tokio::test]
async fn what_windlass_did_not_make_is_refused_and_stays() {
    let place = Place::new();
    let directory = place.machine("node1");
    fs::create_dir_all(&directory).expect("made");
    fs::write(directory.join("thesis.txt"), "mine").expect("written");
    for tag in [None, Some("{}"), Some("\u{0}")] {
        if let Some(tag) = tag {
            fs::write(directory.join(record::RECORD), tag).expect("written");
        }
        let error = place.provider.delete(&key("node1")).await.expect_err("refused");
        assert!(told(&error).contains("not a machine that Windlass made"), "{}", told(&error));
        assert_eq!(error.class(), ErrorClass::Operator);
        place.create(place.spec("node1")).await.expect_err("refused");
    }
    // The state of another cluster, moved here.
    let mut other = fixtures::record("node1");
    other.spec.cluster = ClusterName::new("other").expect("a name");
    other.write(&directory).expect("written");
    let error = place.provider.delete(&key("node1")).await.expect_err("refused");
    assert!(told(&error).contains("node1 of cluster other"), "{}", told(&error));
    assert!(place.observed().await.is_empty());
    // A link to somewhere else.
    std::os::unix::fs::symlink(&directory, place.machine("node2")).expect("linked");
    place.provider.delete(&key("node2")).await.expect_err("refused");
    assert_eq!(fs::read_to_string(directory.join("thesis.txt")).expect("still there"), "mine");
}

#[tokio::test]
async fn a_process_that_has_the_machines_old_id_now_is_left_alone() {
    let place = Place::new();
    place.created("node1").await;
    place.power("node1", PowerAction::Off).await;
    fs::write(place.machine("node1").join(process::PID_FILE), std::process::id().to_string()).expect("written");
    assert_eq!(place.observed().await[0].power, PowerState::Off);
    // Had it been taken for the machine's, this test would not get past here.
    place.power("node1", PowerAction::Off).await;
    place.provider.delete(&key("node1")).await.expect("removed");
}

#[tokio::test]
async fn a_disk_is_attached_once_and_stays_when_the_machine_is_off_and_on() {
    let place = Place::new();
    place.created("node1").await;
    for _ in 0..2 {
        place.provider.attach_disk(&key("node1"), &disk("bricks")).await.expect("attached");
    }
    place.power("node1", PowerAction::Off).await;
    place.provider.attach_disk(&key("node1"), &disk("more")).await.expect("attached");
    place.power("node1", PowerAction::On).await;
    let names: Vec<_> = place.observed().await[0].disks.iter().map(|disk| disk.name.to_string()).collect();
    assert_eq!(names, ["docker", "bricks", "more"]);
    let other = DiskSpec { serial: Some("other".parse().expect("a serial")), ..disk("more") };
    place.provider.attach_disk(&key("node1"), &other).await.expect_err("it would overwrite the other");
}

#[tokio::test]
async fn a_sealed_seed_holds_no_token_while_the_machine_runs() {
    let place = Place::new();
    place.created("node1").await;
    let seed = || fs::read(place.machine("node1").join(arguments::SEED)).expect("a seed");
    let holds = |seed: &[u8], text: &str| seed.windows(text.len()).any(|window| window == text.as_bytes());
    let before = seed();
    assert!(holds(&before, TOKEN) && holds(&before, "10.0.0.171/24"));
    place.provider.seal(&key("node1")).await.expect("sealed");
    let after = seed();
    assert!(!holds(&after, TOKEN) && holds(&after, "10.0.0.171/24") && after.len() == before.len());
    let id = format!("windlass-{}", place.observed().await[0].id);
    assert!(holds(&before, &id) && holds(&after, &id), "cloud-init would begin anew");
}

#[tokio::test]
async fn the_state_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.created("node1").await;
    let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(place.machine("node1")), 0o700);
    assert_eq!(mode(place.machine("node1").join(arguments::SEED)), 0o600);
}

#[tokio::test]
async fn an_image_that_does_not_boot_is_told() {
    let place = Place::new();
    let spec = place.spec("node1");
    let empty = place.directory.path().join("empty.qcow2");
    image::empty(&find(&["qemu-img"]).expect("qemu-img"), &empty, 1 << 20).await.expect("made");
    place.create(MachineSpec { image: empty.display().to_string(), ..spec }).await.expect("a machine");
    let give_up = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(why) = place.provider.diagnose(&key("node1")).await.expect("it can be asked") {
            assert!(why.starts_with("its firmware found nothing to boot from: the image /"), "{why}");
            break;
        }
        assert!(tokio::time::Instant::now() < give_up, "the firmware said nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_machine_that_is_silent_with_kvm_is_emulated_and_so_are_the_next() {
    let place = Place::new();
    place.created("node1").await;
    let before = place.process("node1");
    let mut record = place.provider.record(&key("node1")).expect("a record");
    record.accel = Some(Accel::Kvm);
    // What an earlier boot said is not what this one says.
    let console = place.provider.directory(&key("node1")).join("console.log");
    fs::write(&console, b"said at an earlier boot").expect("written");
    let said = super::console::end(console.parent().expect("a directory")).expect("readable");
    place.provider.emulate_if_silent(&key("node1"), &mut record, said, Duration::ZERO).await.expect("started again");
    assert_ne!(place.process("node1"), before);
    assert_eq!(place.observed().await[0].accel, Some(Accel::Emulation));
    let tools = place.provider.tools().expect("tools");
    let next = place.provider.accel_for(&tools, &key("node2"), AccelChoice::Auto).await.expect("a choice");
    assert_eq!(next, Accel::Emulation);
    let error = place.provider.accel_for(&tools, &key("node2"), AccelChoice::Kvm).await.expect_err("it does not work");
    assert!(ErrorChain(&error).to_string().contains("said nothing with KVM"));
}

#[tokio::test]
async fn each_reason_not_to_begin_is_told_before_anything_is_made() {
    let place = Place::new();
    let good = place.spec("node1");
    let file = |name: &str, content: &[u8]| {
        let path = place.directory.path().join(name);
        fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let forward = PortForward {
        host_address: [127, 0, 0, 1].into(),
        host_port: taken.local_addr().expect("an address").port(),
        guest_port: 80,
        protocol: Protocol::Tcp,
    };
    let cases = [
        (MachineSpec { image: "/no/such/image".into(), ..good.clone() }, "No such file", "make lab"),
        (MachineSpec { image: "/".into(), ..good.clone() }, "not a file", "make lab"),
        (MachineSpec { image: file("text", b"hello"), ..good.clone() }, "it is something else", "make lab"),
        (MachineSpec { root_disk_bytes: 512, ..good.clone() }, "has 1048576 bytes", "at least the image's size"),
        (MachineSpec { memory_bytes: 1 << 50, ..good.clone() }, "MiB of memory", "less memory"),
        (MachineSpec { forwards: vec![forward], ..good.clone() }, "in use", "ss -lntup"),
        (MachineSpec { forwards: vec![forward; 2], ..good.clone() }, "in use", "another port"),
    ];
    for (spec, why, advice) in cases {
        for result in [place.provider.check(&wanted(&[&spec])).await, place.create(spec).await.map(|_| Vec::new())] {
            let text = told(&result.expect_err(why));
            assert!(text.contains(why) && text.contains(advice), "{text}");
        }
    }
    assert!(place.observed().await.is_empty());
    place.provider.check(&wanted(&[&good, &place.spec("node2")])).await.expect("these could be made");
}

#[tokio::test]
async fn a_port_of_a_machine_that_is_off_is_not_given_to_another() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let forward =
        PortForward { host_address: free.ip(), host_port: free.port(), guest_port: 80, protocol: Protocol::Tcp };
    let with = |name: &str| MachineSpec { forwards: vec![forward], ..place.spec(name) };
    place.create(with("node1")).await.expect("a machine");
    place.power("node1", PowerAction::Off).await;
    let text = told(&place.create(with("node2")).await.expect_err("taken"));
    assert!(text.contains("node1 of cluster k8s1 has it"), "{text}");
}

#[tokio::test]
async fn without_qemu_or_kvm_it_says_what_to_do() {
    let mut place = Place::new();
    place.provider.qemu = Some("/no/such/qemu".into());
    let text = told(&place.provider.check(&wanted(&[&place.spec("node1")])).await.expect_err("no QEMU"));
    assert!(text.starts_with("QEMU is not installed on this host; install qemu-system-x86"), "{text}");
    // Here KVM cannot work whatever the host is.
    place.provider.qemu = Some("/bin/false".into());
    let kvm = MachineSpec { accel: AccelChoice::Kvm, ..place.spec("node1") };
    let text = told(&place.create(kvm).await.expect_err("no KVM"));
    assert!(text.contains("demands KVM for node1 of cluster k8s1, and it does not work on this host: "), "{text}");
    assert!(text.contains("accel: auto"), "{text}");
    // And QEMU itself does not start: what was begun is told as such.
    let text = told(&place.create(place.spec("node1")).await.expect_err("no machine"));
    assert!(text.starts_with("start node1 of cluster k8s1: `false "), "{text}");
    assert!(!place.observed().await[0].complete);
}

#[tokio::test]
async fn machines_of_a_cluster_are_made_side_by_side() {
    let place = Place::new();
    let (first, second, third) = tokio::join!(place.created("node1"), place.created("node2"), place.created("node3"));
    let ids = [first.id, second.id, third.id];
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    assert_eq!(place.observed().await.iter().filter(|machine| machine.power == PowerState::On).count(), 3);
}
