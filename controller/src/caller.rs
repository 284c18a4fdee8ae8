// SPDX-License-Identifier: Apache-2.0
//! Who makes a request. Worked out once per request by the gate, from the connection alone; handlers read it from the
//! request's extensions and never from a field.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nix::unistd::{Gid, Group, Uid, User};
use tonic::Request;
use windlass_proto::policy::Caller as Needed;
use windlass_types::name::{NodeName, OperatorName};
use windlass_types::role::OperatorRole;

use crate::config::SocketAccess;
use crate::pki::Serial;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody without a certificate, on the join listener.
    Stranger {
        /// From here.
        address: SocketAddr,
    },
    /// A node's agent.
    Node {
        /// Which node.
        name: NodeName,
        /// The certificate.
        serial: Serial,
        /// From here.
        address: SocketAddr,
    },
    /// An operator from elsewhere.
    Operator {
        /// Who.
        name: OperatorName,
        /// What they may do at this moment.
        role: OperatorRole,
        /// The certificate.
        serial: Serial,
        /// From here.
        address: SocketAddr,
    },
    /// Somebody on this machine.
    Local {
        /// Numeric user.
        uid: u32,
        /// Numeric group.
        gid: u32,
        /// User name, or the number where it has none.
        user: String,
        /// Process, if the kernel tells.
        pid: Option<i32>,
        /// What they may do; `None` for nothing.
        role: Option<OperatorRole>,
    },
}

impl Caller {
    /// Whether this caller is what a method needs.
    #[must_use]
    pub fn satisfies(&self, needed: Needed) -> bool {
        match (needed, self) {
            (Needed::Anyone, _) | (Needed::Agent, Self::Node { .. }) => true,
            (Needed::Operator(least), _) => self.role().is_some_and(|role| role >= least),
            (Needed::Agent, _) => false,
        }
    }

    /// The caller's role, if they are an operator.
    #[must_use]
    pub const fn role(&self) -> Option<OperatorRole> {
        match self {
            Self::Operator { role, .. } => Some(*role),
            Self::Local { role, .. } => *role,
            Self::Stranger { .. } | Self::Node { .. } => None,
        }
    }

    /// The caller's role in words.
    #[must_use]
    pub fn role_name(&self) -> String {
        match self {
            Self::Node { .. } => "agent".to_owned(),
            Self::Stranger { .. } => "anyone".to_owned(),
            Self::Operator { .. } | Self::Local { .. } => {
                self.role().map_or_else(|| "none".to_owned(), |role| role.to_string())
            }
        }
    }

    /// The address, for callers on the network.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Stranger { address } | Self::Node { address, .. } | Self::Operator { address, .. } => {
                Some(address.ip())
            }
            Self::Local { .. } => None,
        }
    }

    /// The caller of a request that came through the gate.
    ///
    /// # Panics
    /// If there was no gate, which is an error of this program and shows in the first request.
    #[must_use]
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().expect("every listener has the gate before its services")
    }

    /// Where the call comes from, for the audit log.
    #[must_use]
    pub fn origin(&self) -> crate::audit::Origin {
        use crate::audit::Origin;
        match self {
            Self::Stranger { address } => {
                Origin::Tls { address: address.to_string(), certificate_serial: String::new() }
            }
            Self::Node { serial, address, .. } | Self::Operator { serial, address, .. } => {
                Origin::Tls { address: address.to_string(), certificate_serial: serial.to_string() }
            }
            Self::Local { uid, gid, pid, .. } => Origin::Socket { uid: *uid, gid: *gid, pid: *pid },
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger { address } => write!(f, "stranger at {}", address.ip()),
            Self::Node { name, .. } => write!(f, "node {name}"),
            Self::Operator { name, .. } => write!(f, "{name}"),
            Self::Local { user, .. } => write!(f, "{user}@localhost"),
        }
    }
}

/// What a local user may do. Root and the user the daemon runs as are admins; others by configuration.
#[must_use]
pub fn local_role(access: &SocketAccess, uid: u32, gid: u32) -> Option<OperatorRole> {
    if uid == 0 || Uid::current().as_raw() == uid {
        return Some(OperatorRole::Admin);
    }
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let in_list = |list: &[String]| {
        list.iter().any(|entry| match entry.strip_prefix('@') {
            Some(group) => is_in_group(group, user.as_ref(), gid),
            None => user.as_ref().is_some_and(|user| user.name == *entry),
        })
    };
    let lists = [
        (OperatorRole::Admin, &access.admins),
        (OperatorRole::Operator, &access.operators),
        (OperatorRole::Viewer, &access.viewers),
    ];
    lists.into_iter().find(|(_, list)| in_list(list)).map(|(role, _)| role)
}

fn is_in_group(group: &str, user: Option<&User>, gid: u32) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    group.gid == Gid::from_raw(gid) || user.is_some_and(|user| group.mem.contains(&user.name) || user.gid == group.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(role: Option<OperatorRole>) -> Caller {
        Caller::Local { uid: 1000, gid: 1000, user: "ana".into(), pid: None, role }
    }

    #[test]
    fn a_role_includes_the_ones_below_it() {
        for have in OperatorRole::ALL {
            for need in OperatorRole::ALL {
                assert_eq!(local(Some(have)).satisfies(Needed::Operator(need)), have >= need);
            }
        }
    }

    #[test]
    fn nobody_is_an_agent_but_a_node() {
        assert!(!local(Some(OperatorRole::Admin)).satisfies(Needed::Agent));
        assert!(!local(None).satisfies(Needed::Operator(OperatorRole::Viewer)));
    }

    #[test]
    fn an_unlisted_user_has_no_role() {
        let stranger = 4_000_000_000;
        assert_eq!(local_role(&SocketAccess::default(), stranger, stranger), None);
        assert_eq!(local_role(&SocketAccess::default(), 0, 0), Some(OperatorRole::Admin));
    }
}
