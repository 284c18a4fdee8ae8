// SPDX-License-Identifier: Apache-2.0
//! Where the services of a cloud are: what came with the token, and the addresses made of it.
//!
//! Clouds write the same address in several ways, with and without version and project. All become one here.

use serde::Deserialize;
use windlass_types::outcome::ErrorClass;

use super::clouds::Interface;
use super::service::Service;

/// Where services are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Catalogue(Vec<Entry>);

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Deserialize)]
struct Endpoint {
    #[serde(default)]
    interface: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    region_id: Option<String>,
    /// What `region_id` was called first; both are there, or one of them.
    #[serde(default)]
    region: Option<String>,
}

impl Endpoint {
    fn region(&self) -> &str {
        self.region_id.as_deref().or(self.region.as_deref()).unwrap_or_default()
    }
}

/// A service that is not found in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// The cloud has none.
    #[error("find the {service} service: the cloud's catalogue has {has}")]
    NoService {
        /// Which.
        service: Service,
        /// The types of those it has.
        has: String,
    },
    /// It has one, but not there.
    #[error("find the {service} service: it has no {interface} endpoint{region}; there is {has}")]
    NoEndpoint {
        /// Which.
        service: Service,
        /// Which door was wanted.
        interface: &'static str,
        /// In which region; begins with a space.
        region: String,
        /// What there is.
        has: String,
    },
    /// It is in several regions.
    #[error("find the {service} service: it is in several regions, {has}, and none was chosen")]
    SeveralRegions {
        /// Which.
        service: Service,
        /// Where it is.
        has: String,
    },
    /// Of a version that is not spoken here.
    #[error("use the {service} service at {url}: only its version {expected} is spoken", expected = .service.version())]
    OtherVersion {
        /// Which.
        service: Service,
        /// Where it is.
        url: String,
    },
}

impl CatalogueError {
    /// What a program does about it.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::Operator
    }

    /// What a person does about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::NoService { .. } => "see that the project may use that service; the cloud's administrators know",
            Self::NoEndpoint { .. } => "set region_name and interface of the cloud in clouds.yaml to what there is",
            Self::SeveralRegions { .. } => "set region_name of the cloud in clouds.yaml to one of them",
            Self::OtherVersion { .. } => "ask the cloud's administrators for an endpoint of that version",
        }
    }
}

impl Catalogue {
    /// The address of a service without a slash at its end, with version and, where it belongs there, the project.
    ///
    /// # Errors
    /// If it is not there, or in several regions without a choice.
    pub fn address(
        &self,
        service: Service,
        interface: Interface,
        region: Option<&str>,
        project: &str,
    ) -> Result<String, CatalogueError> {
        let endpoints = self.endpoints(service)?;
        let wanted = |endpoint: &&Endpoint| {
            endpoint.interface.trim_end_matches("URL") == interface.as_str()
                && region.is_none_or(|region| endpoint.region() == region)
        };
        let fitting: Vec<_> = endpoints.iter().filter(wanted).collect();
        let regions = listed(fitting.iter().map(|endpoint| endpoint.region().to_owned()));
        let found = fitting.iter().find_map(|endpoint| endpoint.url.as_deref());
        match found {
            Some(_) if regions.contains(", ") => Err(CatalogueError::SeveralRegions { service, has: regions }),
            Some(url) => normal(service, url, project),
            None => Err(CatalogueError::NoEndpoint {
                service,
                interface: interface.as_str(),
                region: region.map(|region| format!(" in region {region}")).unwrap_or_default(),
                has: listed(endpoints.iter().map(|there| format!("{} in {}", there.interface, there.region()))),
            }),
        }
    }

    fn endpoints(&self, service: Service) -> Result<&[Endpoint], CatalogueError> {
        let of_type = |kind: &&str| self.0.iter().find(|entry| entry.kind == **kind && !entry.endpoints.is_empty());
        match service.types().iter().find_map(of_type) {
            Some(entry) => Ok(&entry.endpoints),
            None => {
                let has = listed(self.0.iter().map(|entry| entry.kind.clone()));
                Err(CatalogueError::NoService { service, has })
            }
        }
    }
}

/// Each once, in order, for people.
fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Adds version and project where an address lacks them.
fn normal(service: Service, url: &str, project: &str) -> Result<String, CatalogueError> {
    let url = url.trim_end_matches('/');
    let Some((version, rest)) = version_in(url) else {
        let project = if service == Service::BlockStorage { format!("/{project}") } else { String::new() };
        return Ok(format!("{url}/{}{project}", service.version()));
    };
    // Compute says v2.1, and v2 for the same thing without microversions; the others their one version.
    let spoken = service.version().split('.').next().unwrap_or_default();
    if version.split('.').next() != Some(spoken) {
        return Err(CatalogueError::OtherVersion { service, url: url.to_owned() });
    }
    if service == Service::BlockStorage && rest.is_empty() {
        return Ok(format!("{url}/{project}"));
    }
    Ok(url.to_owned())
}

/// The version in an address, and what comes after it.
fn version_in(url: &str) -> Option<(&str, &str)> {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let is_version = |part: &str| {
        let digits = part.strip_prefix('v').unwrap_or_default();
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    // The first part is the host, which may have any name.
    let part = path.split('/').skip(1).find(|part| is_version(part))?;
    let start = part.as_ptr() as usize - path.as_ptr() as usize;
    Some((part, path[start + part.len()..].trim_start_matches('/')))
}

/// An address up to and with the version: where a service says which versions it speaks.
pub(super) fn up_to_version(url: &str) -> &str {
    match version_in(url) {
        Some((_, rest)) => url[..url.len() - rest.len()].trim_end_matches('/'),
        None => url,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Catalogue, normal, up_to_version};
    use crate::openstack::clouds::Interface;
    use crate::openstack::service::Service;

    fn catalogue() -> Catalogue {
        let endpoint = |interface: &str, region: &str, url: &str| json!({"id": "e", "interface": interface, "region": region, "region_id": region, "url": url});
        let compute = [endpoint("public", "A", "https://a/v2.1"), endpoint("internal", "A", "http://in/v2.1")];
        let network = [endpoint("public", "A", "https://a:9696/"), endpoint("public", "B", "https://b:9696/")];
        serde_json::from_value(json!([
            {"type": "compute", "name": "nova", "id": "1", "endpoints": compute},
            {"type": "network", "name": "neutron", "endpoints": network},
            {"type": "volumev2", "endpoints": [endpoint("public", "A", "https://a/volume/v2/p")]},
            {"type": "volumev3", "endpoints": [endpoint("public", "A", "https://a/volume/v3/p")]},
            {"type": "volume", "endpoints": [endpoint("public", "A", "https://a/volume/v1/p")]},
            {"name": "of a type that is not said"},
        ]))
        .expect("a catalogue")
    }

    #[test]
    fn finds_a_service_by_region_and_interface() {
        let at = |service, interface, region| catalogue().address(service, interface, region, "p");
        let public = Interface::Public;
        assert_eq!(at(Service::Compute, public, None), Ok("https://a/v2.1".to_owned()));
        assert_eq!(at(Service::Compute, Interface::Internal, Some("A")), Ok("http://in/v2.1".to_owned()));
        assert_eq!(at(Service::Network, public, Some("B")), Ok("https://b:9696/v2.0".to_owned()));
        assert_eq!(at(Service::BlockStorage, public, None), Ok("https://a/volume/v3/p".to_owned()));
        let said = |answer: Result<String, super::CatalogueError>| answer.expect_err("refused").to_string();
        let several = "find the network service: it is in several regions, A, B, and none was chosen";
        assert_eq!(said(at(Service::Network, public, None)), several);
        let nowhere =
            "find the compute service: it has no public endpoint in region B; there is internal in A, public in A";
        assert_eq!(said(at(Service::Compute, public, Some("B"))), nowhere);
        let none = "find the image service: the cloud's catalogue has compute, network, volume, volumev2, volumev3";
        assert_eq!(said(at(Service::Image, public, None)), none);
    }

    #[test]
    fn the_same_address_is_written_in_several_ways() {
        for (service, url, expected) in [
            (Service::Compute, "http://c:8774/v2.1", "http://c:8774/v2.1"),
            (Service::Compute, "http://c:8774/v2.1/p1/", "http://c:8774/v2.1/p1"),
            (Service::Compute, "https://v2.example/compute", "https://v2.example/compute/v2.1"),
            (Service::Network, "http://c:9696", "http://c:9696/v2.0"),
            (Service::Network, "https://c/networking/v2.0/", "https://c/networking/v2.0"),
            (Service::Image, "http://c:9292", "http://c:9292/v2"),
            (Service::Image, "http://c:9292/v2/", "http://c:9292/v2"),
            (Service::BlockStorage, "http://c:8776/v3/p1", "http://c:8776/v3/p1"),
            (Service::BlockStorage, "http://c:8776/v3", "http://c:8776/v3/p1"),
            (Service::BlockStorage, "http://c/volume", "http://c/volume/v3/p1"),
        ] {
            assert_eq!(normal(service, url, "p1").as_deref(), Ok(expected));
        }
        let refused = normal(Service::BlockStorage, "http://c:8776/v1/p1", "p1").expect_err("refused");
        let said = "use the block-storage service at http://c:8776/v1/p1: only its version v3 is spoken";
        assert_eq!(refused.to_string(), said);
        assert_eq!(up_to_version("https://c/compute/v2.1/p1"), "https://c/compute/v2.1");
        assert_eq!(up_to_version("https://c/v2.1"), "https://c/v2.1");
    }
}
