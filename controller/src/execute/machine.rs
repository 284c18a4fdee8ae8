// SPDX-License-Identifier: Apache-2.0
//! Follows a machine until its node is healthy.
//!
//! That it has joined and is well is read from the fleet, whenever an event about the node says that something is new. How
//! far it is before that, it tells on its console. Whether the machine still runs is asked when an event says that something
//! happened to it, and now and then, for providers that tell nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::machine::{Accel, MachineStage, PowerState, ProviderKind};
use windlass_types::name::{LabelKey, LabelValue};

use super::Runs;
use super::console::{Console, Said};
use super::steps::{Hand, StepFailure};
use super::times::{Crowd, Times};
use super::trouble::{Past, Trouble, given_up, stuck_at};
use crate::cloud_init::mark;
use crate::events::Follower;
use crate::provider::{ConsoleFrom, PowerAction};
use crate::tokens::DEFAULT_LIFE;

/// How often a provider is asked whether the machine runs, and why it is silent.
const POWER_EVERY: Duration = Duration::from_secs(10);

/// A machine that says nothing at all for this long after it was made does not boot. Firmware speaks at once, also under
/// emulation on a busy host.
const SPEAKS_WITHIN: Duration = Duration::from_secs(120);

/// A machine that comes no further for this long is told of: ten times what each stage takes without KVM.
const NEWS_WITHIN: Duration = Duration::from_secs(300);

/// Consoles are kept up to 8 MiB, a piece has 64 KiB; a machine that writes without end shall not hold us up.
const MOST_PIECES: usize = 256;

/// A node that joined is well within this, or needs a look.
const HEALTHY_WITHIN: Duration = Duration::from_secs(600);

/// How a machine comes along.
struct Way {
    began: Instant,
    console: Console,
    position: u64,
    has_console: bool,
    has_spoken: bool,
    enrolled_at: Option<Instant>,
    expected: Times,
    crowd: Crowd,
    accel: Option<Accel>,
    /// Its stages were all seen from the beginning.
    is_new: bool,
    /// Until its console was read to the end once.
    past: Past,
    /// When it last told something.
    heard_at: Instant,
    is_told_stuck: bool,
}

impl Runs {
    /// Follows a machine until its node is healthy. `labels` are given to the node as soon as it has joined; the times of
    /// one that `is_new` are learned from.
    ///
    /// # Errors
    /// Why it did not become so.
    pub(super) async fn until_healthy(
        &self,
        hand: &Hand<'_>,
        labels: Option<&BTreeMap<LabelKey, LabelValue>>,
        is_new: bool,
        past: Past,
    ) -> Result<(), StepFailure> {
        // From before the first look, so that nothing falls between the two.
        let mut news = self.with.events.follow(self.with.events.durable());
        let mut way = self.set_out(hand, is_new, past).await?;
        let mut asking = interval(POWER_EVERY);
        asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_well = self.look(hand, &mut way, labels).await?;
        if !is_well {
            self.read_console(hand, &mut way).await?;
        }
        while !is_well {
            tokio::select! {
                () = hand.run.stop.cancelled() => return Err(StepFailure::Stopped),
                () = hand.provider.console_grows(&hand.key, way.position), if way.has_console => {
                    self.read_console(hand, &mut way).await?;
                }
                _ = asking.tick() => self.ask(hand, &mut way).await?,
                is_of_machine = about(&mut news, hand) => {
                    if is_of_machine {
                        self.ask(hand, &mut way).await?;
                    }
                }
            }
            self.in_time(hand, &mut way)?;
            is_well = self.look(hand, &mut way, labels).await?;
        }
        self.arrived(hand, &way).await
    }

    async fn set_out(&self, hand: &Hand<'_>, is_new: bool, past: Past) -> Result<Way, StepFailure> {
        let kind = hand.provider.kind();
        let failed = |error: &dyn std::error::Error| StepFailure::ours("read how long this takes", error);
        let machine = self.machine(hand).await?;
        // What was there before need not write to a console, and says nothing of ours there.
        let is_followed = kind != ProviderKind::Existing && !machine.as_ref().is_some_and(|machine| machine.adopted);
        let accel = machine.and_then(|machine| machine.accel);
        let known = self.with.times.known(&kind, accel).await.map_err(|error| failed(&error))?;
        let crowd = Crowd::of(&hand.run.record().plan, hand.provider.processors());
        let expected = match &kind {
            ProviderKind::Existing => Times::default(),
            ProviderKind::Qemu | ProviderKind::Openstack(_) => {
                known.unwrap_or_else(|| Times::guess(accel)).in_crowd(crowd)
            }
        };
        let way = Way {
            began: Instant::now(),
            console: Console::new(hand.key.name.clone()),
            position: 0,
            has_console: is_followed,
            has_spoken: false,
            enrolled_at: None,
            expected,
            crowd,
            accel,
            is_new,
            past,
            heard_at: Instant::now(),
            is_told_stuck: false,
        };
        hand.run.progress().change(hand.id, |record| {
            record.expected_millis = way.expected.whole();
            let next = record.stage().map_or(Some(MachineStage::Created), MachineStage::next);
            record.expected_stage_millis = next.map_or(0, |next| way.expected.until(next));
        });
        hand.run.signal();
        Ok(way)
    }

    async fn machine(&self, hand: &Hand<'_>) -> Result<Option<windlass_types::machine::MachineReport>, StepFailure> {
        let observed = hand.provider.observe(&hand.key.cluster).await;
        let machines = observed.map_err(|error| StepFailure::provider(&error))?;
        Ok(machines.into_iter().find(|machine| machine.name == hand.key.name))
    }

    /// Whether the node is healthy now.
    async fn look(
        &self,
        hand: &Hand<'_>,
        way: &mut Way,
        labels: Option<&BTreeMap<LabelKey, LabelValue>>,
    ) -> Result<bool, StepFailure> {
        let Some(node) = self.with.observer.node(&hand.key.name) else { return Ok(false) };
        if way.enrolled_at.is_none() {
            way.enrolled_at = Some(Instant::now());
            // What it said before comes first. If it says that it failed, its certificate knows better.
            if let Err(refuted) = self.read_console(hand, way).await {
                tracing::debug!(node = %hand.key.name, ?refuted, "a node that has joined says that it failed");
            }
            self.advance(hand, &way.expected, MachineStage::Enrolled).await;
            self.seal(hand).await;
            if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
                let labelled = self.with.fleet.label(&hand.key.name, labels.clone(), &[]).await;
                labelled.map_err(|refusal| StepFailure::said(refusal.message, refusal.advice))?;
            }
        }
        if node.is_healthy {
            self.advance(hand, &way.expected, MachineStage::Healthy).await;
        }
        Ok(node.is_healthy)
    }

    /// Takes the secrets out of what the machine can read. One that is used up already is worth little; so a failure is
    /// told, and holds up nothing.
    async fn seal(&self, hand: &Hand<'_>) {
        if let Err(error) = hand.provider.seal(&hand.key).await {
            let name = &hand.key.name;
            let why = ErrorChain(&error);
            let message = format!("the used join token could not be removed from the user-data of {name}: {why}");
            self.tell(hand.run, EventKind::MachineTrouble, hand.id, message);
        }
    }

    async fn arrived(&self, hand: &Hand<'_>, way: &Way) -> Result<(), StepFailure> {
        if way.is_new {
            let seen = Times::of(&hand.run.progress().step(hand.id)).alone(way.crowd);
            let learned = self.with.times.learn(&hand.provider.kind(), way.accel, &seen).await;
            learned.map_err(|error| StepFailure::ours("keep how long this took", &error))?;
        }
        Ok(())
    }

    /// Reads the console to its end; what was told last counts.
    async fn read_console(&self, hand: &Hand<'_>, way: &mut Way) -> Result<(), StepFailure> {
        if !way.has_console {
            return Ok(());
        }
        let mut trouble = None;
        for _ in 0..MOST_PIECES {
            let piece = match hand.provider.console(&hand.key, ConsoleFrom::Position(way.position)).await {
                Ok(piece) if piece.data.is_empty() => break,
                Ok(piece) => piece,
                Err(error) => {
                    tracing::debug!(node = %hand.key.name, %error, "the console cannot be read");
                    return Ok(());
                }
            };
            way.position = piece.next;
            way.has_spoken = true;
            for said in way.console.read(&piece.data) {
                way.heard_at = Instant::now();
                trouble = match said {
                    Said::Retrying(why) => Some(Trouble::Retrying(why)),
                    Said::Failed(why) => Some(Trouble::GivenUp(why)),
                    // News of an earlier boot.
                    Said::Reached(_) if way.past == Past::IsOver => None,
                    Said::Reached(stage) => {
                        self.advance(hand, &way.expected, stage).await;
                        None
                    }
                };
            }
        }
        match (trouble, std::mem::replace(&mut way.past, Past::Counts)) {
            (None, _) | (Some(_), Past::IsOver) => Ok(()),
            (Some(Trouble::Retrying(why)), _) => {
                let message = format!("{}: attempt {}: {}", why.code, why.attempt, why.detail);
                self.troubled(hand, "has trouble and tries again", &message, why.advice());
                Ok(())
            }
            (Some(Trouble::GivenUp(why)), Past::TryAgain) if why.is_worth_another_try() => {
                self.try_again(hand, &why).await
            }
            (Some(Trouble::GivenUp(why)), _) => Err(given_up(&hand.key, &why, way.console.tail())),
        }
    }

    /// Resets a machine whose first boot has ended in vain. It has not joined, so nothing can be lost with it.
    async fn try_again(&self, hand: &Hand<'_>, why: &mark::Trouble) -> Result<(), StepFailure> {
        let name = &hand.key.name;
        let message = format!("{name} had given up ({}) and is reset, so that it tries again", why.code);
        self.tell(hand.run, EventKind::MachinePower, hand.id, message);
        let reset = hand.provider.power(&hand.key, PowerAction::Reset).await;
        reset.map_err(|error| StepFailure::provider(&error))
    }

    fn troubled(&self, hand: &Hand<'_>, how: &str, message: &str, advice: &str) {
        hand.run.progress().change(hand.id, |record| {
            message.clone_into(&mut record.message);
            advice.clone_into(&mut record.advice);
        });
        let text = format!("{} {how}: {message}; {advice}", hand.key.name);
        self.tell(hand.run, EventKind::MachineTrouble, hand.id, text);
        hand.run.signal();
    }

    /// Whether the machine still runs.
    async fn ask(&self, hand: &Hand<'_>, way: &mut Way) -> Result<(), StepFailure> {
        if !way.has_console {
            return Ok(());
        }
        let name = &hand.key.name;
        match self.machine(hand).await? {
            None => {
                let advice = format!("windlass destroy --cluster {} --node {name}, then apply", hand.key.cluster);
                Err(failed("its machine is gone", &advice, way))
            }
            Some(machine) if machine.power == PowerState::Off => {
                // What it said last comes into the report.
                self.read_console(hand, way).await?;
                let advice = "windlass apply switches it on again";
                let why = machine.note.map_or_else(String::new, |note| format!(": {note}"));
                Err(failed(&format!("its machine does not run any more{why}"), advice, way))
            }
            Some(machine) => {
                way.accel = machine.accel.or(way.accel);
                match hand.provider.diagnose(&hand.key).await {
                    Ok(Some(why)) if way.enrolled_at.is_none() => Err(failed(&why, "name a bootable image", way)),
                    // What cannot be asked now may be asked again; the machine itself is none the worse.
                    Ok(_) | Err(_) => Ok(()),
                }
            }
        }
    }

    fn in_time(&self, hand: &Hand<'_>, way: &mut Way) -> Result<(), StepFailure> {
        let name = &hand.key.name;
        let is_stuck = way.has_console && way.enrolled_at.is_none() && way.heard_at.elapsed() > NEWS_WITHIN;
        if is_stuck && !std::mem::replace(&mut way.is_told_stuck, is_stuck) {
            let (message, advice) = stuck_at(name, hand.run.progress().step(hand.id).stage());
            let how = format!("makes no progress for {} minutes", NEWS_WITHIN.as_secs() / 60);
            self.troubled(hand, &how, &message, &advice);
        }
        let gone_by = way.began.elapsed();
        if way.has_console && !way.has_spoken && way.enrolled_at.is_none() && gone_by > SPEAKS_WITHIN {
            let message = format!("it said nothing on its console within {} s", SPEAKS_WITHIN.as_secs());
            return Err(failed(&message, "see that the image is bootable and writes to its first serial port", way));
        }
        match way.enrolled_at {
            None if gone_by > DEFAULT_LIFE => {
                let (why, advice) = match way.has_console {
                    true => stuck_at(name, hand.run.progress().step(hand.id).stage()),
                    false => ("nobody joined with its token".to_owned(), format!("windlass token create {name}")),
                };
                let message = format!("it did not join within {} minutes: {why}", DEFAULT_LIFE.as_secs() / 60);
                Err(failed(&message, &advice, way))
            }
            Some(at) if at.elapsed() > HEALTHY_WITHIN => {
                let message = "it joined and did not become healthy within 10 minutes";
                Err(failed(message, &format!("windlass get node {name} says why"), way))
            }
            None | Some(_) => Ok(()),
        }
    }
}

fn failed(message: &str, advice: &str, way: &Way) -> StepFailure {
    let (message, advice) = (message.to_owned(), advice.to_owned());
    StepFailure::Said { message, advice, console_tail: way.console.tail() }
}

/// Waits for events about the node; whether something happened to its machine. A store that cannot be read is looked at
/// again with the next tick.
async fn about(news: &mut Follower, hand: &Hand<'_>) -> bool {
    loop {
        match news.next().await {
            Ok(Some(mut events)) => {
                events.retain(|event| event.node.as_ref() == Some(&hand.key.name));
                if !events.is_empty() {
                    return events.iter().any(|event| event.kind == EventKind::MachineStopped);
                }
            }
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}
