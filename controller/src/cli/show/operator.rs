// SPDX-License-Identifier: Apache-2.0
//! Operators.

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::time::UnixMillis;

use super::{Listed, utc};
use crate::cli::table::Cell;
use crate::duration::Age;

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OperatorView {
    /// Its name.
    pub(crate) name: String,
    /// Its role.
    pub(crate) role: String,
    /// Serial number of its certificate.
    pub(crate) certificate_serial: String,
    /// When that certificate ends.
    pub(crate) certificate_not_after: String,
    #[serde(skip)]
    certificate_end: UnixMillis,
}

impl From<v1::Operator> for OperatorView {
    fn from(operator: v1::Operator) -> Self {
        let end = UnixMillis(operator.not_after_unix_millis);
        Self {
            name: operator.name,
            role: operator.role,
            certificate_serial: operator.certificate_serial,
            certificate_not_after: utc(end),
            certificate_end: end,
        }
    }
}

impl Listed for OperatorView {
    const KIND: &'static str = "Operator";

    fn name(&self) -> String {
        windlass_types::escape::Escaped(&self.name).to_string()
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["NAME", "ROLE", "CERTIFICATE-ENDS-IN"];
        if wide {
            header.extend(["SERIAL", "NOT-AFTER"]);
        }
        header
    }

    fn cells(&self, wide: bool, now: UnixMillis) -> Vec<Cell> {
        let left = self.certificate_end.since(now);
        let left = if left.is_zero() { "expired".to_owned() } else { Age(left).to_string() };
        let mut cells = vec![Cell::new(&self.name), Cell::new(&self.role), Cell::new(left)];
        if wide {
            cells.extend([Cell::new(&self.certificate_serial), Cell::new(&self.certificate_not_after)]);
        }
        cells
    }
}
