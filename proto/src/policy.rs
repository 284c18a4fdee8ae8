// SPDX-License-Identifier: Apache-2.0
//! Who may call what. The rows are generated; this file gives them their type and one look-up.

use windlass_types::role::OperatorRole;

/// The least a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Anyone who can reach the listener; the method proves the caller itself.
    Anyone,
    /// A node, by its agent certificate.
    Agent,
    /// An operator with at least this role.
    Operator(OperatorRole),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodPolicy {
    /// The HTTP/2 path, `/package.Service/Method`.
    pub path: &'static str,
    /// The least a caller must be.
    pub caller: Caller,
    /// The method changes something: audited, and refused while the controller is read-only.
    pub change: bool,
}

include!(concat!(env!("OUT_DIR"), "/policy.rs"));

/// The standard health service (grpc.health.v1), which has no options of ours.
static HEALTH: &[MethodPolicy] = &[
    MethodPolicy { path: "/grpc.health.v1.Health/Check", caller: Caller::Anyone, change: false },
    MethodPolicy { path: "/grpc.health.v1.Health/List", caller: Caller::Anyone, change: false },
    MethodPolicy { path: "/grpc.health.v1.Health/Watch", caller: Caller::Anyone, change: false },
];

/// The standard reflection service, which is only mounted on the local socket.
static REFLECTION: &[MethodPolicy] = &[MethodPolicy {
    path: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    caller: Caller::Operator(OperatorRole::Admin),
    change: false,
}];

/// The row of `path`, or `None`: such a method may be called by nobody.
#[must_use]
pub fn lookup(path: &str) -> Option<&'static MethodPolicy> {
    if let Ok(index) = POLICY.binary_search_by(|row| row.path.cmp(path)) {
        return Some(&POLICY[index]);
    }
    HEALTH.iter().chain(REFLECTION).find(|row| row.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_unique() {
        assert!(POLICY.is_sorted_by(|a, b| a.path < b.path));
    }

    #[test]
    fn an_unknown_method_has_no_row() {
        assert_eq!(lookup("/windlass.v1.NodeService/Nope"), None);
    }

    #[test]
    fn only_enrolment_and_health_are_open_to_anyone() {
        let open: Vec<_> = POLICY.iter().filter(|row| row.caller == Caller::Anyone).map(|row| row.path).collect();
        assert_eq!(open, ["/windlass.v1.JoinService/Join", "/windlass.v1.JoinService/Renew"]);
    }
}
