// SPDX-License-Identifier: Apache-2.0
//! What new machines read, judged by cloud-init itself, and the script they run, with stand-ins for what it calls.
//!
//! cloud-init and the reader of ISO images are those of a Debian 12, in a root of their own: on a person's machine
//! cloud-init has no business. The script runs there with dash, `dnf`, `rpm`, `windlass-agent` and `systemctl` being a
//! few lines that do as the test says.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use windlass_controller::cloud_init::mark::{Mark, MarkState};
use windlass_controller::cloud_init::{AGENT_PACKAGE, FirstBoot, JoinOrder, Repository, UserData, network, seed};
use windlass_tests::container::debian_with;
use windlass_tests::process::{Answer, command, run};

const PACKAGES: &[&str] = &["cloud-init", "xorriso"];

const DIRECTORY: &str = "var/lib/windlass-first-boot";

/// Mounts a layer over the root and runs a command in it.
const IN_LAYER: &str = r#"mount -t overlay overlay -o "$0" "$1" && shift && exec chroot "$@""#;

/// A Debian in which a command can be run, with everything it writes in a layer of its own.
struct Debian {
    root: PathBuf,
    layer: TempDir,
}

impl Debian {
    async fn new() -> Self {
        let root = debian_with(PACKAGES).await;
        let layer = tempfile::Builder::new().prefix("layer-").tempdir_in(root.parent().expect("in the cache"));
        let layer = layer.expect("a directory");
        for folder in ["upper", "work", "merged"] {
            std::fs::create_dir(layer.path().join(folder)).expect("made");
        }
        Self { root, layer }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.layer.path().join("upper").join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("below the layer")).expect("directories");
        std::fs::write(path, content).expect("written");
    }

    fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = format!("usr/local/bin/{name}");
        self.write(&path, format!("#!/bin/sh\necho \"{name} $*\" >>/calls\n{script}\n"));
        std::fs::set_permissions(self.path(&path), std::fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    async fn run(&self, arguments: &[&str]) -> Answer {
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| self.layer.path().join(name));
        let options =
            format!("lowerdir={},upperdir={},workdir={}", self.root.display(), upper.display(), work.display());
        let mut unshare = command("unshare", Path::new("/"));
        unshare.args(["--mount", "--propagation", "private", "--", "sh", "-c", IN_LAYER]).arg(options);
        unshare.arg(&merged).arg(&merged).args(arguments);
        unshare.env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        run(&mut unshare).await
    }
}

fn boot() -> FirstBoot {
    FirstBoot {
        name: "node1".parse().expect("a name"),
        repositories: ["lab", "more"]
            .map(|id| Repository {
                id: id.to_owned(),
                base_url: format!("http://10.0.2.2:8000/{id}"),
                key: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n".to_owned(),
                has_signed_metadata: true,
            })
            .into(),
        package: AGENT_PACKAGE.to_owned(),
        join: JoinOrder {
            controller: "10.0.2.2:7601".to_owned(),
            pins: ["ab", "cd"].map(|byte| format!("sha256:{}", byte.repeat(32)).parse().expect("a pin")).into(),
            token: "0a1b2c3d4e5f.00112233".to_owned(),
        },
        ssh_keys: Vec::new(),
    }
}

async fn schema(debian: &Debian, user_data: &str) -> Answer {
    debian.write("user-data", user_data);
    debian.run(&["cloud-init", "schema", "--config-file", "/user-data"]).await
}

#[tokio::test]
async fn cloud_init_finds_our_user_data_valid() {
    let debian = Debian::new().await;
    let with_ssh = FirstBoot { ssh_keys: vec!["ssh-ed25519 AAAA ana".into()], ..boot() };
    let dotted = FirstBoot { name: "node1.example.org".parse().expect("a name"), ..boot() };
    let documents = [boot(), with_ssh, dotted].map(|boot| UserData::new(&boot).expect("good"));
    for document in documents.iter().chain([&UserData::sealed(&boot().name)]) {
        let answer = schema(&debian, document.reveal()).await;
        assert!(answer.code == 0 && answer.stdout.contains("Valid cloud-config"), "{answer:?}");
    }
    let wrong = documents[0].reveal().replace("\"disable_root\": true", "\"disable_root\": 17");
    let answer = schema(&debian, &wrong).await;
    assert!(answer.code != 0 && format!("{answer:?}").contains("disable_root"), "{answer:?}");
}

#[tokio::test]
async fn another_reader_finds_the_seeds_files_under_their_names() {
    let debian = Debian::new().await;
    let user_data = UserData::new(&boot()).expect("good");
    let id = "9b2c6f0e".parse().expect("an id");
    let (meta, net) = (network::meta_data(&id, &boot().name), network::network_config("52:00:00:00:00:01", None));
    debian.write("seed.iso", seed::image(&meta, &net, user_data.reveal()));
    let answer = debian.run(&["xorriso", "-indev", "/seed.iso", "-osirrox", "on", "-extract", "/", "/out"]).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stderr.contains("Volume id    : 'cidata'"), "{answer:?}");
    let extracted = ["meta-data", "network-config", "user-data"].map(|name| debian.read(&format!("out/{name}")));
    assert_eq!(extracted, [meta.as_str(), net.as_str(), user_data.reveal()]);
    assert_eq!(std::fs::read_dir(debian.path("out")).expect("extracted").count(), 3);
}

/// A machine whose cloud-init has written its files, with stand-ins that let everything succeed.
async fn machine() -> Debian {
    let debian = Debian::new().await;
    let user_data = UserData::new(&boot()).expect("good");
    let json = user_data.reveal().split_once('\n').expect("a header").1;
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    for file in json["write_files"].as_array().expect("files") {
        let text = |key: &str| file[key].as_str().expect("text");
        debian.write(text("path").trim_start_matches('/'), text("content"));
    }
    // Not the real one of this machine.
    debian.write("dev/console", "");
    debian.program("sleep", "");
    debian.program("systemctl", "");
    debian.program("rpm", "[ -e /installed ]");
    debian.program("dnf", ": >/installed");
    debian.program("windlass-agent", "");
    debian
}

async fn first_boot(debian: &Debian) -> i32 {
    debian.run(&["sh", &format!("/{DIRECTORY}/run")]).await.code
}

/// What was told on the console, in short.
fn marks(debian: &Debian) -> Vec<String> {
    let console = debian.read("dev/console");
    let marks = console.lines().filter_map(Mark::find).map(|mark| {
        let stage = format!("{:?}", mark.stage);
        match mark.state {
            MarkState::Reached => format!("{stage} reached"),
            MarkState::Retrying(trouble) => format!("{stage} retrying {} {}", trouble.attempt, trouble.code),
            MarkState::Failed(trouble) => format!("{stage} failed {} {}", trouble.attempt, trouble.code),
        }
    });
    marks.collect()
}

const ALL_REACHED: [&str; 3] = ["Stage(AgentInstalled) reached", "Stage(Enrolled) reached", "AgentStarted reached"];

#[tokio::test]
async fn the_script_installs_joins_starts_and_removes_itself() {
    let debian = machine().await;
    assert_eq!(first_boot(&debian).await, 0);
    assert_eq!(marks(&debian), ALL_REACHED);
    let calls = debian.read("calls");
    let dnf = "dnf -y --refresh --disablerepo=* --enablerepo=lab --enablerepo=more install windlass-agent";
    let join = format!(
        "windlass-agent join --controller 10.0.2.2:7601 --token-file /{DIRECTORY}/token --ca-pin {} --ca-pin {}",
        boot().join.pins[0],
        boot().join.pins[1]
    );
    for call in [dnf, &join, "systemctl start windlass-agent.service", "systemctl disable windlass-first-boot.service"]
    {
        assert!(calls.lines().any(|line| line == call), "{call} is not among\n{calls}");
    }
    assert!(!calls.contains(&boot().join.token), "the token is an argument");
    assert!(!debian.path(DIRECTORY).join("token").exists() && !debian.path(DIRECTORY).join("run").exists());
}

#[tokio::test]
async fn f30_a_second_run_changes_nothing() {
    let debian = machine().await;
    // As after a power cut between the join and the end.
    debian.write("installed", "");
    std::fs::remove_file(debian.path(DIRECTORY).join("token")).expect("used up");
    assert_eq!(first_boot(&debian).await, 0);
    assert_eq!(marks(&debian), ALL_REACHED);
    assert!(!debian.read("calls").contains("dnf"));
    // And once all is removed there is nothing left to run.
    assert_ne!(first_boot(&debian).await, 0);
    assert_eq!(marks(&debian), ALL_REACHED);
}

#[tokio::test]
async fn f30_a_package_that_a_power_cut_left_half_on_the_disk_is_installed_again() {
    let debian = machine().await;
    debian.write("installed", "");
    debian.program("rpm", "[ \"$1\" = -q ] || [ -e /whole ]");
    debian.program("dnf", ": >/whole");
    assert_eq!(first_boot(&debian).await, 0);
    assert_eq!(marks(&debian), ALL_REACHED);
    assert!(debian.read("calls").contains("--enablerepo=more reinstall windlass-agent\n"), "{}", debian.read("calls"));
}

#[tokio::test]
async fn f30_a_download_that_fails_is_tried_again_and_told() {
    let debian = machine().await;
    let fails =
        "echo 'Importing GPG key 0x12345678:'; echo 'Error: Cannot download repomd.xml: All mirrors were tried' >&2";
    debian.program(
        "dnf",
        &format!("echo >>/tries; [ $(wc -l </tries) -gt 2 ] && : >/installed && exit; {fails}; exit 1"),
    );
    assert_eq!(first_boot(&debian).await, 0);
    let retrying = |n: u32| format!("Stage(AgentInstalled) retrying {n} repository-unreachable");
    assert_eq!(marks(&debian)[..2], [retrying(1), retrying(2)]);
    assert_eq!(marks(&debian)[2..], ALL_REACHED);
    assert!(
        debian.read("dev/console").contains("detail=\"Error: Cannot download repomd.xml: All mirrors were tried\"")
    );
    assert!(debian.read("calls").contains("sleep 2\n"));
}

#[tokio::test]
async fn what_cannot_be_installed_is_told_by_its_cause_and_kept_for_the_next_boot() {
    let said = [
        ("Error: GPG check FAILED", "wrong-signature"),
        ("Package windlass-agent-0.1.0-1.x86_64.rpm is not signed", "wrong-signature"),
        (
            "Error: Failed to download metadata for repo 'lab': repomd.xml GPG signature verification error: Bad GPG signature",
            "wrong-signature",
        ),
        ("Public key for windlass-agent-0.1.0-1.x86_64.rpm is not installed", "wrong-signature"),
        ("Error: Unable to find a match: windlass-agent", "package-missing"),
        ("No package windlass-agent available.", "package-missing"),
        (
            "Errors during downloading metadata for repository 'lab':\n  - Curl error (7): Couldn't connect to server",
            "repository-unreachable",
        ),
        ("Could not retrieve mirrorlist: Could not resolve host: repo", "repository-unreachable"),
        ("Error: something \"else\" \\ \u{1b}[2J", "not-installed"),
    ];
    for (words, code) in said {
        let debian = machine().await;
        debian.write("said", words);
        debian.program("dnf", "cat /said; exit 1");
        assert_eq!(first_boot(&debian).await, 1, "{words}");
        let marks = marks(&debian);
        assert_eq!(
            marks.last().map(String::as_str),
            Some(&*format!("Stage(AgentInstalled) failed 6 {code}")),
            "{words}"
        );
        assert_eq!(marks.len(), 6, "{marks:?}");
        assert!(!debian.read("dev/console").contains('\u{1b}') && debian.path(DIRECTORY).join("token").exists());
    }
}

#[tokio::test]
async fn a_refused_token_is_not_tried_again_and_not_kept() {
    let debian = machine().await;
    debian
        .program("windlass-agent", "echo 'windlass-agent: not joined: the controller refused this token' >&2; exit 77");
    assert_eq!(first_boot(&debian).await, 1);
    assert_eq!(marks(&debian)[1..], ["Stage(Enrolled) failed 1 join-refused"]);
    assert!(
        debian.read("dev/console").contains("detail=\"windlass-agent: not joined: the controller refused this token\"")
    );
    assert!(!debian.path(DIRECTORY).join("token").exists());
    assert!(debian.read("calls").contains("systemctl disable windlass-first-boot.service"));
}

#[tokio::test]
async fn without_dnf_it_is_yum_and_without_both_it_says_so() {
    let debian = machine().await;
    std::fs::remove_file(debian.path("usr/local/bin/dnf")).expect("removed");
    debian.program("yum", ": >/installed");
    assert_eq!(first_boot(&debian).await, 0);
    assert!(
        debian
            .read("calls")
            .contains("yum -y --disablerepo=* --enablerepo=lab --enablerepo=more install windlass-agent\n")
    );
    let debian = machine().await;
    std::fs::remove_file(debian.path("usr/local/bin/dnf")).expect("removed");
    assert_eq!(first_boot(&debian).await, 1);
    assert!(marks(&debian)[0].ends_with("retrying 1 no-package-manager"));
}
