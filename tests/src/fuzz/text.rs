// SPDX-License-Identifier: Apache-2.0
//! Text: configuration files, refusals, and what a node's tools and files say.

use std::hint::black_box;
use std::path::Path;

use prost::bytes::Bytes;
use tonic::{Code, Status};
use windlass_agent::host::{boot_entries, grub_cfg, grubby, lsblk, os_release, package_manager, procfs, systemd_units};
use windlass_controller::config::{File, Overrides, Settings};
use windlass_controller::spec::Cluster;
use windlass_proto::refusal::Refusal;
use windlass_types::error_chain::ErrorChain;

/// The controller's configuration. What is refused is refused with words.
pub fn controller_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match File::parse(text).map(|file| Settings::new(file, Overrides::default())) {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => assert!(!ErrorChain(&error).to_string().is_empty()),
        Err(error) => assert!(!ErrorChain(&error).to_string().is_empty()),
    }
}

/// The agent's configuration.
pub fn agent_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = windlass_agent::config::Config::parse(text, Path::new("agent.toml")) {
        assert!(!ErrorChain(&error).to_string().is_empty());
    }
}

/// `cluster.yaml`.
pub fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Cluster::parse(text) {
        assert!(!ErrorChain(&error).to_string().is_empty());
    }
}

/// The details of a refused call.
pub fn refusal(bytes: &[u8]) {
    let message = String::from_utf8_lossy(bytes);
    let status = Status::with_details(Code::Internal, message.clone(), Bytes::copy_from_slice(bytes));
    assert_eq!(Refusal::from_status(&status).message, message);
}

/// What the tools and files of a node say, read by every reader of the agent.
pub fn node(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop(black_box(os_release::parse(&text)));
    drop(black_box(package_manager::parse_version(&text)));
    black_box(procfs::parse_boot_time(&text));
    drop(black_box(procfs::parse_mounts(&text)));
    drop(black_box(grubby::release_of(&text)));
    drop(black_box(grub_cfg::default_release(&text, &text)));
    let saved = boot_entries::grubenv_value(&text, "saved_entry");
    let entries = [boot_entries::parse_entry("a-1.conf", &text), boot_entries::parse_entry(&text, &text)];
    black_box(boot_entries::default_entry(&entries, saved));
    drop(black_box(lsblk::Printed::Json(text.to_string()).parse()));
    drop(black_box(lsblk::Printed::Pairs(text.to_string()).parse()));
    drop(black_box(systemd_units::parse_show(&["sshd.service".to_owned()], &text)));
}
