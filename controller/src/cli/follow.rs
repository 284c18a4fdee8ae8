// SPDX-License-Identifier: Apache-2.0
//! Follows a job to its end, across lost connections, and tells everything once.
//!
//! The controller replays a job from its beginning to whoever begins to watch. After a loss the watch begins again and
//! [`Replay`] leaves out what was told before, by counting the bytes of each node's streams.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use tokio::time::Instant;
use windlass_proto::refusal::Reason;
use windlass_proto::v1;
use windlass_proto::v1::job_event::Happening;
use windlass_types::outcome::{Ending, Outcome};

use super::context::{Context, job_client};
use super::failure::{Cause, Failure};

/// A controller that restarts is back within seconds; after this long somebody should know.
const LONGEST_LOSS: Duration = Duration::from_secs(60);

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Who is told what happens.
pub(crate) trait Sink {
    /// A node wrote something.
    ///
    /// # Errors
    /// If it cannot be passed on.
    fn output(&mut self, node: &str, stream: v1::OutputStream, data: &[u8]) -> io::Result<()>;

    /// A node ended. `missing` is how much of stdout and stderr was not kept, bytes.
    ///
    /// # Errors
    /// If it cannot be passed on.
    fn ended(&mut self, node: &str, outcome: &Outcome, missing: [u64; 2]) -> io::Result<()>;

    /// Nothing more is at hand: show what there is.
    ///
    /// # Errors
    /// If it cannot be passed on.
    fn flush(&mut self) -> io::Result<()>;
}

/// What became of the job.
#[derive(Debug)]
pub(crate) struct Followed {
    /// The job at its end, or nothing if the person left before.
    pub(crate) job: Option<v1::Job>,
    /// How each node ended.
    pub(crate) outcomes: BTreeMap<String, Outcome>,
}

/// Follows a job until it ends or the person presses Ctrl-C.
///
/// # Errors
/// If the job cannot be watched, or the controller is gone for a minute.
pub(crate) async fn follow(context: &Context, id: &str, sink: &mut dyn Sink) -> Result<Followed, Failure> {
    let mut replay = Replay::default();
    let job = tokio::select! {
        job = to_its_end(context, id, sink, &mut replay) => Some(job?),
        _ = tokio::signal::ctrl_c() => None,
    };
    sink.flush()?;
    Ok(Followed { job, outcomes: replay.outcomes })
}

async fn to_its_end(context: &Context, id: &str, sink: &mut dyn Sink, replay: &mut Replay) -> Result<v1::Job, Failure> {
    let mut client = context.jobs().await?;
    let mut give_up = Instant::now() + LONGEST_LOSS;
    let mut pause = FIRST_PAUSE;
    loop {
        let told = replay.happenings;
        replay.begin_again();
        let failure = match watch(&mut client, id, sink, replay).await {
            Ok(job) => return Ok(job),
            Err(failure) => failure,
        };
        if replay.happenings > told {
            (give_up, pause) = (Instant::now() + LONGEST_LOSS, FIRST_PAUSE);
        }
        sink.flush()?;
        client = reconnect(context, id, failure, give_up, &mut pause).await?;
    }
}

/// Connects again, with growing pauses, or returns the failure that will not pass.
async fn reconnect(
    context: &Context,
    id: &str,
    mut failure: Failure,
    give_up: Instant,
    pause: &mut Duration,
) -> Result<v1::job_service_client::JobServiceClient<crate::client::Calls>, Failure> {
    loop {
        if !may_pass(failure.cause) {
            return Err(failure);
        }
        if Instant::now() + *pause > give_up {
            return Err(failure.advise(format!("the job continues: windlass attach {id}")));
        }
        if *pause == FIRST_PAUSE {
            context.terminal.say("the connection to the controller was lost; trying again for a minute");
        }
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        match context.connect().await {
            Ok(channel) => return Ok(job_client(channel)),
            Err(again) => failure = again,
        }
    }
}

/// Whether the same call may work in a while.
pub(crate) const fn may_pass(cause: Cause) -> bool {
    matches!(cause, Cause::Unreachable | Cause::TimedOut | Cause::Refused(Reason::ShuttingDown))
}

async fn watch(
    client: &mut v1::job_service_client::JobServiceClient<crate::client::Calls>,
    id: &str,
    sink: &mut dyn Sink,
    replay: &mut Replay,
) -> Result<v1::Job, Failure> {
    let failed = |status| Failure::call(format!("follow job {id}"), &status);
    let mut stream = client.watch_job(v1::WatchJobRequest { id: id.to_owned() }).await.map_err(failed)?.into_inner();
    while let Some(batch) = stream.message().await.map_err(failed)? {
        for event in batch.events {
            if let Some(job) = replay.take(event, sink)? {
                return Ok(job);
            }
        }
        sink.flush()?;
    }
    Err(Failure::new(Cause::Unreachable, format!("follow job {id}")).because("the controller ended the connection"))
}

/// What was told already.
#[derive(Debug, Default)]
struct Replay {
    /// Happenings that were new; shows whether a watch made progress.
    happenings: u64,
    streams: HashMap<String, [Progress; 2]>,
    outcomes: BTreeMap<String, Outcome>,
}

/// One stream of one node, bytes from its start.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Passed on, in all watches.
    told: u64,
    /// Received in this watch.
    received: u64,
}

impl Replay {
    /// A new watch starts from the beginning.
    fn begin_again(&mut self) {
        self.streams.values_mut().flatten().for_each(|progress| progress.received = 0);
    }

    /// Passes on what is new; gives the job when it ended.
    fn take(&mut self, event: v1::JobEvent, sink: &mut dyn Sink) -> io::Result<Option<v1::Job>> {
        let node = event.node;
        match event.happening {
            Some(Happening::Output(output)) => self.output(&node, output.stream(), &output.data, sink)?,
            Some(Happening::Outcome(outcome)) => self.outcome(node, &outcome, sink)?,
            Some(Happening::Ended(job)) => return Ok(Some(job)),
            Some(Happening::Begun(_) | Happening::Started(_)) | None => {}
        }
        Ok(None)
    }

    fn progress(&mut self, node: &str, index: usize) -> &mut Progress {
        if !self.streams.contains_key(node) {
            self.streams.insert(node.to_owned(), [Progress::default(); 2]);
        }
        &mut self.streams.get_mut(node).expect("inserted above")[index]
    }

    fn output(&mut self, node: &str, stream: v1::OutputStream, data: &[u8], sink: &mut dyn Sink) -> io::Result<()> {
        let index = usize::from(stream == v1::OutputStream::Stderr);
        let progress = self.progress(node, index);
        let known = usize::try_from(progress.told - progress.received).unwrap_or(usize::MAX).min(data.len());
        progress.received += data.len() as u64;
        let new = &data[known..];
        if new.is_empty() {
            return Ok(());
        }
        progress.told += new.len() as u64;
        self.happenings += 1;
        sink.output(node, stream, new)
    }

    fn outcome(&mut self, node: String, wire: &v1::JobOutcome, sink: &mut dyn Sink) -> io::Result<()> {
        if self.outcomes.contains_key(&node) {
            return Ok(());
        }
        // A short output comes whole with the outcome; whatever of it came before is left out.
        for (stream, whole) in [(v1::OutputStream::Stdout, &wire.stdout), (v1::OutputStream::Stderr, &wire.stderr)] {
            let index = usize::from(stream == v1::OutputStream::Stderr);
            let received = usize::try_from(self.progress(&node, index).received).unwrap_or(usize::MAX);
            self.output(&node, stream, whole.get(received..).unwrap_or_default(), sink)?;
        }
        let outcome = Outcome::try_from(wire)
            .unwrap_or_else(|error| Outcome::bare(Ending::Unknown { message: error.to_string() }));
        let missing = [
            outcome.stdout_bytes.saturating_sub(self.progress(&node, 0).told),
            outcome.stderr_bytes.saturating_sub(self.progress(&node, 1).told),
        ];
        self.happenings += 1;
        sink.ended(&node, &outcome, missing)?;
        self.outcomes.insert(node, outcome);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Record(String);

    impl Sink for Record {
        fn output(&mut self, node: &str, stream: v1::OutputStream, data: &[u8]) -> io::Result<()> {
            let number = stream as i32;
            self.0 += &format!("{node}/{number}:{};", String::from_utf8_lossy(data));
            Ok(())
        }

        fn ended(&mut self, node: &str, outcome: &Outcome, missing: [u64; 2]) -> io::Result<()> {
            self.0 += &format!("{node} {} missing {missing:?};", outcome.ending);
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(node: &str, stream: v1::OutputStream, data: &'static str) -> v1::JobEvent {
        let output = v1::JobOutput { stream: stream.into(), data: data.into() };
        v1::JobEvent { node: node.into(), happening: Some(Happening::Output(output)) }
    }

    fn outcome(node: &str, exit_code: i32, stdout: &'static str, stdout_bytes: u64) -> v1::JobEvent {
        let outcome = v1::JobOutcome {
            result: v1::JobResult::Exited.into(),
            exit_code,
            stdout: stdout.into(),
            stdout_bytes,
            ..Default::default()
        };
        v1::JobEvent { node: node.into(), happening: Some(Happening::Outcome(outcome)) }
    }

    fn told(watches: &[Vec<v1::JobEvent>]) -> String {
        let (mut replay, mut record) = (Replay::default(), Record::default());
        for watch in watches {
            replay.begin_again();
            for event in watch {
                replay.take(event.clone(), &mut record).expect("a string takes everything");
            }
        }
        record.0
    }

    const OUT: v1::OutputStream = v1::OutputStream::Stdout;
    const ERR: v1::OutputStream = v1::OutputStream::Stderr;

    #[test]
    fn a_second_watch_tells_only_what_the_first_did_not() {
        let first =
            vec![output("a", OUT, "one "), output("a", ERR, "oh"), output("b", OUT, "B"), outcome("b", 0, "", 1)];
        // The same bytes in other pieces, and more of them.
        let second =
            vec![output("a", OUT, "one two"), output("b", OUT, "B"), outcome("b", 0, "", 1), output("a", ERR, "oh no")];
        let all = "a/1:one ;a/2:oh;b/1:B;b ok missing [0, 0];a/1:two;a/2: no;";
        assert_eq!(told(&[first, second]), all);
    }

    #[test]
    fn short_output_that_comes_with_the_outcome_is_told_once() {
        assert_eq!(told(&[vec![outcome("a", 0, "hello", 5)]]), "a/1:hello;a ok missing [0, 0];");
        let streamed = vec![output("a", OUT, "hel"), outcome("a", 3, "hello", 5)];
        assert_eq!(told(&[streamed]), "a/1:hel;a/1:lo;a exit code 3 missing [0, 0];");
    }

    #[test]
    fn output_that_was_not_kept_is_counted() {
        assert_eq!(
            told(&[vec![output("a", OUT, "kept"), outcome("a", 0, "", 1000)]]),
            "a/1:kept;a ok missing [996, 0];"
        );
    }
}
