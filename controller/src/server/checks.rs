// SPDX-License-Identifier: Apache-2.0
//! How the controller is: one named list, for readyz, `windlass check` and the tests.

use windlass_proto::v1::StatusCheck;
use windlass_types::condition::ConditionKind;
use windlass_types::error_chain::ErrorChain;

use super::Controller;
use crate::store::{Committed, Transaction};

impl Controller {
    /// Runs every check.
    pub async fn checks(&self) -> Vec<StatusCheck> {
        vec![self.check_database().await, self.check_room(), self.check_epoch(), self.check_nodes()]
    }

    async fn check_database(&self) -> StatusCheck {
        let written = self.store.commit(Transaction::new().put("meta/check", [])).await;
        match written {
            Ok(Committed::Yes(_) | Committed::Conflict) => check("state database", true, "writable".to_owned(), ""),
            Err(error) => check(
                "state database",
                false,
                ErrorChain(&error).to_string(),
                "make room or mend the permissions of the state directory",
            ),
        }
    }

    fn check_room(&self) -> StatusCheck {
        let advice = "make room on the disk with the state directory";
        let ballast = self.changes.ballast();
        ballast.inspect(|ballast| ballast.restore());
        if ballast.is_some_and(|ballast| !ballast.is_whole()) {
            let detail = "no room for the ballast, with which a node is revoked on a full disk".to_owned();
            return check("disk space", false, detail, advice);
        }
        match self.room.free_bytes() {
            Ok(free) => {
                let reserve = self.room.reserve_bytes();
                let detail = format!("{} MiB free, {} MiB of them in reserve", free >> 20, reserve >> 20);
                check("disk space", free >= reserve, detail, advice)
            }
            Err(error) => check("disk space", false, error.to_string(), advice),
        }
    }

    fn check_epoch(&self) -> StatusCheck {
        let detail =
            format!("epoch {}{}", self.epoch.number(), if self.epoch.is_read_only() { ", read-only" } else { "" });
        check(
            "epoch",
            !self.epoch.is_read_only(),
            detail,
            "see that no other controller runs, then `windlass restore --confirm`",
        )
    }

    fn check_nodes(&self) -> StatusCheck {
        let views = self.fleet.list(None, usize::MAX);
        let trusted: Vec<_> = views.iter().filter(|view| view.record.revoked.is_none()).collect();
        let is_healthy = |view: &&&crate::fleet::NodeView| {
            view.conditions.iter().any(|condition| condition.kind == ConditionKind::Healthy && condition.holds)
        };
        let healthy = trusted.iter().filter(is_healthy).count();
        // Nodes that are away do not make the controller unready.
        check("nodes", true, format!("{healthy} of {} healthy", trusted.len()), "")
    }
}

fn check(name: &str, ok: bool, detail: String, advice: &str) -> StatusCheck {
    StatusCheck { name: name.to_owned(), ok, detail, advice: if ok { String::new() } else { advice.to_owned() } }
}
