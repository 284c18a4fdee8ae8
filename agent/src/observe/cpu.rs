// SPDX-License-Identifier: Apache-2.0
//! Processors.

use windlass_types::facts::Cpu;

use super::Unobservable;
use crate::host::Observe;

pub(super) fn observe(host: &dyn Observe) -> Result<Cpu, Unobservable> {
    host.cpu().map_err(Unobservable::Cpu)
}
