// SPDX-License-Identifier: Apache-2.0
//! A program of the site: drains a node before it goes down, or lets it work again after. Its exit code is the proof.
//!
//! Only the site knows whether it is done, so it must bear being run twice. It is, only if the machine went down under it:
//! how a program ended that outlived the agent is known.

use std::time::Duration;

use async_trait::async_trait;
use windlass_types::action::Argv;

use super::{Check, Here, Kind, StepError};
use crate::host::tools::Program;

pub(super) struct Hook<'a> {
    pub(super) argv: &'a Argv,
    pub(super) timeout_millis: u64,
}

impl Hook<'_> {
    fn program(&self) -> Program {
        let limit = Duration::from_millis(self.timeout_millis);
        Program { is_shown: true, ..Program::query(self.argv.clone(), limit) }
    }
}

#[async_trait]
impl Kind for Hook<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        match &here.left {
            Some(ran) => {
                ran.clone().answered(&self.program())?;
                Ok(Check::AlreadyDone)
            }
            None => Ok(Check::Ready),
        }
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        here.tools.run(&self.program()).await?;
        Ok(())
    }

    async fn verify(&self, _here: &Here<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
