// SPDX-License-Identifier: Apache-2.0
//! The example configurations say what is true: every key exists, and the value shown is the default.

use anyhow::Result;
use windlass_controller::config::{File, Overrides, Settings};
use windlass_tests::example;

#[test]
fn the_controllers_example_shows_the_defaults() -> Result<()> {
    let text = example::in_force("controller.toml")?;
    let shown = Settings::new(File::parse(&text)?, Overrides::default())?;
    let default = Settings::new(File::default(), Overrides::default())?;
    assert_eq!(format!("{shown:?}"), format!("{default:?}"));
    Ok(())
}

#[test]
fn the_manual_names_every_key() -> Result<()> {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md"))?;
    for file in ["controller.toml", "agent.toml"] {
        let text = example::in_force(file)?;
        let keys: Vec<_> =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|l| l.split_once(" = ")).collect();
        assert!(keys.len() > 3, "{file} shows no keys");
        for (key, _) in keys {
            assert!(manual.contains(&format!("{key}`")), "docs/operations.md does not name {key} of {file}");
        }
    }
    Ok(())
}
