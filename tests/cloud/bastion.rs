// SPDX-License-Identifier: Apache-2.0
//! A controller on this machine, as servers of the cloud see it.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use windlass_tests::controller::Controller;
use windlass_tests::process::{Answer, run_within};

use crate::site::clouds_file;

/// How guests reach this machine through their router.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(172, 24, 4, 1);

/// An emulated server on a busy machine.
pub(crate) const BOOT: Duration = Duration::from_secs(1500);

/// A controller that uses the cloud.
#[derive(Debug)]
pub(crate) struct Bastion {
    /// The controller.
    pub(crate) controller: Controller,
}

impl Bastion {
    /// Starts one, with nothing in its state.
    pub(crate) async fn start() -> Self {
        let mut controller = Controller::prepared(&format!("advertise = [\"{HERE}\"]\n"));
        controller.listen_at(HERE.into());
        let mut site = Self { controller };
        site.restart().await;
        site
    }

    /// Starts it again.
    pub(crate) async fn restart(&mut self) {
        let mut serve: Command = self.controller.serve_command();
        serve.env("OS_CLIENT_CONFIG_FILE", clouds_file());
        self.controller.start_by(serve).await;
    }

    /// Runs a command line that may wait for servers.
    pub(crate) async fn windlass(&self, arguments: &[&str]) -> Answer {
        run_within(BOOT, &mut self.controller.cli_command(arguments)).await
    }

    /// What a line of shell prints on the node.
    pub(crate) async fn shell(&self, line: &str) -> String {
        let answer = self.windlass(&["exec", "node1", "--timeout", "120s", "--", "sh", "-c", line]).await.ok();
        answer.lines().map(|line| line.strip_prefix("node1: ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
    }

    /// The node.
    pub(crate) async fn node(&self) -> Value {
        self.controller.cli(&["get", "node", "node1", "-o", "json"]).await.json()
    }
}
