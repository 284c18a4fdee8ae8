// SPDX-License-Identifier: Apache-2.0
//! Values as people write them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::Deserialize;

/// A size, such as `512MiB` or `10GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

/// What a schema says of a size.
pub const SIZE_PATTERN: &str = "^[1-9][0-9]{0,6}(MiB|GiB|TiB)$";

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a size is a whole number and MiB, GiB or TiB, such as 10GiB")]
pub struct NotASize;

impl Size {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// So many MiB.
    #[must_use]
    pub const fn mebibytes(count: u32) -> Self {
        Self((count as u64) << 20)
    }
}

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let (number, shift) = [("MiB", 20), ("GiB", 30), ("TiB", 40)]
            .iter()
            .find_map(|(unit, shift)| text.strip_suffix(unit).map(|number| (number, *shift)))
            .ok_or(NotASize)?;
        let is_plain = (1..=7).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_plain || number.starts_with('0') {
            return Err(NotASize);
        }
        let count: u64 = number.parse().map_err(|_| NotASize)?;
        Ok(Self(count << shift))
    }
}

impl TryFrom<String> for Size {
    type Error = NotASize;

    fn try_from(text: String) -> Result<Self, NotASize> {
        text.parse()
    }
}

/// A network, such as `10.0.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    base: Ipv4Addr,
    prefix: u8,
}

/// What a schema says of a network; its reader looks closer.
pub const NETWORK_PATTERN: &str = "^([0-9]{1,3}\\.){3}[0-9]{1,3}/([89]|[12][0-9]|30)$";

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a network is its first address and a prefix of 8 to 30, such as 10.0.0.0/24")]
pub struct NotANetwork;

impl Network {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & !(u32::MAX >> self.prefix) == u32::from(self.base)
    }

    /// Length of the prefix, bits.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }
}

impl Default for Network {
    fn default() -> Self {
        Self { base: Ipv4Addr::new(10, 0, 0, 0), prefix: 24 }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, NotANetwork> {
        let (base, prefix) = text.split_once('/').ok_or(NotANetwork)?;
        let base: Ipv4Addr = base.parse().map_err(|_| NotANetwork)?;
        let prefix: u8 = prefix.parse().map_err(|_| NotANetwork)?;
        if !(8..=30).contains(&prefix) || u32::from(base) & (u32::MAX >> prefix) != 0 {
            return Err(NotANetwork);
        }
        Ok(Self { base, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_and_refuses_what_could_be_misread() {
        assert_eq!("512MiB".parse(), Ok(Size(512 << 20)));
        assert_eq!("3TiB".parse(), Ok(Size(3 << 40)));
        for text in ["", "10", "10G", "10GB", "1.5GiB", "-1GiB", "0GiB", "010GiB", " 1GiB", "99999999TiB", "10 GiB"] {
            assert_eq!(text.parse::<Size>(), Err(NotASize), "{text}");
        }
    }

    #[test]
    fn a_network_knows_its_addresses() {
        let network = Network::try_from("10.0.0.0/24".to_owned()).expect("a network");
        assert!(network.contains(Ipv4Addr::new(10, 0, 0, 9)) && !network.contains(Ipv4Addr::new(10, 0, 1, 9)));
        for text in ["10.0.0.1/24", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/7", "x/24"] {
            assert!(Network::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
