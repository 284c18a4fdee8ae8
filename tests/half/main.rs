// SPDX-License-Identifier: Apache-2.0
//! A half of an agent as a process of its own, as a node has it, but on a model of a machine, which is in the test that
//! started it. It is made to be killed: nothing here knows when, or puts anything in order.
//!
//! - [`mirror`]: the machine.
//! - [`programs`]: its programs.

mod mirror;
mod programs;

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_agent::config::Config;
use windlass_agent::dial::TcpDial;
use windlass_agent::executor::Executor;
use windlass_agent::executor::mandate::Mandate;
use windlass_agent::front::Front;
use windlass_agent::host::clock::SystemClock;
use windlass_agent::identity::IdentityStore;
use windlass_agent::journal::watched;
use windlass_agent::local::UnixDial;
use windlass_tests::modelled::WATCHED_SERVICE;
use windlass_tests::modelled::question::{Beginning, Question, RemoteModel};
use windlass_tests::modelled::trap::{Victim, place};

use self::mirror::Mirror;
use self::programs::ModelPrograms;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let beginning = std::env::args().nth(1).context("what is it to be?")?;
    let beginning: Beginning = serde_json::from_str(&beginning).context("read what it is to be")?;
    match beginning.half {
        Victim::Executor => executor(beginning).await,
        Victim::Front => front(beginning).await,
    }
}

async fn executor(beginning: Beginning) -> Result<()> {
    let Beginning { state_dir, model: socket, seed, .. } = beginning;
    let model = RemoteModel { socket };
    watched::watch(&state_dir.join("journal"), {
        let model = model.clone();
        move |state, record, moment| {
            if let Some((step, point)) = place(state, record, moment) {
                model.ask::<()>(&Question::At { step, point });
            }
        }
    });
    let listener = StdUnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let executor = Executor {
        mandate: Mandate::load(&state_dir)?,
        config: Config {
            state_dir: state_dir.clone(),
            services: vec![WATCHED_SERVICE.to_owned()],
            ..Config::default()
        },
        state_dir,
        clock: Arc::new(SystemClock),
        runner: Arc::new(ModelPrograms(model.clone())),
        host: Arc::new(Mirror::new(model)),
        seed,
        handover: CancellationToken::new(),
    };
    executor.run(UnixListener::from_std(listener)?, CancellationToken::new(), || {}).await?;
    Ok(())
}

async fn front(beginning: Beginning) -> Result<()> {
    let Beginning { state_dir, model: socket, executor, agents_at, join_at, seed, .. } = beginning;
    let front = Front {
        identity: IdentityStore::new(&state_dir).load()?.context("it has not joined")?,
        state_dir,
        executor: Arc::new(UnixDial(executor)),
        dial: Arc::new(TcpDial::new(agents_at.to_string())),
        join_dial: Arc::new(TcpDial::new(join_at.to_string())),
        clock: Arc::new(SystemClock),
        host: Arc::new(Mirror::new(RemoteModel { socket })),
        seed,
        status: watch::Sender::new(String::new()),
        handover: CancellationToken::new(),
    };
    front.run(CancellationToken::new()).await;
    Ok(())
}
