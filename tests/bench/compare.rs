// SPDX-License-Identifier: Apache-2.0
//! Rival over ours, and ours against the floor: a weak rival makes the first large, so the second stands beside it.

use anyhow::Result;

use crate::measure::Series;
use crate::report::Report;

/// The contender that everything is compared with.
pub(crate) const OURS: &str = "ours";

/// The least that the work itself costs on this machine.
pub(crate) const FLOOR: &str = "floor";

/// What is wanted of one comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The rival.
    pub(crate) rival: &'static str,
    /// Its wall time over ours.
    pub(crate) ratio: f64,
}

/// Results of contenders, and what is made of them.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    /// The benchmark.
    pub(crate) id: &'a str,
    /// Nodes each contender worked on; the names that are not there worked on the first one's number.
    pub(crate) results: Vec<(&'static str, Result<Series>)>,
}

impl Comparison<'_> {
    /// One contender's runs, if it could run.
    pub(crate) fn series(&self, name: &str) -> Option<&Series> {
        let (_, series) = self.results.iter().find(|(known, _)| *known == name)?;
        series.as_ref().ok()
    }

    /// Adds wall and processor time of each, and the ratios.
    pub(crate) fn report(&self, report: &mut Report, wanted: &[Wanted]) {
        let id = self.id;
        for (name, result) in &self.results {
            match result {
                Ok(series) => {
                    let (shortest, longest) = series.spread();
                    let runs = series.len();
                    report.value(format!("{id} {name}: wall (median of {runs})"), series.wall(), "s");
                    report.note(format!("{id} {name}: {shortest:.3} to {longest:.3} s"));
                    report.value(format!("{id} {name}: processor time, both ends"), series.cpu(), "s");
                }
                Err(error) => report.not_measured(&format!("{id} {name}"), error),
            }
        }
        let Some(ours) = self.series(OURS) else { return };
        for (name, _) in &self.results {
            let Some(rival) = self.series(name).filter(|_| *name != OURS && *name != FLOOR) else { continue };
            let ratio = rival.wall() / ours.wall();
            match wanted.iter().find(|wanted| wanted.rival == *name) {
                Some(wanted) => report.at_least(format!("{id} {name} / ours: wall"), ratio, "times", wanted.ratio),
                None => report.value(format!("{id} {name} / ours: wall"), ratio, "times"),
            }
            report.value(format!("{id} {name} / ours: processor time"), rival.cpu() / ours.cpu(), "times");
        }
        if let Some(floor) = self.series(FLOOR) {
            report.value(format!("{id} efficiency: floor / ours, processor time"), floor.cpu() / ours.cpu(), "");
        }
    }
}
