// SPDX-License-Identifier: Apache-2.0
//! Programs of the model, seen from the executor.

use std::sync::Arc;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use windlass_agent::jobs::runner::{End, NotStarted, Runner, Running};
use windlass_agent::journal::Mark;
use windlass_agent::output::{Spool, Stream};
use windlass_tests::modelled::question::{Question, RemoteModel};
use windlass_types::action::Argv;
use windlass_types::name::JobId;
use windlass_types::time::UnixMillis;

/// Runs programs of the model.
#[derive(Debug)]
pub(crate) struct ModelPrograms(pub(crate) RemoteModel);

/// A program that was run.
struct Known {
    model: RemoteModel,
    job: JobId,
    spool: Arc<Spool>,
}

impl ModelPrograms {
    fn known(&self, job: &JobId, spool: &Arc<Spool>) -> Box<dyn Running> {
        Box::new(Known { model: self.0.clone(), job: job.clone(), spool: Arc::clone(spool) })
    }
}

#[async_trait]
impl Runner for ModelPrograms {
    async fn start(&self, job: &JobId, argv: &Argv, spool: &Arc<Spool>) -> Result<Box<dyn Running>, NotStarted> {
        self.0.ask_patiently::<()>(&Question::Start { job: job.clone(), argv: argv.clone() }).await;
        Ok(self.known(job, spool))
    }

    async fn adopt(&self, job: &JobId, _mark: Option<&Mark>, spool: &Arc<Spool>) -> Option<Box<dyn Running>> {
        self.0.ask::<bool>(&Question::Find { job: job.clone() }).then(|| self.known(job, spool))
    }
}

#[async_trait]
impl Running for Known {
    fn mark(&self) -> Mark {
        Mark { pid: 4711, start_ticks: 0, boot_id: String::new(), at: UnixMillis::default() }
    }

    async fn wait(&mut self) -> End {
        let ended: Option<(i32, String)> = self.model.ask(&Question::Ended { job: self.job.clone() });
        let Some((code, stdout)) = ended else { return End::Unknown("the machine lost power".to_owned()) };
        self.spool.append(Stream::Stdout, stdout.as_bytes()).expect("a disk");
        End::Exited(code)
    }

    /// It has ended.
    async fn signal(&mut self, _signal: Signal) {}

    async fn release(&mut self) {
        self.model.ask::<()>(&Question::Forget { job: self.job.clone() });
    }
}
