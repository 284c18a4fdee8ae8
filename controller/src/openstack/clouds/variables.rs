// SPDX-License-Identifier: Apache-2.0
//! The `OS_*` variables that an openrc file sets, as the entry of a `clouds.yaml` that would say the same; and those that
//! name proxies.

use super::document::{Auth, Entry, Value, inverted};
use super::{Proxies, Surroundings};
use crate::openstack::secret::Secret;

/// What is said about proxies. Small letters count before capital ones, as for other programs.
pub(super) fn proxies(around: &Surroundings) -> Proxies {
    let get = |name: &str| around.variable(name).or_else(|| around.variable(&name.to_ascii_uppercase()));
    let proxy = |name: &str| get(name).or_else(|| get("all_proxy")).map(Secret::new);
    Proxies { http: proxy("http_proxy"), https: proxy("https_proxy"), except: get("no_proxy").map(ToOwned::to_owned) }
}

/// The variables as an entry.
pub(super) fn entry(around: &Surroundings) -> Entry {
    let get = |name: &str| -> Option<Value> { around.variable(name).map(Value::new) };
    let auth = Auth {
        auth_url: get("OS_AUTH_URL"),
        username: get("OS_USERNAME"),
        user_id: get("OS_USER_ID"),
        password: get("OS_PASSWORD"),
        token: get("OS_TOKEN").or_else(|| get("OS_AUTH_TOKEN")),
        user_domain_name: get("OS_USER_DOMAIN_NAME"),
        user_domain_id: get("OS_USER_DOMAIN_ID"),
        project_name: get("OS_PROJECT_NAME").or_else(|| get("OS_TENANT_NAME")),
        project_id: get("OS_PROJECT_ID").or_else(|| get("OS_TENANT_ID")),
        project_domain_name: get("OS_PROJECT_DOMAIN_NAME"),
        project_domain_id: get("OS_PROJECT_DOMAIN_ID"),
        domain_name: None,
        domain_id: None,
        default_domain: get("OS_DEFAULT_DOMAIN"),
        application_credential_id: get("OS_APPLICATION_CREDENTIAL_ID"),
        application_credential_name: get("OS_APPLICATION_CREDENTIAL_NAME"),
        application_credential_secret: get("OS_APPLICATION_CREDENTIAL_SECRET"),
    };
    Entry {
        auth,
        auth_type: get("OS_AUTH_TYPE"),
        region_name: get("OS_REGION_NAME"),
        interface: get("OS_INTERFACE").or_else(|| get("OS_ENDPOINT_TYPE")),
        endpoint_type: None,
        identity_api_version: get("OS_IDENTITY_API_VERSION"),
        cacert: get("OS_CACERT"),
        verify: get("OS_INSECURE").map(|insecure| inverted(&insecure)),
    }
}
