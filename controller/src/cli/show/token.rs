// SPDX-License-Identifier: Apache-2.0
//! Join tokens, without their secrets.

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::time::UnixMillis;

use super::{Listed, utc};
use crate::cli::table::Cell;
use crate::duration::Age;

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TokenStateView {
    /// It can be used.
    Unused,
    /// A node joined with it.
    Used,
    /// Its time is over.
    Expired,
    /// A newer controller says what this program does not know.
    Unknown,
}

impl TokenStateView {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TokenView {
    /// Its id.
    pub(crate) id: String,
    /// The node it is for.
    pub(crate) node: String,
    /// What became of it.
    pub(crate) state: TokenStateView,
    /// When it ends or ended.
    pub(crate) expires_at: String,
    /// Who made it.
    pub(crate) created_by: String,
    /// Attempts made with it.
    pub(crate) attempts: u32,
    #[serde(skip)]
    expires: UnixMillis,
}

impl From<v1::Token> for TokenView {
    fn from(token: v1::Token) -> Self {
        let state = match token.state() {
            v1::TokenState::Unspecified => TokenStateView::Unknown,
            v1::TokenState::Unused => TokenStateView::Unused,
            v1::TokenState::Used => TokenStateView::Used,
            v1::TokenState::Expired => TokenStateView::Expired,
        };
        Self {
            id: token.id,
            node: token.node,
            state,
            expires_at: utc(UnixMillis(token.expires_unix_millis)),
            created_by: token.created_by,
            attempts: token.attempts,
            expires: UnixMillis(token.expires_unix_millis),
        }
    }
}

impl Listed for TokenView {
    const KIND: &'static str = "Token";

    fn name(&self) -> String {
        windlass_types::escape::Escaped(&self.id).to_string()
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["ID", "NODE", "STATE", "ENDS-IN", "BY"];
        if wide {
            header.extend(["EXPIRES", "ATTEMPTS"]);
        }
        header
    }

    fn cells(&self, wide: bool, now: UnixMillis) -> Vec<Cell> {
        let left =
            if self.state == TokenStateView::Unused { Age(self.expires.since(now)).to_string() } else { String::new() };
        let mut cells = vec![
            Cell::new(&self.id),
            Cell::new(&self.node),
            Cell::new(self.state.as_str()),
            Cell::new(left),
            Cell::new(&self.created_by),
        ];
        if wide {
            cells.extend([Cell::new(&self.expires_at), Cell::new(self.attempts)]);
        }
        cells
    }
}
