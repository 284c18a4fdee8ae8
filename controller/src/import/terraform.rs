// SPDX-License-Identifier: Apache-2.0
//! A Terraform state: version 4, as Terraform 0.12 and later and OpenTofu write it, or version 3, as those before.
//!
//! Version 4 has attributes as a tree, version 3 as flat keys like `network.0.name`, in which lists and sets have their
//! length under `#` and maps under `%`; sets have hashes for indices. Both are asked by the same paths here. See
//! <https://github.com/hashicorp/terraform/tree/main/internal/states/statefile>.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A state of thousands of resources has a few MiB.
pub const LARGEST_STATE_BYTES: u64 = 64 << 20;

/// A state that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not JSON, or not of this shape.
    #[error("it is no Terraform state")]
    Shape(#[from] serde_json::Error),
    /// Of a version that is not known.
    #[error("it is a state of version {0}; versions 3 and 4 are known")]
    Version(u64),
    /// Nothing says what it is.
    #[error("it has no version: is it a plan, an encrypted state, or the output of `terraform show -json`?")]
    NoVersion,
}

/// Something that Terraform has made or looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// How Terraform calls it, as `module.compute.openstack_compute_instance_v2.node[0]`.
    pub address: String,
    /// Its type, as `openstack_compute_instance_v2`.
    pub kind: String,
    /// Its name in the configuration, as `node`.
    pub name: String,
    /// Whether it was only looked up.
    pub is_data: bool,
    attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq)]
enum Attributes {
    Tree(Value),
    Flat(BTreeMap<String, String>),
}

/// Reads a state.
///
/// # Errors
/// If it is none, or of a version that is not known.
pub fn read(text: &str) -> Result<Vec<Resource>, StateError> {
    let version: Version = serde_json::from_str(text)?;
    match version.version {
        Some(4) => Ok(serde_json::from_str::<Fourth>(text)?.resources.into_iter().flat_map(Group::all).collect()),
        Some(3) => Ok(serde_json::from_str::<Third>(text)?.modules.into_iter().flat_map(Module::all).collect()),
        Some(other) => Err(StateError::Version(other)),
        None => Err(StateError::NoVersion),
    }
}

impl Resource {
    /// The text at a path, as `network.0.name`; `None` if there is none or it is empty.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let text = match &self.attributes {
            Attributes::Flat(all) => all.get(path).cloned(),
            Attributes::Tree(tree) => at(tree, path).and_then(scalar),
        };
        text.filter(|text| !text.is_empty())
    }

    /// The texts in a list or set.
    #[must_use]
    pub fn texts(&self, path: &str) -> Vec<String> {
        match &self.attributes {
            Attributes::Flat(all) => {
                let below = |key: &String| key.strip_prefix(path)?.strip_prefix('.').map(|rest| rest != "#");
                all.iter().filter(|(key, _)| below(key) == Some(true)).map(|(_, text)| text.clone()).collect()
            }
            Attributes::Tree(tree) => {
                at(tree, path).and_then(Value::as_array).into_iter().flatten().filter_map(scalar).collect()
            }
        }
    }
}

fn at<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |value, part| match value {
        Value::Array(all) => all.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[derive(Deserialize)]
struct Version {
    version: Option<u64>,
}

#[derive(Deserialize)]
struct Fourth {
    #[serde(default)]
    resources: Vec<Group>,
}

/// Every instance of one block of the configuration.
#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    module: Option<String>,
    mode: String,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(default)]
    index_key: Option<Value>,
    #[serde(default)]
    attributes: Option<Value>,
    /// What a newer Terraform leaves of an older state until it is applied again.
    #[serde(default)]
    attributes_flat: Option<BTreeMap<String, String>>,
    /// It has been replaced, and waits for its end.
    #[serde(default)]
    deposed: Option<String>,
}

impl Group {
    fn all(self) -> Vec<Resource> {
        let Self { module, mode, kind, name, instances } = self;
        let is_data = mode == "data";
        let module = module.map(|module| format!("{module}.")).unwrap_or_default();
        let block = format!("{module}{}{kind}.{name}", if is_data { "data." } else { "" });
        let of = |instance: Instance| {
            let index = instance.index_key.map(|index| format!("[{index}]")).unwrap_or_default();
            let attributes = match (instance.attributes, instance.attributes_flat) {
                (Some(tree), _) => Attributes::Tree(tree),
                (None, flat) => Attributes::Flat(flat.unwrap_or_default()),
            };
            let address = format!("{block}{index}");
            Resource { address, kind: kind.clone(), name: name.clone(), is_data, attributes }
        };
        instances.into_iter().filter(|instance| instance.deposed.is_none()).map(of).collect()
    }
}

#[derive(Deserialize)]
struct Third {
    #[serde(default)]
    modules: Vec<Module>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: Vec<String>,
    #[serde(default)]
    resources: BTreeMap<String, Old>,
}

#[derive(Deserialize)]
struct Old {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    primary: Option<Primary>,
}

#[derive(Deserialize)]
struct Primary {
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

impl Module {
    fn all(self) -> Vec<Resource> {
        let module: String =
            self.path.iter().filter(|part| *part != "root").map(|part| format!("module.{part}.")).collect();
        let of = |(key, old): (String, Old)| {
            let attributes = Attributes::Flat(old.primary?.attributes);
            let is_data = key.starts_with("data.");
            let called = key.strip_prefix("data.").unwrap_or(&key).strip_prefix(&old.kind)?.strip_prefix('.')?;
            // `node.0` is the first of several.
            let (name, index) = match called.rsplit_once('.') {
                Some((name, index)) if index.parse::<u32>().is_ok() => (name, format!("[{index}]")),
                Some(_) | None => (called, String::new()),
            };
            let block = format!("{}{}.{name}", if is_data { "data." } else { "" }, old.kind);
            let address = format!("{module}{block}{index}");
            let name = name.to_owned();
            Some(Resource { address, kind: old.kind, name, is_data, attributes })
        };
        self.resources.into_iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOURTH: &str = r#"{"version": 4, "terraform_version": "1.5.7", "resources": [
        {"module": "module.compute", "mode": "managed", "type": "openstack_compute_instance_v2", "name": "node",
         "instances": [{"index_key": 0, "attributes": {"id": "s1", "security_groups": ["default", "k8s"],
            "network": [{"name": "net", "fixed_ip_v4": "10.0.0.5"}], "metadata": {"kubespray_groups": "etcd"}}},
           {"index_key": "old", "deposed": "00000001", "attributes": {"id": "s0"}}]},
        {"mode": "data", "type": "openstack_networking_network_v2", "name": "public", "instances": [{"attributes": {}}]}]}"#;

    const THIRD: &str = r#"{"version": 3, "modules": [{"path": ["root", "compute"], "resources": {
        "openstack_compute_instance_v2.node.0": {"type": "openstack_compute_instance_v2", "primary": {"id": "s1",
            "attributes": {"id": "s1", "security_groups.#": "2", "security_groups.338": "default",
            "security_groups.77": "k8s", "network.#": "1", "network.0.name": "net", "network.0.fixed_ip_v4": "10.0.0.5",
            "metadata.%": "1", "metadata.kubespray_groups": "etcd", "key_pair": ""}}},
        "data.openstack_networking_network_v2.public": {"type": "openstack_networking_network_v2", "primary": {}}}}]}"#;

    #[test]
    fn both_versions_are_asked_by_the_same_paths() {
        for text in [FOURTH, THIRD] {
            let mut all = read(text).expect("a state");
            all.sort_by_key(|resource| resource.is_data);
            let [node, network] = &all[..] else { panic!("{all:?}") };
            assert_eq!(node.address, "module.compute.openstack_compute_instance_v2.node[0]");
            assert_eq!((node.name.as_str(), node.is_data, network.is_data), ("node", false, true));
            assert_eq!(node.text("network.0.fixed_ip_v4").as_deref(), Some("10.0.0.5"));
            assert_eq!(node.text("metadata.kubespray_groups").as_deref(), Some("etcd"));
            assert_eq!(node.texts("security_groups"), ["default", "k8s"]);
            assert_eq!((node.text("network.1.name"), node.text("key_pair")), (None, None));
        }
    }

    #[test]
    fn what_is_no_state_is_told_what_it_is_not() {
        let refusal = |text| read(text).expect_err(text).to_string();
        assert_eq!(refusal("[]"), "it is no Terraform state");
        assert_eq!(refusal(r#"{"version": 2}"#), "it is a state of version 2; versions 3 and 4 are known");
        assert!(refusal(r#"{"format_version": "1.0", "values": {}}"#).contains("terraform show -json"));
        assert!(read(r#"{"version": 4, "resources": [{"mode": 7}]}"#).is_err());
    }
}
