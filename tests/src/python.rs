// SPDX-License-Identifier: Apache-2.0
//! Programs in Python with which Windlass is compared, each in an environment of its own in the cache, made once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Ansible: the last release that needs no newer Python than Debian 12 has, and no slower than its successors.
pub const ANSIBLE: &str = "ansible-core==2.14.18";

/// Where environments are kept: `$WINDLASS_BENCH_CACHE`, or `.cache/windlass-bench` in the home directory.
///
/// # Errors
/// If there is neither.
pub fn cache() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("WINDLASS_BENCH_CACHE") {
        return Ok(std::path::absolute(cache)?);
    }
    let home = std::env::var_os("HOME").context("HOME is not set: set WINDLASS_BENCH_CACHE")?;
    Ok(PathBuf::from(home).join(".cache/windlass-bench"))
}

/// An environment that holds these packages; `progress` is told if it has to be made.
///
/// # Errors
/// If Python or the package index cannot be used.
pub fn environment(cache: &Path, name: &str, packages: &[&str], progress: impl Fn(&str)) -> Result<PathBuf> {
    let path = cache.join(name);
    let stamp = path.join("installed");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(path);
    }
    progress(&format!("installing {} into {}", packages.join(", "), path.display()));
    std::fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
    run(Path::new("python3"), &["-m", "venv", "--clear"], &[path.as_os_str()])?;
    let pip: Vec<_> = packages.iter().map(std::ffi::OsStr::new).collect();
    run(&path.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check"], &pip)?;
    std::fs::write(&stamp, wanted)?;
    Ok(path)
}

#[expect(clippy::disallowed_methods, reason = "what is compared with us is installed by its own installer")]
fn run(program: &Path, words: &[&str], more: &[&std::ffi::OsStr]) -> Result<()> {
    let output = Command::new(program).args(words).args(more).output();
    let output = output.with_context(|| format!("start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {}: {}\n{said}", program.display(), words.join(" "), output.status);
    Ok(())
}
