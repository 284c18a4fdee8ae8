// SPDX-License-Identifier: Apache-2.0
//! How much of everything a project may have, and has.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::call::{Call, encoded};
use super::client::Client;
use super::error::CloudError;
use super::service::Service;

/// How much of something a project may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Of what, as the service calls it, such as `instances`, `ram` (MiB), `port` or `gigabytes`.
    pub of: String,
    /// At most; `None` if there is no limit.
    pub limit: Option<u64>,
    /// What there is already; `None` if the cloud does not tell.
    pub used: Option<u64>,
}

impl Quota {
    /// How many more there may be; `None` if that is not limited or not known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        Some(self.limit?.saturating_sub(self.used?))
    }

    fn new(of: &str, limit: i64, used: Option<i64>) -> Self {
        Self {
            of: of.to_owned(),
            limit: u64::try_from(limit).ok(),
            used: used.and_then(|used| u64::try_from(used).ok()),
        }
    }
}

/// What compute and block-storage call a limit and what is used of it, and what the quota is called.
const COMPUTE: [(&str, &str, &str); 4] = [
    ("instances", "maxTotalInstances", "totalInstancesUsed"),
    ("cores", "maxTotalCores", "totalCoresUsed"),
    ("ram", "maxTotalRAMSize", "totalRAMUsed"),
    ("server_groups", "maxServerGroups", "totalServerGroupsUsed"),
];
const BLOCK_STORAGE: [(&str, &str, &str); 2] = [
    ("volumes", "maxTotalVolumes", "totalVolumesUsed"),
    ("gigabytes", "maxTotalVolumeGigabytes", "totalGigabytesUsed"),
];

/// Quotas.
#[async_trait::async_trait]
pub trait Quotas {
    /// Of servers: `instances`, `cores`, `ram` in MiB, `server_groups`.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn compute_quotas(&self) -> Result<Vec<Quota>, CloudError>;

    /// Of networks: `network`, `subnet`, `router`, `port`, `security_group`, `security_group_rule`, `floatingip` and
    /// whatever else the service counts.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn network_quotas(&self) -> Result<Vec<Quota>, CloudError>;

    /// Of volumes: `volumes`, `gigabytes`.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn volume_quotas(&self) -> Result<Vec<Quota>, CloudError>;
}

#[async_trait::async_trait]
impl Quotas for Client {
    async fn compute_quotas(&self) -> Result<Vec<Quota>, CloudError> {
        absolute(self, Service::Compute, &COMPUTE).await
    }

    async fn network_quotas(&self) -> Result<Vec<Quota>, CloudError> {
        let project = encoded(&self.project().await?);
        let detailed = Call::get(Service::Network, format!("/quotas/{project}/details.json"));
        if let Some(found) = self.maybe::<BTreeMap<String, Detail>>(&detailed, "quota").await? {
            return Ok(found.iter().map(|(of, detail)| Quota::new(of, detail.limit, Some(detail.all()))).collect());
        }
        // A cloud without that extension tells only the limits.
        let limits = Call::get(Service::Network, format!("/quotas/{project}"));
        let found: BTreeMap<String, Value> = self.one(&limits, "quota").await?;
        Ok(found.iter().filter_map(|(of, limit)| Some(Quota::new(of, limit.as_i64()?, None))).collect())
    }

    async fn volume_quotas(&self) -> Result<Vec<Quota>, CloudError> {
        absolute(self, Service::BlockStorage, &BLOCK_STORAGE).await
    }
}

/// Of one resource of the network service.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    limit: i64,
    used: i64,
    reserved: i64,
}

impl Detail {
    const fn all(&self) -> i64 {
        self.used.saturating_add(self.reserved)
    }
}

#[derive(Deserialize)]
struct Limits {
    absolute: BTreeMap<String, Value>,
}

async fn absolute(client: &Client, service: Service, names: &[(&str, &str, &str)]) -> Result<Vec<Quota>, CloudError> {
    let limits: Limits = client.one(&Call::get(service, "/limits"), "limits").await?;
    let number = |name: &str| limits.absolute.get(name).and_then(Value::as_i64);
    let quota = |(of, limit, used): &(&str, &str, &str)| Some(Quota::new(of, number(limit)?, number(used)));
    Ok(names.iter().filter_map(quota).collect())
}
