// SPDX-License-Identifier: Apache-2.0
//! The clouds this controller can use: each is found in `clouds.yaml`, or in `OS_*` variables, when it is first needed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use windlass_types::name::CloudName;

use super::OpenstackProvider;
use super::error::{Doing as _, OpenstackError};
use crate::openstack::client::Client;
use crate::openstack::clouds::{Choice, CloudConfig, Surroundings};

/// Where the host's own configuration of clouds is.
const SYSTEM: &str = "/etc/openstack";

/// The clouds.
#[derive(Debug)]
pub struct Clouds {
    around: Surroundings,
    /// The uuid of this controller.
    uid: String,
    /// By name, with what they were found as: a cloud whose description has changed is begun with anew.
    known: Mutex<BTreeMap<CloudName, (CloudConfig, Arc<OpenstackProvider>)>>,
}

impl Clouds {
    /// As the environment of this process says, for the controller with this uuid.
    #[must_use]
    pub fn of_this_process(uid: String) -> Self {
        let variables: BTreeMap<_, _> = std::env::vars().collect();
        let home = variables.get("HOME").map(PathBuf::from);
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self::around(Surroundings { variables, directory, home, system: PathBuf::from(SYSTEM) }, uid)
    }

    /// As these surroundings say.
    #[must_use]
    pub fn around(around: Surroundings, uid: String) -> Self {
        Self { around, uid, known: Mutex::default() }
    }

    /// One of them.
    ///
    /// # Errors
    /// If it is not described, or not well enough.
    pub async fn provider(&self, cloud: &CloudName) -> Result<Arc<OpenstackProvider>, OpenstackError> {
        let unknown = |error| OpenstackError::Unknown { cloud: cloud.clone(), source: Box::new(error) };
        let choice = Choice { cloud: Some(cloud.to_string()), unverified: false };
        // Anew each time: whoever mends the file need not restart the controller.
        let config = CloudConfig::find(&self.around, &choice).map_err(unknown)?;
        let mut known = self.known.lock().await;
        if let Some((_, provider)) = known.get(cloud).filter(|(before, _)| *before == config) {
            return Ok(Arc::clone(provider));
        }
        let client = Client::new(config.clone()).doing(|| format!("prepare to use the cloud {cloud}"))?;
        let provider = Arc::new(OpenstackProvider::new(cloud.clone(), self.uid.clone(), Arc::new(client)));
        known.insert(cloud.clone(), (config, Arc::clone(&provider)));
        Ok(provider)
    }
}
