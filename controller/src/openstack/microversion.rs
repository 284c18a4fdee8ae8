// SPDX-License-Identifier: Apache-2.0
//! Microversions of compute: the same address answers differently, by what a header asks for.
//!
//! The newest that was tried is asked for, or the newest that the cloud has, if that is older. What was new in one of them
//! and is used is named here, so that whoever makes a request can ask whether it is there.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

/// The newest that was tried with a cloud.
const TRIED: Microversion = Microversion(2, 90);

/// From here on the general header is understood; before, compute had one of its own.
const GENERAL_HEADER: Microversion = Microversion(2, 27);

/// A microversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microversion(u32, u32);

impl Microversion {
    /// A server group has one policy instead of a list.
    pub const GROUP_POLICY: Self = Self(2, 64);
    /// A server's root volume can be of a chosen type.
    pub const VOLUME_TYPE: Self = Self(2, 67);

    /// What is spoken with a service that says this of itself; `None` if it knows no microversions.
    ///
    /// # Errors
    /// If it is not understood, or all that it knows is newer.
    pub(super) fn offered(body: &[u8]) -> Result<Option<Self>, String> {
        let told: Told = serde_json::from_slice(body).map_err(|error| format!("it tells no version: {error}"))?;
        // Some answer for one version and some for all.
        let one = told.version.into_iter().chain(told.versions).find(|one| one.id == "v2.1");
        let Some(one) = one.filter(|one| !one.version.is_empty()) else { return Ok(None) };
        let parse = |text: &str| text.parse::<Self>().map_err(|()| format!("its version is {text:?}"));
        let (newest, oldest) = (parse(&one.version)?, parse(&one.min_version).unwrap_or(Self(2, 1)));
        if oldest > TRIED {
            return Err(format!("it speaks {oldest} to {newest}, and {TRIED} is the newest that is known here"));
        }
        Ok(Some(newest.min(TRIED)))
    }

    /// How it is asked for.
    pub(super) fn headers(self) -> Vec<(HeaderName, HeaderValue)> {
        let header = |name, text: String| Some((HeaderName::from_static(name), HeaderValue::from_str(&text).ok()?));
        let general = header("openstack-api-version", format!("compute {self}"));
        let own = header("x-openstack-nova-api-version", self.to_string()).filter(|_| self < GENERAL_HEADER);
        general.into_iter().chain(own).collect()
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Microversion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self(major.parse().map_err(|_| ())?, minor.parse().map_err(|_| ())?))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    version: Option<One>,
    versions: Vec<One>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct One {
    id: String,
    version: String,
    min_version: String,
}

#[cfg(test)]
mod tests {
    use super::Microversion;

    #[test]
    fn speaks_the_newest_that_both_know() {
        let offered = |body: &str| Microversion::offered(body.as_bytes()).map(|found| found.map(|one| one.to_string()));
        let one = |version: &str, oldest: &str| {
            format!(
                r#"{{"version": {{"id": "v2.1", "status": "CURRENT", "version": "{version}", "min_version": "{oldest}"}}}}"#
            )
        };
        assert_eq!(offered(&one("2.79", "2.1")), Ok(Some("2.79".to_owned())));
        assert_eq!(offered(&one("2.100", "2.1")), Ok(Some("2.90".to_owned())));
        assert_eq!(offered(&one("", "")), Ok(None));
        let list = r#"{"versions": [{"id": "v2.0", "version": ""}, {"id": "v2.1", "version": "2.3"}]}"#;
        assert_eq!(offered(list), Ok(Some("2.3".to_owned())));
        assert_eq!(offered(r#"{"version": {"id": "v2.0", "version": ""}}"#), Ok(None));
        let newer = "it speaks 2.95 to 2.100, and 2.90 is the newest that is known here";
        assert_eq!(offered(&one("2.100", "2.95")), Err(newer.to_owned()));
        assert!(offered("<html>").is_err());
    }

    #[test]
    fn an_old_compute_service_is_asked_in_its_own_way_too() {
        let names = |version: &str| {
            let version: Microversion = version.parse().expect("a version");
            version.headers().into_iter().map(|(name, value)| format!("{name}: {value:?}")).collect::<Vec<_>>()
        };
        assert_eq!(names("2.90"), [r#"openstack-api-version: "compute 2.90""#]);
        assert_eq!(names("2.9").len(), 2);
    }
}
