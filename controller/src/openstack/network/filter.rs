// SPDX-License-Identifier: Apache-2.0
//! Which of many are asked for.

/// Which of many are asked for. Conditions are added one by one, and all must be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    own: bool,
    tags: Vec<String>,
    fields: Vec<(&'static str, String)>,
}

impl Filter {
    /// What belongs to the project. An administrator sees what belongs to others too, and must not touch it.
    #[must_use]
    pub const fn own() -> Self {
        Self { own: true, tags: Vec::new(), fields: Vec::new() }
    }

    /// Whatever can be seen, such as networks that others share.
    #[must_use]
    pub const fn any() -> Self {
        Self { own: false, tags: Vec::new(), fields: Vec::new() }
    }

    /// With this tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// With this name.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.field("name", name)
    }

    /// With this description.
    #[must_use]
    pub fn description(self, description: impl Into<String>) -> Self {
        self.field("description", description)
    }

    /// In this network: subnets and ports.
    #[must_use]
    pub fn network(self, id: impl Into<String>) -> Self {
        self.field("network_id", id)
    }

    /// Of this server or router: ports.
    #[must_use]
    pub fn device(self, id: impl Into<String>) -> Self {
        self.field("device_id", id)
    }

    fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(super) const fn is_own(&self) -> bool {
        self.own
    }

    pub(super) fn query(&self) -> Vec<(String, String)> {
        let tags = Some(self.tags.join(",")).filter(|tags| !tags.is_empty()).map(|tags| ("tags".to_owned(), tags));
        self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain(tags).collect()
    }
}
