// SPDX-License-Identifier: Apache-2.0
//! The results: a table for people, `summary.json` for programs.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One result.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// How much; absent if it could not be measured.
    pub(crate) value: Option<f64>,
    /// Of what.
    pub(crate) unit: &'static str,
    /// What it should be, such as `>= 150`; absent if it is there for comparison only.
    pub(crate) target: Option<String>,
    /// Whether it is; absent without a target or a value.
    pub(crate) met: Option<bool>,
}

/// The results so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// Tells how far the benchmark is.
#[expect(clippy::print_stderr, reason = "a benchmark takes minutes and says what it does")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

impl Report {
    /// For comparison.
    pub(crate) fn value(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.add(name.into(), value, unit, None);
    }

    /// Should be this or more.
    pub(crate) fn at_least(&mut self, name: impl Into<String>, value: f64, unit: &'static str, target: f64) {
        self.add(name.into(), value, unit, Some((format!(">= {target}"), value >= target)));
    }

    /// Should be this or less.
    pub(crate) fn at_most(&mut self, name: impl Into<String>, value: f64, unit: &'static str, target: f64) {
        self.add(name.into(), value, unit, Some((format!("<= {target}"), value <= target)));
    }

    /// Could not be measured.
    pub(crate) fn not_measured(&mut self, name: &str, why: &anyhow::Error) {
        progress(&format!("NOT MEASURED: {name}: {why:#}"));
        let first = format!("{why:#}").lines().next().unwrap_or_default().to_owned();
        self.notes.push(format!("NOT MEASURED: {name}: {first}"));
        self.rows.push(Row { name: name.to_owned(), value: None, unit: "", target: None, met: None });
    }

    /// Something the reader should know.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        progress(&text);
        self.notes.push(text);
    }

    fn add(&mut self, name: String, value: f64, unit: &'static str, target: Option<(String, bool)>) {
        let value = value.is_finite().then_some(value);
        let met = target.as_ref().and_then(|(_, met)| value.map(|_| *met));
        let row = Row { name, value, unit, target: target.map(|(target, _)| target), met };
        progress(&line(&row));
        self.rows.push(row);
    }

    /// Targets that are not met.
    fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met == Some(false)).count()
    }

    /// Prints the table.
    #[expect(clippy::print_stdout, reason = "this is what the benchmark is for")]
    pub(crate) fn print(&self) {
        println!("{:<58} {:>12} {:<9} {:>12} met", "what", "value", "unit", "target");
        for row in &self.rows {
            println!("{}", line(row));
        }
        for note in &self.notes {
            println!("{note}");
        }
        let with_target = self.rows.iter().filter(|row| row.met.is_some()).count();
        println!("{} of {with_target} targets are met", with_target - self.missed());
    }

    /// Writes the summary.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.rows)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

fn line(row: &Row) -> String {
    let value = row.value.map_or("-".to_owned(), number);
    let met = match row.met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    };
    format!("{:<58} {value:>12} {:<9} {:>12} {met}", row.name, row.unit, row.target.as_deref().unwrap_or_default())
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}
