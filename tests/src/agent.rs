// SPDX-License-Identifier: Apache-2.0
//! An agent as a process, beside its controller.

use std::path::PathBuf;

use tokio::process::Command;

use crate::controller::Controller;
use crate::process::{Answer, Running, command, program, run};
use crate::wait::{LONG, wait_until};

/// Jobs as process groups: a test must not depend on the machine's systemd.
const CONFIG: &str = "jobs = \"process-group\"\n";

/// An agent.
#[derive(Debug)]
pub struct Agent {
    /// The node's name.
    pub name: String,
    directory: PathBuf,
    process: Option<Running>,
}

/// What `windlass token create` printed.
#[derive(Debug, Clone)]
pub struct Token {
    /// The secret.
    pub token: String,
    /// The pin of the CA.
    pub ca_pin: String,
    /// Its id.
    pub id: String,
}

impl Token {
    /// Has a token made.
    ///
    /// # Panics
    /// If it is not.
    pub async fn create(controller: &Controller, node: &str, ttl: &str) -> Self {
        let made = controller.cli(&["token", "create", node, "--ttl", ttl, "-o", "json"]).await.json();
        let text = |name: &str| made[name].as_str().expect("text").to_owned();
        Self { token: text("token"), ca_pin: text("ca_pin"), id: text("id") }
    }
}

impl Agent {
    /// A machine with the program and nothing else.
    ///
    /// # Panics
    /// If its directory cannot be made.
    #[must_use]
    pub fn bare(controller: &Controller, name: &str) -> Self {
        let directory = controller.directory().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("agent.toml"), CONFIG).expect("written");
        Self { name: name.to_owned(), directory, process: None }
    }

    /// A machine that has joined.
    ///
    /// # Panics
    /// If it cannot join.
    pub async fn joined(controller: &Controller, name: &str) -> Self {
        let agent = Self::bare(controller, name);
        let token = Token::create(controller, name, "30m").await;
        let joined = agent.join(controller, &token).await;
        assert_eq!(joined.code, 0, "{joined:?}");
        agent
    }

    /// A node with an open session.
    pub async fn connected(controller: &Controller, name: &str) -> Self {
        let mut agent = Self::joined(controller, name).await;
        agent.run();
        agent.wait_connected(controller).await;
        agent
    }

    /// Runs `windlass-agent join`.
    ///
    /// # Panics
    /// If the token cannot be written to its file.
    pub async fn join(&self, controller: &Controller, token: &Token) -> Answer {
        run(&mut self.join_command(controller, token)).await
    }

    /// Runs `windlass-agent join` against any address.
    ///
    /// # Panics
    /// If the token cannot be written to its file.
    pub async fn join_at(&self, endpoint: &str, pin: &str, token: &str) -> Answer {
        run(&mut self.join_at_command(endpoint, pin, token)).await
    }

    /// The command that joins.
    #[must_use]
    pub fn join_command(&self, controller: &Controller, token: &Token) -> Command {
        self.join_at_command(&controller.listeners().join.to_string(), &token.ca_pin, &token.token)
    }

    fn join_at_command(&self, endpoint: &str, pin: &str, token: &str) -> Command {
        std::fs::write(self.token_file(), token).expect("written");
        let mut join = command(program("windlass-agent"), &self.directory);
        join.args(["join", "--controller", endpoint, "--ca-pin", pin]).arg("--token-file").arg(self.token_file());
        join.arg("--state-dir").arg(self.state_dir());
        join
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it runs.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut run = command(program("windlass-agent"), &self.directory);
        run.arg("run").arg("--state-dir").arg(self.state_dir()).arg("--config").arg(self.directory.join("agent.toml"));
        self.process = Some(Running::start(&mut run, &self.log_path()));
    }

    /// Starts it if it does not run.
    pub fn run_unless_running(&mut self) {
        if self.process.is_none() {
            self.run();
        }
    }

    /// Waits until the controller has its session.
    pub async fn wait_connected(&self, controller: &Controller) {
        let what = format!("{} is connected", self.name);
        wait_until(&what, LONG, || async { is_connected(controller, &self.name).await }).await;
    }

    /// Kills it.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill9(&mut self) {
        self.process.take().expect("it runs").kill9().await;
    }

    /// Its process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn process(&mut self) -> &mut Running {
        self.process.as_mut().expect("it runs")
    }

    /// Replaces its configuration.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.directory.join("agent.toml"), text).expect("written");
    }

    /// The directory with everything of this node.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The file its token is put into.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.directory.join("token")
    }

    /// The file with everything it logged.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }
}

/// Whether the controller has a session of this node.
pub async fn is_connected(controller: &Controller, name: &str) -> bool {
    let node = controller.cli(&["get", "node", name, "-o", "json"]).await;
    node.code == 0 && holds(&node.json(), "connected")
}

/// Whether a node's condition holds, by the JSON of `windlass get node`.
#[must_use]
pub fn holds(node: &serde_json::Value, condition: &str) -> bool {
    let conditions = node["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|found| {
        found["kind"].as_str().or(found["type"].as_str()) == Some(condition)
            && (found["holds"] == true || found["status"] == true)
    })
}
