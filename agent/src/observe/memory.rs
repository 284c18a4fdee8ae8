// SPDX-License-Identifier: Apache-2.0
//! Memory, rounded so that it is not news every second.

use windlass_types::facts::Memory;

use super::Unobservable;
use crate::host::{MemoryReading, Observe};

/// Available memory is told in steps of this part of the whole.
const STEPS: u64 = 16;

pub(super) fn observe(host: &dyn Observe) -> Result<Memory, Unobservable> {
    host.memory().map(rounded).map_err(Unobservable::Memory)
}

fn rounded(reading: MemoryReading) -> Memory {
    let step = (reading.total / STEPS).max(1);
    Memory {
        total_bytes: reading.total,
        available_bytes: reading.available / step * step,
        swap_total_bytes: reading.swap_total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_told_in_sixteenths() {
        for (total, available, told) in [(16_000, 5_999, 5_000), (16_000, 16_000, 16_000), (16_000, 0, 0), (0, 0, 0)] {
            let reading = MemoryReading { total, available, swap_total: 0 };
            assert_eq!(rounded(reading).available_bytes, told, "{available} of {total}");
        }
    }
}
