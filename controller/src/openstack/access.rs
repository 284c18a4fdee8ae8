// SPDX-License-Identifier: Apache-2.0
//! As whom a cloud is used, and where its services are.

use super::client::Client;
use super::error::CloudError;
use super::identity::Account;
use super::service::Service;

/// As whom a cloud is used, and where its services are.
#[async_trait::async_trait]
pub trait Access {
    /// As whom and for which project the cloud is used.
    ///
    /// # Errors
    /// If the cloud cannot be reached or does not take the credential.
    async fn account(&self) -> Result<Account, CloudError>;

    /// Where a service is.
    ///
    /// # Errors
    /// As [`Access::account`], or if it is not in the catalogue.
    async fn address(&self, service: Service) -> Result<String, CloudError>;
}

#[async_trait::async_trait]
impl Access for Client {
    async fn account(&self) -> Result<Account, CloudError> {
        Self::account(self).await
    }

    async fn address(&self, service: Service) -> Result<String, CloudError> {
        Self::address(self, service).await
    }
}
