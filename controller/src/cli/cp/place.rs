// SPDX-License-Identifier: Apache-2.0
//! One side of a copy: a path here, or a path on nodes.

use std::path::PathBuf;

use windlass_types::action::NodePath;

use crate::cli::select::node_name;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine.
    Local(PathBuf),
    /// On one node, or on the nodes that are chosen otherwise.
    Remote {
        /// The node, if it is named here.
        node: Option<String>,
        /// Where on the node.
        path: String,
    },
}

impl Place {
    /// Reads `NODE:/PATH`, `:/PATH` or a local path. A local path with a colon is written `./a:b`, as for scp(1).
    ///
    /// # Errors
    /// If a node's name or path breaks a rule.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((node, path)) = text.split_once(':').filter(|(node, _)| !node.contains('/')) else {
            return if text.is_empty() { Err("a path is empty".to_owned()) } else { Ok(Self::Local(text.into())) };
        };
        let node = if node.is_empty() { None } else { Some(node_name(node)?) };
        let path = NodePath::new(path).map_err(|error| error.to_string())?;
        Ok(Self::Remote { node, path: path.as_str().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_before_any_slash_means_a_node() {
        let remote = |node: Option<&str>| Place::Remote { node: node.map(String::from), path: "/etc/motd".into() };
        assert_eq!(Place::parse("node1:/etc/motd"), Ok(remote(Some("node1"))));
        assert_eq!(Place::parse(":/etc/motd"), Ok(remote(None)));
        assert_eq!(Place::parse("motd"), Ok(Place::Local("motd".into())));
        assert_eq!(Place::parse("./a:b"), Ok(Place::Local("./a:b".into())));
        for text in ["", "node1:etc/motd", "Node1:/etc/motd", "node1:", "node1:/a/../b", "node1:/dir/"] {
            assert!(Place::parse(text).is_err(), "{text:?}");
        }
    }
}
