// SPDX-License-Identifier: Apache-2.0
//! The services the agent's configuration names.

use windlass_types::facts::ServiceState;

use super::Unobservable;
use crate::host::{Observe, systemd_units};

pub(super) async fn observe(host: &dyn Observe, watched: &[String]) -> Result<Vec<ServiceState>, Unobservable> {
    if watched.is_empty() {
        return Ok(vec![]);
    }
    Ok(systemd_units::parse_show(watched, &host.systemctl_show(watched).await?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeHost, Method};

    #[tokio::test]
    async fn without_watched_services_nothing_is_asked() {
        let host = FakeHost::new("node1");
        host.fail_nth(Method::SystemctlShow, 1, "asked");
        assert_eq!(observe(&host, &[]).await.unwrap(), []);
    }
}
