// SPDX-License-Identifier: Apache-2.0
//! One session with the controller, seen from the executor: what it stands for, then orders in, reports out.
//!
//! Reading never waits for writing, so that a front which is slow to read is not kept from writing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use windlass_proto::convert::facts::to_wire;
use windlass_proto::v1;
use windlass_proto::v1::executor_message::Message as Out;
use windlass_proto::v1::front_message::Message as In;

use crate::host::{Look, Observe};
use crate::jobs::Jobs;
use crate::local::{Receiver, Sender};
use crate::observe::observe_as_root;
use crate::transfer::Carriers;

/// Looks at the node.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) host: Arc<dyn crate::host::change::Change>,
    /// Services that are watched.
    pub(super) watched: Vec<String>,
}

impl Seen {
    async fn look(&self, look: Look) -> v1::NodeObserved {
        let host: &dyn Observe = &*self.host;
        let facts = observe_as_root(host, &self.watched, look).await;
        v1::NodeObserved { facts: facts.into_iter().map(|fact| to_wire(fact, Duration::ZERO)).collect() }
    }
}

/// Holds a session until the front ends it.
pub(super) async fn hold(
    jobs: &Arc<Jobs>,
    carriers: &Arc<Carriers>,
    seen: &Seen,
    mut sender: Sender,
    mut receiver: Receiver,
) -> io::Result<()> {
    say(&mut sender, Out::Standing(standing(jobs))).await?;
    // Of what is asked more often than it can be done, the last counts.
    let (opened, (asked, mut looks)) = (Notify::new(), watch::channel(Look::Briefly));
    let reading = async {
        while let Some(message) = receiver.next::<v1::FrontMessage>().await? {
            match message.message {
                Some(In::Order(order)) => jobs.obey(&order),
                Some(In::Ack(ack)) => jobs.acknowledge(&ack.job),
                Some(In::Opened(_)) => opened.notify_one(),
                Some(In::Observe(observe)) => {
                    asked.send_replace(if observe.closely { Look::Closely } else { Look::Briefly });
                }
                None => tracing::warn!("the front said something that this version does not know; ignoring it"),
            }
        }
        Ok(())
    };
    let writing = async {
        let (mut is_open, mut announced, mut looking) = (false, 0, None);
        loop {
            let message = tokio::select! {
                biased;
                () = opened.notified() => {
                    is_open = true;
                    jobs.report_all();
                    continue;
                }
                // Asked again while a look is under way: another one follows.
                Ok(()) = looks.changed(), if looking.is_none() => {
                    let look = *looks.borrow_and_update();
                    looking = Some(Box::pin(seen.look(look)));
                    continue;
                }
                report = jobs.next_report(), if is_open => Out::Job(report),
                call = carriers.next_after(announced) => {
                    announced = call;
                    Out::Carry(v1::CarryAnnouncement { call })
                }
                observed = async { looking.as_mut().expect("only polled then").await }, if looking.is_some() => {
                    looking = None;
                    Out::Observed(observed)
                }
            };
            say(&mut sender, message).await?;
        }
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

async fn say(sender: &mut Sender, message: Out) -> io::Result<()> {
    sender.send(&v1::ExecutorMessage { message: Some(message) }).await
}

fn standing(jobs: &Jobs) -> v1::ExecutorStanding {
    let (epoch, sequence) = jobs.position();
    v1::ExecutorStanding {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: jobs.node().to_string(),
        epoch,
        sequence,
        jobs: jobs.open_jobs(),
        abilities: jobs.abilities(),
    }
}
