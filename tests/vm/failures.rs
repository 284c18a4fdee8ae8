// SPDX-License-Identifier: Apache-2.0
//! Machines that do not become nodes: what the operator is told, what is left, and how it goes on.

use std::path::Path;
use std::time::Duration;

use windlass_tests::process::{Answer, command, run};
use windlass_tests::wait::wait_until;

use crate::site::{BOOT, Site, Spec, with_site};

const NODE: &str = "{name: node1, address: 10.77.0.11, cpus: 2, memory: 1GiB}";

#[tokio::test]
async fn what_keeps_the_agent_out_is_told_while_it_lasts_and_once_mended_apply_goes_on() {
    with_site(async |site| {
        let spec = site.spec(&[NODE]);
        site.repositories.offer(None);
        let run = site.begin(&spec).await;
        trouble(site, "repository-unreachable: attempt 1", "see that the repository of the spec can be reached").await;
        site.repositories.offer(Some("stranger"));
        trouble(site, "wrong-signature: attempt", "see that the key in the spec").await;
        site.repositories.offer(Some("others"));
        let ended = site.windlass(&["run", "attach", &run]).await;
        failed(&ended, "create/node1 failed: package-missing: ", "do: see that the repository has the agent's package");
        assert!(ended.stderr.contains("then windlass apply lets it try again"), "{ended:?}");
        assert!(ended.stderr.contains("the end of its console:"), "{ended:?}");
        assert_eq!(site.controller.words("get nodes -o name").await.ok(), "");
        site.repositories.offer(Some("repo"));
        let applied = site.apply(&spec).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        assert!(applied.stderr.contains("node1 had given up (package-missing) and is reset"), "{applied:?}");
        assert_eq!(site.node("node1").await["status"], "healthy");
        destroy(site, "vm1").await;
    })
    .await;
}

#[tokio::test]
async fn a_token_that_ended_before_the_first_boot_is_refused_and_the_way_out_works() {
    with_site(async |site| {
        let spec = site.spec(&[NODE]);
        let run = site.begin(&spec).await;
        site.wait_event("machine.stage", "node1: created").await;
        site.controller.kill9().await;
        end_all_tokens(site);
        site.controller.restart().await;
        let ended = site.windlass(&["run", "attach", &run]).await;
        failed(&ended, "create/node1 failed: join-refused: ", "do: the token was used, had expired");
        assert!(site.event("join.refused", "expired").await.is_some(), "{:?}", site.controller.events().await);
        // Neither this machine nor another one joins with it, and planning again says so.
        let again = site.apply(&spec).await;
        refused(&again, "it never joined, and its join token has ended", "windlass destroy --cluster vm1 --node node1");
        destroy(site, "vm1").await;
    })
    .await;
}

/// As if the half hour had gone by a minute ago.
fn end_all_tokens(site: &Site) {
    const END: &str = "UPDATE keys SET value = CAST(json_set(CAST(value AS TEXT), '$.expires', \
                       (unixepoch() - 60) * 1000) AS BLOB) WHERE key LIKE 'tokens/%'";
    let database = rusqlite::Connection::open(site.controller.state_dir().join("state.db")).expect("the state");
    assert_eq!(database.execute(END, []).expect("changed"), 1, "one token");
}

#[tokio::test]
async fn an_image_that_does_not_boot_and_one_that_says_nothing_are_told_apart() {
    with_site(async |site| {
        let directory = site.controller.directory().to_owned();
        let empty = directory.join("empty.qcow2");
        let mut create = command("qemu-img", Path::new("/"));
        run(create.args(["create", "-q", "-f", "qcow2"]).arg(&empty).arg("16M")).await.done();
        // A boot sector that stops the processor at once.
        let mut sector = vec![0; 1 << 20];
        sector[..3].copy_from_slice(&[0xf4, 0xeb, 0xfd]);
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(directory.join("mute.raw"), sector).expect("written");
        let spec = |name, image| Spec { name, image, ..site.spec(&["{name: node1, cpus: 1, memory: 256MiB}"]) };
        let dead = spec("vm1", empty);
        let mute =
            Spec { nodes: vec!["{name: node2, cpus: 1, memory: 256MiB}"], ..spec("vm2", directory.join("mute.raw")) };
        let silent = site.begin(&mute).await;
        let ended = site.apply(&dead).await;
        failed(&ended, "its firmware found nothing to boot from: the image /", "do: name a bootable image");
        let ended = site.windlass(&["run", "attach", &silent]).await;
        failed(&ended, "it said nothing on its console within 120 s", "do: see that the image is bootable");
        // With another image it is another machine: not made over the old one, which says how it goes.
        let mended = Spec { image: site.lab.image(), ..dead };
        let over = site.apply(&mended).await;
        refused(&over, "cannot be changed in place: image", "windlass destroy --cluster vm1 --node node1");
        destroy(site, "vm2").await;
        destroy(site, "vm1").await;
        site.assert_no_machines().await;
    })
    .await;
}

#[tokio::test]
async fn a_controller_killed_while_it_makes_a_machine_makes_it_once() {
    with_site(async |site| {
        let spec = site.spec(&[NODE]);
        let run = site.begin(&spec).await;
        for file in ["machine.json", "pid"] {
            let path = site.machine("node1").join(file);
            wait_until("the making to come so far", BOOT, async || path.exists()).await;
            site.controller.kill9().await;
            site.controller.restart().await;
        }
        site.wait_console("node1", "stage=cloud-init state=reached").await;
        site.controller.kill9().await;
        // The machine goes on, and joins when there is a controller again.
        site.wait_console("node1", "code=controller-unreachable attempt=1").await;
        site.controller.restart().await;
        site.windlass(&["run", "attach", &run]).await.done();
        assert_eq!(site.processes().len(), 1, "{:?}", site.processes());
        let resumed = site.controller.events().await.into_iter().filter(|event| event["type"] == "run.resumed").count();
        assert_eq!(resumed, 3);
        for list in ["machines", "nodes"] {
            assert_eq!(site.controller.words(&format!("get {list} -o name")).await.ok(), "node1\n", "{list}");
        }
        assert_eq!(site.node("node1").await["status"], "healthy");
        assert!(site.event("token.reused", "").await.is_none());
        let again = site.windlass(&["plan", "-f", &site.write(&spec), "--detailed-exitcode"]).await;
        assert_eq!(again.code, 0, "{again:?}");
        destroy(site, "vm1").await;
    })
    .await;
}

async fn trouble(site: &Site, what: &str, advice: &str) {
    let event = site.wait_event("machine.trouble", what).await;
    assert!(event["message"].as_str().expect("text").contains(advice), "{event}");
}

/// A plan breaks its lines where it likes.
#[track_caller]
fn refused(answer: &Answer, why: &str, advice: &str) {
    let said = answer.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(answer.code == 4 && said.contains(why) && said.contains(advice), "{why}; {advice}: {answer:?}");
}

#[track_caller]
fn failed(ended: &Answer, why: &str, advice: &str) {
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains(why), "no {why:?} in {ended:?}");
    assert!(ended.stderr.contains(advice), "no {advice:?} in {ended:?}");
}

/// Whatever state it is in.
async fn destroy(site: &Site, cluster: &str) {
    site.windlass(&["destroy", "--cluster", cluster, "--confirm", cluster]).await.done();
    let left = site.machines().join(cluster);
    assert!(!left.exists(), "{} is left", left.display());
    let processes = || site.processes().len();
    let others = std::fs::read_dir(site.machines()).map(Iterator::count).unwrap_or_default();
    wait_until("its processes to be gone", Duration::from_secs(30), async || processes() == others).await;
}
