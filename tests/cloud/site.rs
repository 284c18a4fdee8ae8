// SPDX-License-Identifier: Apache-2.0
//! The lab's cloud, as whom it is used, and all that is in the project.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use windlass_controller::openstack::client::Client;
use windlass_controller::openstack::clouds::{Choice, CloudConfig, Surroundings};
use windlass_controller::openstack::compute::Compute as _;
use windlass_controller::openstack::network::{Filter, Networking as _};
use windlass_controller::openstack::volume::Volumes as _;
use windlass_controller::provider::openstack::OpenstackProvider;
use windlass_controller::provider::openstack::clouds::Clouds;
use windlass_types::name::CloudName;

/// As whom it is used.
pub(crate) const CLOUD: &str = "lab";

/// Where the cloud that runs says how it is reached.
pub(crate) fn clouds_file() -> PathBuf {
    run_directory().join("clouds.yaml")
}

fn run_directory() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache/windlass");
    let cache = std::env::var_os("WINDLASS_CACHE").map_or_else(home, PathBuf::from);
    let directory = cache.join("cloud/run");
    assert!(directory.join("clouds.yaml").exists(), "no cloud runs: `make cloud` starts one");
    directory
}

/// Sees that servers are made as a test needs it.
///
/// # Panics
/// If they are not.
pub(crate) fn require(compute: &str) {
    let settings = std::fs::read_to_string(run_directory().join("settings")).expect("the settings of the cloud");
    let is_so = settings.split_whitespace().next() == Some(compute);
    assert!(is_so, "the cloud runs with {settings:?}: `make cloud COMPUTE={compute}` starts it as this test needs it");
}

fn surroundings(proxy: Option<&str>) -> Surroundings {
    let file = ("OS_CLIENT_CONFIG_FILE".to_owned(), clouds_file().display().to_string());
    let proxy = proxy.map(|address| ("http_proxy".to_owned(), address.to_owned()));
    let nowhere = PathBuf::from("/nonexistent");
    Surroundings {
        variables: [file].into_iter().chain(proxy).collect(),
        directory: nowhere.clone(),
        home: None,
        system: nowhere,
    }
}

/// The provider, perhaps through a proxy.
pub(crate) async fn provider(proxy: Option<&str>) -> Arc<OpenstackProvider> {
    let name = CloudName::new(CLOUD).expect("a name");
    Clouds::around(surroundings(proxy), "the-tests".to_owned()).provider(&name).await.expect("the lab's cloud")
}

/// All that is in the project: kind, name, id.
pub(crate) async fn everything() -> Vec<String> {
    let choice = Choice { cloud: Some(CLOUD.to_owned()), unverified: false };
    let config = CloudConfig::find(&surroundings(None), &choice).expect("the lab's cloud");
    let client = Client::new(config).expect("a client");
    let (own, any) = (Filter::own(), BTreeMap::new());
    let (servers, volumes, groups) =
        tokio::try_join!(client.servers(&any), client.volumes(&any), client.server_groups())
            .expect("the cloud answers");
    let (networks, routers, ports, security, floating) = tokio::try_join!(
        client.networks(&own),
        client.routers(&own),
        client.ports(&own),
        client.security_groups(&own),
        client.floating_ips(&own)
    )
    .expect("the cloud answers");
    let mut all: Vec<String> = Vec::new();
    all.extend(servers.into_iter().map(|one| format!("server {} {}", one.name, one.id)));
    all.extend(volumes.into_iter().map(|one| format!("volume {} {}", one.name, one.id)));
    all.extend(groups.into_iter().map(|one| format!("server-group {} {}", one.name, one.id)));
    all.extend(networks.into_iter().map(|one| format!("network {} {}", one.name, one.id)));
    all.extend(routers.into_iter().map(|one| format!("router {} {}", one.name, one.id)));
    all.extend(ports.into_iter().map(|one| format!("port {} {}", one.name, one.id)));
    all.extend(security.into_iter().map(|one| format!("security-group {} {}", one.name, one.id)));
    all.extend(floating.into_iter().map(|one| format!("floating-ip {} {}", one.floating_ip_address, one.id)));
    all.sort();
    all
}
