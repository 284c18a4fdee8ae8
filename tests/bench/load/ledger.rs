// SPDX-License-Identifier: Apache-2.0
//! Every program that models start and that changes something, one a line, in a file that outlives whatever is killed: so "lost" and "twice" are
//! counted where things happen, and not by those who may have forgotten.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use windlass_agent::host::fake::FakeHost;
use windlass_agent::jobs::fake::{FakeRunner, Script};

use crate::report::progress;

/// Programs that are written down; others only look.
const CHANGE: [&str; 2] = [TICK, "sysctl"];

/// A program of the benchmark, known by its argument.
pub(crate) const TICK: &str = "tick";

/// Kernel parameters that these models have.
pub(crate) const PARAMETERS: usize = 40;

/// One of them.
pub(crate) fn parameter(number: usize) -> String {
    format!("net.bench.step{number:02}")
}

/// What is written down.
#[derive(Debug, Clone)]
pub(super) struct Ledger(Arc<File>);

fn path(directory: &Path, from: usize) -> PathBuf {
    directory.join(format!("ledger-{from}"))
}

impl Ledger {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn open(directory: &Path, from: usize) -> Result<Self> {
        let path = path(directory, from);
        let file = File::options().create(true).append(true).open(&path);
        Ok(Self(Arc::new(file.with_context(|| format!("open {}", path.display()))?)))
    }

    /// Runs the model's programs, which end at once, and writes down those that change something.
    pub(super) fn runner(&self, host: &FakeHost, node: &str) -> FakeRunner {
        host.change(|node| {
            let path = |number| PathBuf::from(format!("/proc/sys/{}", parameter(number).replace('.', "/")));
            node.files.extend((0..PARAMETERS).map(|number| (path(number), "0\n".to_owned())));
        });
        let (ledger, host, node) = (self.clone(), host.clone(), node.to_owned());
        FakeRunner::new(move |argv| {
            let name = argv.program().rsplit('/').next().unwrap_or_default();
            // One write, so lines of two agents do not mix.
            if CHANGE.contains(&name)
                && let Err(error) = (&*ledger.0).write_all(format!("{node} {argv}\n").as_bytes())
            {
                // The one who counts misses it and says so.
                progress(&format!("a program was not written down: {error}"));
            }
            let scripted = host.run(argv);
            Script { stdout: scripted.stdout.into_bytes(), code: scripted.exit_code, ..Script::default() }
        })
    }
}

/// How often each program was started on each node, as `NODE PROGRAM ARGUMENTS`.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read(directory: &Path, firsts: &[usize]) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for from in firsts {
        let path = path(directory, *from);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for line in text.lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}
