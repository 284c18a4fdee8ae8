// SPDX-License-Identifier: Apache-2.0
//! How many connections an address may have while it has not shown a trusted certificate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections per address.
#[derive(Debug, Clone)]
pub(super) struct PerAddress {
    most: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One counted connection; it leaves when dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    all: PerAddress,
}

impl PerAddress {
    pub(super) fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// Counts one more, unless the address has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut counts = self.lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { address, all: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.all.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_places_back() {
        let all = PerAddress::new(2);
        let address = IpAddr::from([127, 0, 0, 1]);
        let first = all.enter(address);
        let second = all.enter(address);
        assert!(first.is_some() && second.is_some() && all.enter(address).is_none());
        assert!(all.enter(IpAddr::from([127, 0, 0, 2])).is_some(), "another address is not affected");
        drop(first);
        assert!(all.enter(address).is_some());
        drop(second);
        assert!(all.lock().is_empty(), "nothing is remembered of those who left");
    }
}
