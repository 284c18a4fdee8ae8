// SPDX-License-Identifier: Apache-2.0
//! Why a half of the agent ended, and whether it is of use to start it again.

use windlass_types::error_chain::ErrorChain;

use crate::both::AgentError;
use crate::executor::mandate::MandateError;
use crate::identity::IdentityError;
use crate::journal::JournalError;

/// Something may be otherwise next time: systemd starts the half again.
const EXIT_FAILED: u8 = 1;

/// Something in the configuration or the state must be changed (EX_CONFIG): systemd does not start the half again.
const EXIT_CONFIG: u8 = 78;

/// Why a half ended.
#[derive(Debug)]
pub(super) struct Failed {
    /// The exit code.
    pub(super) code: u8,
    /// What failed and why.
    pub(super) text: String,
}

impl Failed {
    pub(super) const fn for_now(text: String) -> Self {
        Self { code: EXIT_FAILED, text }
    }

    pub(super) const fn for_good(text: String) -> Self {
        Self { code: EXIT_CONFIG, text }
    }

    /// `for_good` if trying again cannot help.
    pub(super) fn because(error: &dyn std::error::Error, is_final: bool) -> Self {
        let text = ErrorChain(error).to_string();
        if is_final { Self::for_good(text) } else { Self::for_now(text) }
    }
}

/// One that cannot be read now may be read later: the disk may be full, or a mount be missing.
impl From<MandateError> for Failed {
    fn from(error: MandateError) -> Self {
        Self::because(&error, is_lasting(&error))
    }
}

impl From<IdentityError> for Failed {
    fn from(error: IdentityError) -> Self {
        Self::because(&error, matches!(error, IdentityError::Damaged { .. }))
    }
}

impl From<JournalError> for Failed {
    fn from(error: JournalError) -> Self {
        Self::because(&error, is_damaged(&error))
    }
}

impl From<AgentError> for Failed {
    fn from(error: AgentError) -> Self {
        let is_final = match &error {
            AgentError::Journal(error) => is_damaged(error),
            AgentError::Mandate(error) => is_lasting(error),
        };
        Self::because(&error, is_final)
    }
}

const fn is_lasting(error: &MandateError) -> bool {
    matches!(error, MandateError::Absent { .. } | MandateError::Damaged { .. })
}

const fn is_damaged(error: &JournalError) -> bool {
    matches!(error, JournalError::Damaged { .. })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::executor::mandate::Mandate;
    use crate::identity::IdentityStore;

    fn codes(directory: &Path) -> [Option<u8>; 2] {
        let mandate = Mandate::load(directory).map_err(Failed::from);
        let identity = IdentityStore::new(directory).load().map_err(Failed::from);
        [mandate.err().map(|failed| failed.code), identity.err().map(|failed| failed.code)]
    }

    #[test]
    fn only_what_trying_again_cannot_mend_is_for_good() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(codes(dir.path()), [Some(EXIT_CONFIG), None], "whoever has no identity has not joined");
        let files = ["mandate.json", "identity.json"].map(|name| dir.path().join(name));
        for file in &files {
            std::fs::write(file, "{}").unwrap();
        }
        assert_eq!(codes(dir.path()), [Some(EXIT_CONFIG); 2]);
        for file in &files {
            std::fs::remove_file(file).unwrap();
            // It is there and cannot be read, for a reason that may pass.
            std::fs::create_dir(file).unwrap();
        }
        assert_eq!(codes(dir.path()), [Some(EXIT_FAILED); 2]);
    }

    #[test]
    fn a_damaged_journal_is_for_good_and_one_that_cannot_be_read_is_not() {
        let damaged = || JournalError::Damaged { path: "journal".into(), offset: 8 };
        let unread = || JournalError::File {
            operation: "open",
            path: "journal".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        for (error, code) in [(damaged as fn() -> _, EXIT_CONFIG), (unread, EXIT_FAILED)] {
            assert_eq!(Failed::from(error()).code, code);
            assert_eq!(Failed::from(AgentError::Journal(error())).code, code);
        }
    }
}
