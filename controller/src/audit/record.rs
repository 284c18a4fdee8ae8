// SPDX-License-Identifier: Apache-2.0
//! One line of the audit log.
//!
//! The digest is taken over the line as it stands, without its own last member: nothing has to be parsed and printed
//! again in the same way to check it, not even by another program.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use windlass_types::digest::Sha256Digest;
use windlass_types::time::UnixMillis;

/// What stands before the digest, at the end of each line.
const HASH: &str = ",\"hash\":\"";

/// Longest name, verb or message that is kept, characters.
const LONGEST_TEXT: usize = 1024;

/// Who asks for what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRequest {
    /// Who, such as `operator/alice`.
    pub actor: String,
    /// In which role.
    pub role: String,
    /// From where.
    pub origin: Origin,
    /// The method's path.
    pub verb: String,
    /// What it is about, such as `node/node1`.
    pub object: String,
    /// The request without its secrets, see [`super::redact()`].
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub arguments: serde_json::Value,
}

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Origin {
    /// A process on this machine, by the socket's peer credentials.
    Socket {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its id, if the kernel told.
        pid: Option<i32>,
    },
    /// A TLS connection.
    Tls {
        /// The peer's address.
        address: String,
        /// Serial number of its certificate, hexadecimal; empty if it showed none.
        certificate_serial: String,
    },
    /// The controller itself.
    Controller,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditResult {
    /// `ok` or `refused`.
    pub code: String,
    /// The stable reason of a refusal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What was answered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl AuditResult {
    /// It was done.
    #[must_use]
    pub fn ok() -> Self {
        Self { code: "ok".to_owned(), reason: String::new(), message: String::new() }
    }

    /// It was refused, or failed.
    #[must_use]
    pub fn refused(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: "refused".to_owned(), reason: reason.into(), message: message.into() }
    }
}

/// Where in its life a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    Requested,
    Done,
    /// The log itself: an unfinished last line was removed.
    Repaired,
}

/// A record without its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) at: UnixMillis,
    /// Ties the records of one request together, and to the journal.
    pub(super) request_id: String,
    pub(super) phase: Phase,
    #[serde(flatten)]
    pub(super) request: AuditRequest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<AuditResult>,
}

impl Body {
    pub(super) fn new(at: UnixMillis, request_id: &str, request: &AuditRequest, result: Option<AuditResult>) -> Self {
        let mut request = request.clone();
        let AuditRequest { actor, role, verb, object, .. } = &mut request;
        for text in [actor, role, verb, object] {
            shorten(text, LONGEST_TEXT);
        }
        let result = result.map(|mut result| {
            shorten(&mut result.reason, LONGEST_TEXT);
            shorten(&mut result.message, LONGEST_TEXT);
            result
        });
        let phase = if result.is_some() { Phase::Done } else { Phase::Requested };
        Self { at, request_id: request_id.to_owned(), phase, request, result }
    }

    /// That an unfinished last line was removed.
    pub(super) fn repaired(at: UnixMillis, bytes: u64) -> Self {
        let request = AuditRequest {
            actor: "controller".to_owned(),
            role: String::new(),
            origin: Origin::Controller,
            verb: "audit.repair".to_owned(),
            object: "audit".to_owned(),
            arguments: serde_json::json!({ "removed_bytes": bytes }),
        };
        Self { phase: Phase::Repaired, ..Self::new(at, "", &request, None) }
    }
}

/// A record in its place.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) seq: u64,
    #[serde(flatten)]
    pub(super) body: Body,
    pub(super) prev: Sha256Digest,
}

/// The end of a chain: what the next record refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) hash: Sha256Digest,
}

impl Link {
    /// Before the first record.
    pub(super) const START: Self = Self { seq: 0, hash: Sha256Digest::new([0; 32]) };

    /// Writes the next line, with its end, and moves on to it.
    pub(super) fn extend(&mut self, body: &Body, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let record = Record { seq: self.seq + 1, body: body.clone(), prev: self.hash };
        let text = serde_json::to_string(&record)?;
        let hash = sha256(text.as_bytes());
        lines.extend_from_slice(text.strip_suffix('}').unwrap_or(&text).as_bytes());
        lines.extend_from_slice(format!("{HASH}{hash}\"}}\n").as_bytes());
        *self = Self { seq: record.seq, hash };
        Ok(())
    }

    /// Reads a line as written by [`Self::extend`], without its end; says what is wrong with it.
    pub(super) fn parse(line: &[u8]) -> Result<(Self, Record), String> {
        let text = std::str::from_utf8(line).map_err(|_| "is not text".to_owned())?;
        let (content, rest) = text.rsplit_once(HASH).ok_or("has no digest")?;
        let claimed: Sha256Digest =
            rest.strip_suffix("\"}").and_then(|hash| hash.parse().ok()).ok_or("has no digest")?;
        let content = format!("{content}}}");
        let hash = sha256(content.as_bytes());
        if hash != claimed {
            return Err("was altered: its digest does not fit".to_owned());
        }
        let record: Record = serde_json::from_str(&content).map_err(|error| format!("is not a record: {error}"))?;
        Ok((Self { seq: record.seq, hash }, record))
    }

    /// Whether a record follows this one; says what is wrong.
    pub(super) fn check(self, record: &Record) -> Result<(), String> {
        if record.seq != self.seq + 1 {
            return Err(format!("is record {} where {} should be", record.seq, self.seq + 1));
        }
        if record.prev != self.hash {
            return Err("does not follow the line before it".to_owned());
        }
        Ok(())
    }
}

fn sha256(content: &[u8]) -> Sha256Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
    Sha256Digest::new(bytes)
}

/// Cuts a text that is longer, and says how much was cut.
pub(super) fn shorten(text: &mut String, longest: usize) {
    if let Some((end, _)) = text.char_indices().nth(longest) {
        let cut = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("… ({cut} bytes more)"));
    }
}
