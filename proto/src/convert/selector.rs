// SPDX-License-Identifier: Apache-2.0
//! Which nodes an operator means.

use windlass_types::name::BadName;
use windlass_types::selector::NodeSelector;

use crate::v1;

impl TryFrom<v1::NodeSelector> for NodeSelector {
    type Error = BadName;

    fn try_from(wire: v1::NodeSelector) -> Result<Self, BadName> {
        let names = wire.names.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let label = |(key, value): (String, String)| Ok((key.try_into()?, value.try_into()?));
        let labels = wire.labels.into_iter().map(label).collect::<Result<_, BadName>>()?;
        Ok(Self { all: wire.all, names, labels, facts: wire.facts })
    }
}
