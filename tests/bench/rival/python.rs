// SPDX-License-Identifier: Apache-2.0
//! Python environments in the cache, one per rival, made once.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::{command, run};
use crate::report::progress;

/// An environment that holds these packages.
///
/// # Errors
/// If Python or the package index cannot be used.
pub(crate) fn environment(cache: &Path, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let path = cache.join(name);
    let stamp = path.join("installed");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(path);
    }
    progress(&format!("installing {} into {}", packages.join(", "), path.display()));
    std::fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
    run(command("python3").arg("-m").arg("venv").arg("--clear").arg(&path))?;
    let mut pip = command(path.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    std::fs::write(&stamp, wanted)?;
    Ok(path)
}
