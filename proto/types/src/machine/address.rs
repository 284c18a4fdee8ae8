// SPDX-License-Identifier: Apache-2.0
//! An address on a cluster's own network.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address with the length of its network's prefix; written `10.0.0.171/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LanAddress {
    address: Ipv4Addr,
    prefix: u8,
}

/// Text that is not an address with a prefix, or not one a machine can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address on a network: expected one such as 10.0.0.171/24, of a machine and with a prefix of 8 to 30")]
pub struct NotALanAddress;

impl LanAddress {
    /// Checks and pairs.
    ///
    /// # Errors
    /// If the prefix is not between 8 and 30, or the address is the network's own or its broadcast address.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, NotALanAddress> {
        if !(8..=30).contains(&prefix) {
            return Err(NotALanAddress);
        }
        let hosts = u32::MAX >> prefix;
        let host = u32::from(address) & hosts;
        if host == 0 || host == hosts || address.is_loopback() || address.is_multicast() {
            return Err(NotALanAddress);
        }
        Ok(Self { address, prefix })
    }

    /// The address.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Length of the network's prefix, bits.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }
}

impl FromStr for LanAddress {
    type Err = NotALanAddress;

    fn from_str(text: &str) -> Result<Self, NotALanAddress> {
        let (address, prefix) = text.split_once('/').ok_or(NotALanAddress)?;
        let address = address.parse().map_err(|_| NotALanAddress)?;
        Self::new(address, prefix.parse().map_err(|_| NotALanAddress)?)
    }
}

impl TryFrom<String> for LanAddress {
    type Error = NotALanAddress;

    fn try_from(text: String) -> Result<Self, NotALanAddress> {
        text.parse()
    }
}

impl From<LanAddress> for String {
    fn from(address: LanAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for LanAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let address: LanAddress = "10.0.0.171/24".parse().expect("an address");
        assert_eq!((address.to_string().as_str(), address.prefix()), ("10.0.0.171/24", 24));
    }

    #[test]
    fn refuses_what_no_machine_can_have() {
        for text in
            ["", "10.0.0.1", "10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/31", "10.0.0.1/7", "127.0.0.1/24", "x/24"]
        {
            assert_eq!(text.parse::<LanAddress>(), Err(NotALanAddress), "{text}");
        }
    }
}
