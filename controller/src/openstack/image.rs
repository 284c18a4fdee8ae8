// SPDX-License-Identifier: Apache-2.0
//! Images that servers are made from.

use serde::Deserialize;

use super::call::{Call, encoded};
use super::client::Client;
use super::error::CloudError;
use super::lenient::or_default;
use super::service::Service;

/// How long an id is, as text.
const ID_LENGTH: usize = 36;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// What people call it; several may be called the same.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Whether it can be used: `active` then.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// What disk it needs at least, GiB.
    #[serde(default, deserialize_with = "or_default")]
    pub min_disk: u64,
    /// What memory it needs at least, MiB.
    #[serde(default, deserialize_with = "or_default")]
    pub min_ram: u64,
    /// What it has as it is stored, bytes, once it was uploaded.
    #[serde(default)]
    pub size: Option<u64>,
    /// When it was made, as the service writes it.
    #[serde(default, deserialize_with = "or_default")]
    pub created_at: String,
}

/// Images.
#[async_trait::async_trait]
pub trait Images {
    /// Those with this id or this name. None is an answer; several are for the caller to refuse.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn images(&self, name_or_id: &str) -> Result<Vec<Image>, CloudError>;

    /// All that may be used.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn all_images(&self) -> Result<Vec<Image>, CloudError>;
}

#[async_trait::async_trait]
impl Images for Client {
    async fn images(&self, name_or_id: &str) -> Result<Vec<Image>, CloudError> {
        if is_id(name_or_id) {
            let call = Call::get(Service::Image, format!("/images/{}", encoded(name_or_id)));
            // The only thing in the world that is not wrapped into an object of its name.
            match self.whole(&call).await {
                Err(error) if error.is_not_found() => {}
                image => return Ok(vec![image?]),
            }
        }
        self.all(Call::get(Service::Image, "/images").with("name", name_or_id), "images").await
    }

    async fn all_images(&self) -> Result<Vec<Image>, CloudError> {
        self.all(Call::get(Service::Image, "/images"), "images").await
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}
