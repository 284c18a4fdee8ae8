// SPDX-License-Identifier: Apache-2.0
//! The example configurations of `packaging/config`, with their keys in force instead of commented out.

use std::path::Path;

use anyhow::{Context as _, Result};

/// The text of an example with every `#key = value` made `key = value`.
///
/// # Errors
/// If there is no such file.
pub fn in_force(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line).to_owned() + "\n")
        .collect())
}

fn is_key(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ")
}
