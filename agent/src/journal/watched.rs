// SPDX-License-Identifier: Apache-2.0
//! For tests: whoever watches a journal is told of each of its records, before it is written and when it is. What panics
//! there ends the agent in that moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{JournalState, Record};
use crate::host::fake::Moment;

type Watch = dyn Fn(&JournalState, &Record, Moment) + Send + Sync;

/// By the file of the journal: agents come and go and open it again.
static WATCHES: Mutex<BTreeMap<PathBuf, Arc<Watch>>> = Mutex::new(BTreeMap::new());

/// Watches the journal in this file from now on. The state is that before the record.
pub fn watch(journal: &Path, watch: impl Fn(&JournalState, &Record, Moment) + Send + Sync + 'static) {
    WATCHES.lock().unwrap_or_else(PoisonError::into_inner).insert(journal.to_owned(), Arc::new(watch));
}

/// Watches it no longer.
pub fn unwatch(journal: &Path) {
    WATCHES.lock().unwrap_or_else(PoisonError::into_inner).remove(journal);
}

pub(super) fn tell(journal: &Path, state: &JournalState, record: &Record, moment: Moment) {
    let watch = WATCHES.lock().unwrap_or_else(PoisonError::into_inner).get(journal).cloned();
    if let Some(watch) = watch {
        watch(state, record, moment);
    }
}
