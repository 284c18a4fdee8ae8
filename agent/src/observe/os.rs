// SPDX-License-Identifier: Apache-2.0
//! Operating system and host name.

use windlass_types::facts::Os;

use super::{Unobservable, read};
use crate::host::{Observe, os_release};

pub(super) fn observe(host: &dyn Observe) -> Result<Os, Unobservable> {
    let [preferred, fallback] = os_release::PATHS;
    let release = os_release::parse(&read(host, preferred).or_else(|_| read(host, fallback))?);
    let machine = host.machine().map_err(Unobservable::Machine)?;
    Ok(Os {
        id: release.id,
        version_id: release.version_id,
        pretty_name: release.pretty_name,
        architecture: machine.architecture,
        hostname: machine.hostname,
    })
}
