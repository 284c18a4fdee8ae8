// SPDX-License-Identifier: Apache-2.0
//! The manual: every link between its pages leads somewhere.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/decisions"] {
        for entry in std::fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// What stands in the round brackets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

fn check(page: &Path, link: &str) -> Result<()> {
    let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.parent().context("a page is in a folder")?;
    let target = if file.is_empty() { page.to_owned() } else { folder.join(file) };
    anyhow::ensure!(target.exists(), "{} links to {link}, which does not exist", page.display());
    if !wanted.is_empty() {
        let text = std::fs::read_to_string(&target)?;
        let has = text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == wanted);
        anyhow::ensure!(has, "{} links to {link}, which has no such heading", page.display());
    }
    Ok(())
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let pages = pages()?;
    assert!(pages.len() > 10, "the manual lost pages");
    for page in pages {
        let text = std::fs::read_to_string(&page)?;
        for link in links(&text).filter(|link| !link.starts_with("http")) {
            check(&page, link)?;
        }
    }
    Ok(())
}

#[test]
fn every_path_of_a_fact_is_in_the_manual() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/concepts.md")).expect("there");
    for path in windlass_types::fact_path::FACT_PATHS {
        assert!(manual.contains(&format!("`{path}`")), "docs/concepts.md does not name {path}");
    }
}
