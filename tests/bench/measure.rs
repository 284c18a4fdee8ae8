// SPDX-License-Identifier: Apache-2.0
//! The common protocol: contenders take turns (A, B, A, B, …), so that what else the machine does hits all of them; of
//! several runs the median counts.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use crate::account::Group;
use crate::process::pause;

/// What a contender leaves to be done after its run, such as our agents looking at their facts again a second later, must
/// not fall upon the next one.
const SETTLE: Duration = Duration::from_secs(2);

/// What one run cost, seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Wall time.
    pub(crate) wall: f64,
    /// Processor time of the controlling side.
    pub(crate) control: f64,
    /// Processor time of the nodes' side.
    pub(crate) nodes: f64,
}

/// The runs of one contender.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    samples: Vec<Sample>,
}

type Step<'a> = Box<dyn FnMut(usize) -> Result<()> + 'a>;

/// One way to do the work.
pub(crate) struct Contender<'a> {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Runs; slow ones get fewer.
    pub(crate) runs: usize,
    /// What it starts belongs here.
    pub(crate) control: &'a Group,
    /// Its nodes.
    pub(crate) nodes: &'a Group,
    /// Done before each run, not measured.
    pub(crate) prepare: Step<'a>,
    /// The work.
    pub(crate) work: Step<'a>,
}

impl<'a> Contender<'a> {
    /// One that needs no preparation.
    pub(crate) fn new(
        name: &'static str,
        runs: usize,
        (control, nodes): (&'a Group, &'a Group),
        work: impl FnMut(usize) -> Result<()> + 'a,
    ) -> Self {
        Self { name, runs, control, nodes, prepare: Box::new(|_| Ok(())), work: Box::new(work) }
    }

    /// One that does something before each run.
    pub(crate) fn preparing(mut self, prepare: impl FnMut(usize) -> Result<()> + 'a) -> Self {
        self.prepare = Box::new(prepare);
        self
    }
}

/// Lets them take turns. A contender that fails is left out of the result, with its reason.
pub(crate) fn interleave(contenders: &mut [Contender<'_>]) -> Vec<(&'static str, Result<Series>)> {
    let mut results: Vec<_> = contenders.iter().map(|contender| (contender.name, Ok(Series::default()))).collect();
    let rounds = contenders.iter().map(|contender| contender.runs).max().unwrap_or(0);
    for round in 0..rounds {
        for (contender, (name, result)) in contenders.iter_mut().zip(&mut results) {
            let Ok(series) = result else { continue };
            if round >= contender.runs {
                continue;
            }
            match sample(contender, round) {
                Ok(sample) => {
                    crate::report::progress(&format!("  {name} {}: {:.3} s", round + 1, sample.wall));
                    series.add(sample);
                }
                Err(error) => *result = Err(error),
            }
        }
    }
    results
}

/// One measured run.
///
/// # Errors
/// If the work fails.
pub(crate) fn sample(contender: &mut Contender<'_>, round: usize) -> Result<Sample> {
    (contender.prepare)(round).with_context(|| format!("prepare {}", contender.name))?;
    pause(SETTLE);
    let entered = contender.control.enter()?;
    let (control, nodes) = (contender.control.cpu_seconds(), contender.nodes.cpu_seconds());
    let begun = Instant::now();
    (contender.work)(round)?;
    let wall = begun.elapsed().as_secs_f64();
    let sample = Sample {
        wall,
        control: contender.control.cpu_seconds() - control,
        nodes: contender.nodes.cpu_seconds() - nodes,
    };
    drop(entered);
    Ok(sample)
}

/// The value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, half) if length % 2 == 1 => values[half],
        (_, half) => f64::midpoint(values[half - 1], values[half]),
    }
}

impl Series {
    /// One more run.
    pub(crate) fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Runs.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Median wall time, seconds.
    pub(crate) fn wall(&self) -> f64 {
        self.median_of(|sample| sample.wall)
    }

    /// Median processor time of both sides, seconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.median_of(|sample| sample.control + sample.nodes)
    }

    /// Median processor time of the controlling side, seconds.
    pub(crate) fn control_cpu(&self) -> f64 {
        self.median_of(|sample| sample.control)
    }

    /// Shortest and longest wall time, seconds.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let walls = || self.samples.iter().map(|sample| sample.wall);
        (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max))
    }

    fn median_of(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(value).collect())
    }
}
