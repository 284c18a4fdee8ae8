// SPDX-License-Identifier: Apache-2.0
//! What a node is asked to do, to the wire and back.

use bytes::Bytes;
use windlass_types::action::{Action, Argv, BadAction, NodePath, checked_mode};
use windlass_types::digest::{NotADigest, Sha256Digest};

use crate::v1;

/// An order that cannot be carried out because of what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// No action, or one that this version does not know.
    #[error("the order names no action this version knows")]
    NoAction,
    /// The action is not one that can be asked for.
    #[error("the order's action cannot be carried out")]
    Action(#[source] BadAction),
    /// The digest is not one.
    #[error("the order's digest cannot be read")]
    Digest(#[source] NotADigest),
    /// The step is not one that this version knows.
    #[error("the order's step is not one this version knows: {0}")]
    Step(String),
}

impl TryFrom<v1::ExecAction> for Argv {
    type Error = BadOrder;

    fn try_from(wire: v1::ExecAction) -> Result<Self, BadOrder> {
        Self::new(wire.argv).map_err(BadOrder::Action)
    }
}

impl From<&Argv> for v1::ExecAction {
    fn from(argv: &Argv) -> Self {
        Self { argv: argv.as_slice().to_vec() }
    }
}

impl TryFrom<v1::order::Action> for Action {
    type Error = BadOrder;

    fn try_from(wire: v1::order::Action) -> Result<Self, BadOrder> {
        Ok(match wire {
            v1::order::Action::Exec(exec) => Self::Exec(exec.try_into()?),
            v1::order::Action::PutFile(put) => Self::PutFile {
                path: NodePath::new(put.path).map_err(BadOrder::Action)?,
                sha256: Sha256Digest::from_slice(&put.sha256).map_err(BadOrder::Digest)?,
                size_bytes: put.size_bytes,
                mode: checked_mode(put.mode).map_err(BadOrder::Action)?,
            },
            v1::order::Action::GetFile(get) => {
                Self::GetFile { path: NodePath::new(get.path).map_err(BadOrder::Action)? }
            }
            v1::order::Action::Step(step) => {
                Self::Step(serde_json::from_slice(&step.order).map_err(|error| BadOrder::Step(error.to_string()))?)
            }
        })
    }
}

/// Reads the action of an order, where the wire lets it be absent.
///
/// # Errors
/// If it is absent or cannot be asked for.
pub fn ordered_action(wire: Option<v1::order::Action>) -> Result<Action, BadOrder> {
    wire.ok_or(BadOrder::NoAction)?.try_into()
}

impl From<&Action> for v1::order::Action {
    fn from(action: &Action) -> Self {
        match action {
            Action::Exec(argv) => Self::Exec(argv.into()),
            Action::PutFile { path, sha256, size_bytes, mode } => Self::PutFile(v1::PutFileAction {
                path: path.as_str().to_owned(),
                sha256: Bytes::copy_from_slice(sha256.as_bytes()),
                size_bytes: *size_bytes,
                mode: *mode,
            }),
            Action::GetFile { path } => Self::GetFile(v1::GetFileAction { path: path.as_str().to_owned() }),
            Action::Step(order) => {
                let order = serde_json::to_vec(order).expect("a step is always JSON");
                Self::Step(v1::StepAction { order: order.into() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::node_step::{NodeStep, StepOrder};

    #[test]
    fn every_action_survives_the_wire() {
        let path = NodePath::new("/etc/motd").expect("valid");
        let actions = [
            Action::Exec(Argv::new(vec!["ls".into(), "-l".into()]).expect("valid")),
            Action::PutFile { path: path.clone(), sha256: Sha256Digest::new([7; 32]), size_bytes: 9, mode: 0o4755 },
            Action::GetFile { path },
            Action::Step(Box::new(StepOrder {
                run: None,
                id: "repair-packages/node1".into(),
                step: NodeStep::RepairPackages,
                lease: None,
            })),
        ];
        for action in actions {
            assert_eq!(Action::try_from(v1::order::Action::from(&action)), Ok(action));
        }
    }

    #[test]
    fn refuses_what_no_node_should_do() {
        let put = |path: &str, digest: &'static [u8], mode| {
            let action =
                v1::PutFileAction { path: path.into(), sha256: Bytes::from_static(digest), size_bytes: 0, mode };
            Action::try_from(v1::order::Action::PutFile(action))
        };
        assert!(matches!(put("etc/motd", &[0; 32], 0o644), Err(BadOrder::Action(BadAction::Relative(_)))));
        assert_eq!(put("/etc/motd", &[0; 31], 0o644), Err(BadOrder::Digest(NotADigest)));
        assert_eq!(put("/etc/motd", &[0; 32], 0o10644), Err(BadOrder::Action(BadAction::Mode(0o10644))));
        let empty = v1::order::Action::Exec(v1::ExecAction { argv: vec![] });
        assert_eq!(Action::try_from(empty), Err(BadOrder::Action(BadAction::NoProgram)));
        assert_eq!(ordered_action(None), Err(BadOrder::NoAction));
    }
}
