// SPDX-License-Identifier: Apache-2.0
//! Load averages, rounded so that they are not news every second.

use windlass_types::facts::Load;

use super::Unobservable;
use crate::host::Observe;

/// Hundredths per step.
const STEP: u32 = 50;

pub(super) fn observe(host: &dyn Observe) -> Result<Load, Unobservable> {
    let [one, five, fifteen] = host.load().map_err(Unobservable::Load)?.map(rounded);
    Ok(Load { one_centi: one, five_centi: five, fifteen_centi: fifteen })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, which is right here"
)]
fn rounded(load: f64) -> u32 {
    ((load * 100.0 / f64::from(STEP)).round() as u32).saturating_mul(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_told_in_halves() {
        for (load, told) in
            [(0.0, 0), (0.24, 0), (0.26, 50), (3.8, 400), (-1.0, 0), (f64::NAN, 0), (f64::MAX, u32::MAX)]
        {
            assert_eq!(rounded(load), told, "{load}");
        }
    }
}
