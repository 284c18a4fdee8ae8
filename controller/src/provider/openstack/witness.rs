// SPDX-License-Identifier: Apache-2.0
//! Whether whoever presents a machine's token is the server that was made for it.
//!
//! Two things are compared with what the cloud says: the id that the server's firmware shows it, and the address from which
//! it calls. Behind a router without an address of its own a server is seen with the router's, which others there share: it
//! must at least say its id then. Whoever has stolen a token and can read a server's id and sits behind the same router can
//! still lie; the token ends when it is used.

use std::net::IpAddr;

use super::error::{Doing as _, OpenstackError};
use super::{OpenstackProvider, standing};
use crate::openstack::compute::Server;
use crate::openstack::network::Filter;
use crate::provider::{Claim, MachineKey};

impl OpenstackProvider {
    pub(super) async fn is_that_machine(&self, key: &MachineKey, claim: &Claim) -> Result<(), OpenstackError> {
        let (server, parts) = self.living(key).await?;
        let stranger = |why: String| OpenstackError::Stranger { machine: key.clone(), why };
        if !claim.system_uuid.is_empty() && claim.system_uuid != server.id {
            return Err(stranger(format!("its firmware says {}", windlass_types::escape::Escaped(&claim.system_uuid))));
        }
        let Some(address) = claim.address else { return Ok(()) };
        if parts.addresses(Some(&server)).contains(&address) {
            return Ok(());
        }
        if !self.is_a_router(&server, address).await? {
            let state = standing(&server);
            return Err(stranger(format!("it calls from {address}, and the server, {state}, has no such address")));
        }
        match claim.system_uuid.is_empty() {
            true => Err(stranger(format!(
                "it calls through the router at {address}, and it does not say which server it is"
            ))),
            false => Ok(()),
        }
    }

    /// Whether an address is one under which servers behind a router of the project are seen.
    async fn is_a_router(&self, server: &Server, address: IpAddr) -> Result<bool, OpenstackError> {
        let routers = self.cloud.routers(&Filter::own()).await;
        let routers = routers.doing(|| format!("see from where the server {} may call", server.id))?;
        let gateways = routers.into_iter().filter_map(|router| router.external_gateway_info);
        Ok(gateways.flat_map(|gateway| gateway.external_fixed_ips).any(|outside| outside.ip_address == address))
    }
}
