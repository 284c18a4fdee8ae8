// SPDX-License-Identifier: Apache-2.0
//! The journal: what is read again is what was written, whatever a crash left of the last record.

use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use windlass_types::action::{Action, Argv};
use windlass_types::name::JobId;
use windlass_types::outcome::{Ending, Outcome};
use windlass_types::time::UnixMillis;

use super::*;

fn job(number: u64) -> JobId {
    JobId::new(number.to_string()).expect("digits")
}

fn order(number: u64) -> Order {
    Order {
        job: job(number),
        epoch: 1,
        sequence: number,
        expires: Some(UnixMillis(5)),
        timeout: None,
        output_limit: 1 << 20,
        action: Action::Exec(Argv::new(vec!["true".into(), "ä\n".into()]).expect("valid")),
    }
}

fn mark() -> Mark {
    Mark { pid: 4, start_ticks: 77, boot_id: "b".into(), at: UnixMillis(9) }
}

fn history() -> Vec<Record> {
    let outcome = Outcome::bare(Ending::Exited { code: 0 });
    vec![
        Record::Accepted(order(1)),
        Record::Started { job: job(1), mark: mark() },
        Record::Ended { job: job(1), outcome: outcome.clone() },
        Record::Accepted(order(2)),
        Record::Acknowledged { job: job(1) },
        Record::Ended { job: job(2), outcome },
    ]
}

fn after(records: &[Record]) -> JournalState {
    let mut state = JournalState::default();
    records.iter().cloned().for_each(|record| state.apply(record));
    state
}

fn bytes_of(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(|record| record.encode().expect("encodes")).collect()
}

fn opened(content: &[u8]) -> (tempfile::TempDir, Result<Journal, JournalError>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("journal");
    std::fs::write(&path, content).expect("written");
    let journal = Journal::open(&path);
    (dir, journal)
}

#[test]
fn remembers_across_a_restart() {
    let (dir, journal) = opened(b"");
    let mut journal = journal.expect("opens");
    for record in history() {
        journal.append_durably(record).expect("appended");
    }
    let again = Journal::open(&dir.path().join("journal")).expect("opens again");
    assert_eq!(again.state(), &after(&history()));
    assert_eq!(again.state().position(), (1, 2));
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_rest_kept() {
    let whole = bytes_of(&history());
    let mut ends = vec![0];
    for count in 1..=history().len() {
        ends.push(bytes_of(&history()[..count]).len());
    }
    for torn in 0..=whole.len() {
        for padding in [0, GROWTH_BYTES] {
            let mut content = whole[..torn].to_vec();
            content.resize(torn + padding, 0);
            let (dir, journal) = opened(&content);
            let mut journal = journal.unwrap_or_else(|error| panic!("torn at {torn}: {error}"));
            let room = std::fs::metadata(dir.path().join("journal")).expect("there").len();
            assert_eq!(room, content.len() as u64, "torn at {torn}: no room was given away");
            let complete = ends.iter().filter(|end| **end <= torn).count() - 1;
            assert_eq!(journal.state(), &after(&history()[..complete]), "torn at {torn}");
            journal.append(Record::Accepted(order(9))).expect("goes on");
            let again = Journal::open(&dir.path().join("journal")).expect("opens again");
            assert!(again.state().job(&job(9)).is_some(), "torn at {torn}");
        }
    }
}

#[test]
fn damage_before_a_good_record_is_not_guessed_away() {
    let mut content = bytes_of(&history());
    content[HEADER_BYTES + 3] ^= 1;
    let (_dir, journal) = opened(&content);
    let error = journal.expect_err("damaged").to_string();
    assert!(error.contains("byte 0") && error.contains("move it away"), "{error}");
}

/// A journal that is due to be compacted, and its last job; all are done.
fn full_of_history() -> (tempfile::TempDir, Journal, u64) {
    let (dir, journal) = opened(b"");
    let mut journal = journal.expect("opens");
    let mut number = 0;
    while journal.end <= COMPACT_ABOVE_BYTES {
        number += 1;
        journal.append(Record::Accepted(order(number))).expect("appended");
        let outcome = Outcome::bare(Ending::TimedOut);
        journal.append(Record::Ended { job: job(number), outcome }).expect("appended");
        journal.append(Record::Acknowledged { job: job(number) }).expect("appended");
    }
    (dir, journal, number)
}

#[test]
fn a_full_history_is_dropped_but_not_its_position() {
    let (dir, mut journal, number) = full_of_history();
    journal.append(Record::Accepted(order(number + 1))).expect("appended");
    journal.append(Record::Started { job: job(number + 1), mark: mark() }).expect("appended");
    journal.compact_if_large().expect("compacts");
    assert!(journal.end < 2048);
    let length = std::fs::metadata(dir.path().join("journal")).expect("there").len();
    assert_eq!(length, journal.allocated);
    assert!(length >= journal.end + GROWTH_BYTES as u64, "a full disk leaves room for orders");
    assert_eq!(journal.state().position(), (1, number + 1));
    let stages: Vec<_> = journal.state().jobs().map(|(_, stage)| stage.clone()).collect();
    assert_eq!(stages, [JobStage::Started(mark())]);
    journal.append_durably(Record::Acknowledged { job: job(number + 1) }).expect("the new file is in use");
    let again = Journal::open(&dir.path().join("journal")).expect("opens again");
    assert_eq!(again.state(), journal.state());
    assert!((1..=number).all(|number| again.state().done().has(&job(number))), "what was done is known by its number");
    assert!(!again.state().done().has(&job(number + 1)));
}

#[test]
fn a_journal_that_cannot_be_compacted_goes_on_in_its_file() {
    let (dir, mut journal, number) = full_of_history();
    std::fs::create_dir(dir.path().join("journal.new")).expect("a directory in the way");
    journal.compact_if_large().expect_err("no new file");
    journal.append_durably(Record::Accepted(order(number + 1))).expect("the old file is in use");
    let again = Journal::open(&dir.path().join("journal")).expect("opens again");
    assert_eq!(again.state(), journal.state());
}

#[test]
fn what_is_accepted_after_a_half_failed_compaction_is_in_the_file() {
    let (dir, mut journal, number) = full_of_history();
    let (state, kept) = journal.essence().expect("encodes");
    let error = journal.replace(state, kept, |_| Err(io::Error::other("no"))).expect_err("its name is not durable");
    assert!(error.to_string().contains("flush the directory of"), "{error}");
    let is_accepted = journal.append_durably(Record::Accepted(order(number + 1))).is_ok();
    let again = Journal::open(&dir.path().join("journal")).expect("opens again");
    assert_eq!(again.state().job(&job(number + 1)).is_some(), is_accepted);
    assert!(again.state().done().has(&job(number)));
}

/// A descriptor that cannot be written to, as of a disk that is broken.
fn broken(journal: &mut Journal) {
    journal.file = File::open(&journal.path).expect("there");
}

/// What lies beyond the room of the journal cannot be written.
fn full(journal: &mut Journal) {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let file = File::from(memfd_create(c"full", MFdFlags::MFD_ALLOW_SEALING).expect("made"));
    file.set_len(journal.allocated).expect("room");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).expect("sealed");
    journal.file = file;
}

#[test]
fn what_a_broken_disk_did_not_take_is_written_once_it_is_well() {
    let (dir, journal) = opened(b"");
    let mut journal = journal.expect("opens");
    let outcome = Outcome::bare(Ending::Exited { code: 0 });
    let ended = |number| Record::Ended { job: job(number), outcome: outcome.clone() };
    journal.append_durably(Record::Accepted(order(1))).expect("accepted");
    broken(&mut journal);
    std::fs::create_dir(dir.path().join("journal.new")).expect("a directory in the way");
    journal.append_durably(Record::Accepted(order(2))).expect_err("not accepted");
    journal.note(ended(1)).expect_err("not written");
    journal.note(Record::Acknowledged { job: job(1) }).expect_err("not written");
    journal.append_durably(Record::Accepted(order(3))).expect_err("not before the end is recorded");
    journal.flush().expect_err("still broken");
    assert!(journal.is_behind() && !journal.state().is_open(&job(1)));
    std::fs::remove_dir(dir.path().join("journal.new")).expect("mended");
    journal.append_durably(Record::Accepted(order(4))).expect("accepted");
    assert!(!journal.is_behind());
    let again = Journal::open(&dir.path().join("journal")).expect("opens again");
    assert_eq!(again.state(), journal.state());
    assert!(again.state().done().has(&job(1)));
    assert_eq!(again.state().jobs().map(|(order, _)| order.job.clone()).collect::<Vec<_>>(), [job(4)]);
}

#[test]
fn a_flush_after_a_failed_one_does_not_count() {
    let (dir, journal) = opened(b"");
    let mut journal = journal.expect("opens");
    journal.append(Record::Accepted(order(1))).expect("appended");
    let lost: Result<(), _> = journal.attempt("flush", |_| Err(io::Error::other("lost")));
    lost.expect_err("failed");
    std::fs::write(dir.path().join("journal"), b"").expect("lost");
    journal.flush().expect("written anew");
    let again = Journal::open(&dir.path().join("journal")).expect("opens again");
    assert!(again.state().is_open(&job(1)));
}

#[test]
fn a_full_disk_has_room_for_the_ends_of_what_was_accepted() {
    let (_dir, journal) = opened(b"");
    let mut journal = journal.expect("opens");
    journal.append(Record::Accepted(order(1))).expect("accepted");
    full(&mut journal);
    let refused = (2..1000).find(|number| journal.append_durably(Record::Accepted(order(*number))).is_err());
    let refused = refused.expect("full at last");
    assert!(refused > 20, "not before it has to be");
    for number in 1..refused {
        let outcome = Outcome::bare(Ending::Exited { code: 0 });
        journal.note(Record::Ended { job: job(number), outcome }).expect("there is room");
    }
    assert!(!journal.is_behind());
}

#[test]
fn positions_of_older_agents_are_read() {
    let record = Record::Position { epoch: 3, sequence: 4, done: DoneJobs::default() };
    let older = r#"{"position":{"epoch":3,"sequence":4}}"#;
    assert_eq!(serde_json::to_string(&record).expect("encodes"), older);
    assert_eq!(serde_json::from_str::<Record>(older).expect("read"), record);
}

#[test]
fn growing_leaves_no_gap() {
    let (dir, journal) = opened(b"");
    let mut journal = journal.expect("opens");
    let large = Argv::new(vec!["x".repeat(100 * 1024)]).expect("valid");
    for number in 1..4 {
        let order = Order { action: Action::Exec(large.clone()), ..order(number) };
        journal.append_durably(Record::Accepted(order)).expect("appended");
    }
    let again = Journal::open(&dir.path().join("journal")).expect("opens again");
    assert_eq!(again.state().jobs().count(), 3);
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (0_u64..6).prop_map(|number| Record::Accepted(order(number))),
        (0_u64..6).prop_map(|number| Record::Started { job: job(number), mark: mark() }),
        (0_u64..6, any::<i32>())
            .prop_map(|(n, code)| Record::Ended { job: job(n), outcome: Outcome::bare(Ending::Exited { code }) }),
        (0_u64..6).prop_map(|number| Record::Acknowledged { job: job(number) }),
        (any::<u64>(), any::<u64>()).prop_map(|(epoch, sequence)| Record::Position {
            epoch,
            sequence,
            done: DoneJobs::default()
        }),
    ]
}

proptest! {
    #[test]
    fn any_history_survives_and_its_essence_says_the_same(records in proptest::collection::vec(any_record(), 0..20)) {
        let (_dir, journal) = opened(&bytes_of(&records));
        let state = journal.expect("opens").state().clone();
        assert_eq!(&state, &after(&records));
        let essence = after(&state.essence());
        assert_eq!(essence.position(), state.position());
        let live = |state: &JournalState| {
            state.jobs().filter(|(_, stage)| **stage != JobStage::Acknowledged).map(|(o, s)| (o.clone(), s.clone())).collect::<Vec<_>>()
        };
        assert_eq!(live(&essence), live(&state));
        let done = |state: &JournalState, number| {
            let stage = state.job(&job(number)).map(|(_, stage)| stage);
            state.done().has(&job(number)) || stage == Some(&JobStage::Acknowledged)
        };
        (0..6).for_each(|number| assert_eq!(done(&essence, number), done(&state, number), "job {number}"));
    }

    #[test]
    fn no_bytes_make_it_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_dir, journal) = opened(&content);
        drop(journal);
    }
}
