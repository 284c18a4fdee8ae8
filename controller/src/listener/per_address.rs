// SPDX-License-Identifier: Apache-2.0
//! How many connections an address may have while it has not shown a trusted certificate.
//!
//! An IPv6 host owns all addresses of its /64 and may come from another one each time, so these count as one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is counted as one: an IPv4 address, or the /64 of an IPv6 address.
pub(crate) fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

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
        let address = counted_as(address);
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
    fn a_host_with_many_ipv6_addresses_has_the_places_of_one() {
        let all = PerAddress::new(1);
        let at = |text: &str| all.enter(text.parse().expect("an address"));
        let first = at("2001:db8:0:1::1");
        assert!(first.is_some() && at("2001:db8:0:1:ffff::2").is_none());
        assert!(at("2001:db8:0:2::1").is_some(), "another network is not affected");
        drop(first);
        assert!(all.lock().is_empty());
    }

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
