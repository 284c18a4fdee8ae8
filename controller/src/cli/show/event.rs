// SPDX-License-Identifier: Apache-2.0
//! Events.

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::event::Severity;
use windlass_types::time::UnixMillis;

use super::{Listed, local, utc};
use crate::cli::table::Cell;
use crate::cli::terminal::{Tone, toned};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EventView {
    /// Its place in the stream.
    pub(crate) cursor: u64,
    /// When.
    pub(crate) at: String,
    /// What kind, such as `node.connected`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// How serious.
    pub(crate) severity: Severity,
    /// The node it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// The job it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<String>,
    /// The run it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<String>,
    /// What happened.
    pub(crate) message: String,
    #[serde(skip)]
    at_millis: UnixMillis,
}

impl From<v1::Event> for EventView {
    fn from(event: v1::Event) -> Self {
        let severity = match event.severity() {
            v1::Severity::Info => Severity::Info,
            // A severity of a newer controller is worth a look.
            v1::Severity::Warning | v1::Severity::Unspecified => Severity::Warning,
            v1::Severity::Alarm => Severity::Alarm,
        };
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            cursor: event.cursor,
            at: utc(UnixMillis(event.unix_millis)),
            kind: event.kind,
            severity,
            node: given(event.node),
            job: given(event.job),
            run: given(event.run),
            message: event.message,
            at_millis: UnixMillis(event.unix_millis),
        }
    }
}

impl EventView {
    /// One line for people. The cursor comes first because `--since` takes it.
    pub(crate) fn line(&self, colour: bool) -> String {
        let kind = match self.severity {
            Severity::Info => toned(false, Tone::Faint, Escaped(&self.kind)).to_string(),
            Severity::Warning => toned(colour, Tone::Warning, Escaped(&self.kind)).to_string(),
            Severity::Alarm => toned(colour, Tone::Bad, Escaped(&self.kind)).to_string(),
        };
        let alarm = if self.severity == Severity::Alarm { "ALARM " } else { "" };
        format!("{:>6}  {}  {kind}  {alarm}{}", self.cursor, local(self.at_millis), Escaped(&self.message))
    }
}

impl Listed for EventView {
    const KIND: &'static str = "Event";

    fn name(&self) -> String {
        self.cursor.to_string()
    }

    fn header(wide: bool) -> Vec<&'static str> {
        if wide {
            vec!["CURSOR", "TIME", "SEVERITY", "TYPE", "NODE", "JOB", "MESSAGE"]
        } else {
            vec!["CURSOR", "TIME", "TYPE", "MESSAGE"]
        }
    }

    fn cells(&self, wide: bool, _now: UnixMillis) -> Vec<Cell> {
        let tone = match self.severity {
            Severity::Info => Tone::Faint,
            Severity::Warning => Tone::Warning,
            Severity::Alarm => Tone::Bad,
        };
        let mut cells = vec![Cell::new(self.cursor), Cell::new(local(self.at_millis))];
        if wide {
            cells.push(Cell::new(self.severity));
        }
        cells.push(Cell::new(&self.kind).toned(tone));
        if wide {
            cells.push(Cell::new(self.node.as_deref().unwrap_or_default()));
            cells.push(Cell::new(self.job.as_deref().unwrap_or_default()));
        }
        cells.push(Cell::new(&self.message));
        cells
    }
}
