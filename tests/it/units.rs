// SPDX-License-Identifier: Apache-2.0
//! The systemd units: whether systemd understands them, and how tight their sandbox is.
//!
//! The scores are ceilings. Raising one is a decision about security and wants a reason in the commit.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result};

/// Measured 1.2 by systemd 252; other versions count a little differently.
const CONTROLLER_CEILING: f32 = 1.6;

/// Measured 1.1 by systemd 252: the half that parses what comes from outside.
const FRONT_CEILING: f32 = 1.3;

/// Measured 2.1 by systemd 252. It is root and writes files anywhere, which is its purpose: see the unit.
const EXECUTOR_CEILING: f32 = 2.3;

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd")
}

#[expect(clippy::disallowed_methods, reason = "the tool under test is systemd's own")]
fn analyze(arguments: &[&str], files: &[PathBuf]) -> Result<Output> {
    Command::new("systemd-analyze")
        .args(arguments)
        .args(files)
        .env("LC_ALL", "C")
        .output()
        .context("run systemd-analyze; `make deps` installs it")
}

/// The exposure level that `systemd-analyze security` gives a unit: 0 is the tightest, 10 the loosest.
fn exposure(unit: &str) -> Result<f32> {
    let output = analyze(&["security", "--offline=true", "--no-pager"], &[units().join(unit)])?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find(|line| line.contains("Overall exposure level")).with_context(|| text.clone())?;
    let level = line.split(": ").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(level.with_context(|| line.to_owned())?.parse()?)
}

#[test]
fn the_controllers_sandbox_stays_tight() -> Result<()> {
    let level = exposure("windlass-controller.service")?;
    assert!(level <= CONTROLLER_CEILING, "exposure {level}");
    Ok(())
}

#[test]
fn the_fronts_sandbox_stays_tight() -> Result<()> {
    let level = exposure("windlass-agent.service")?;
    assert!(level <= FRONT_CEILING, "exposure {level}");
    Ok(())
}

#[test]
fn the_executors_sandbox_stays_as_tight_as_its_purpose_allows() -> Result<()> {
    let level = exposure("windlass-executor.service")?;
    assert!(level <= EXECUTOR_CEILING, "exposure {level}");
    Ok(())
}

#[test]
fn systemd_understands_every_unit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(units())? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let copy = folder.path().join(path.file_name().context("a unit has a name")?);
        // The programs are not installed here; what is checked is everything else.
        std::fs::write(
            &copy,
            text.replace("/usr/bin/windlass-agent", "/bin/true").replace("/usr/bin/windlass", "/bin/true"),
        )?;
        copies.push(copy);
    }
    let output = analyze(&["verify", "--man=no"], &copies)?;
    let said = String::from_utf8_lossy(&output.stderr);
    // Units of this host that ours are ordered after are looked at too, and are not ours to mend.
    let of_ours: Vec<_> = said.lines().filter(|line| line.contains("windlass")).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{said}");
    Ok(())
}
