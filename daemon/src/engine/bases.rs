//! Base images for builds: the local store first, a registry otherwise.

use std::collections::BTreeMap;

use cooper_builder::build::BaseImages;
use cooper_registry::client::Credentials;
use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{self, Image};
use tokio::runtime::Handle;

use super::Engine;

/// Pulls what is missing with the build's credentials.
#[derive(Debug)]
pub(crate) struct PullingBases {
    pub(crate) engine: Engine,
    /// By registry host.
    pub(crate) credentials: BTreeMap<String, Credentials>,
    /// The runtime that drives the client's sockets; the builder's threads are outside of it.
    pub(crate) runtime: Handle,
}

impl BaseImages for PullingBases {
    fn resolve(&self, name: &ImageRef, platform: &Platform, always_pull: bool) -> Result<Image, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let store = self.engine.store().map_err(|error| text(&error))?;
        let local = match store.image(&name.to_string()) {
            Ok(image) => Some(image),
            Err(store::Error::NoSuchImage(_)) => None,
            Err(error) => return Err(text(&error)),
        };
        if let (Some(image), false) = (&local, always_pull) {
            return Ok(image.clone());
        }
        let credentials = self
            .credentials
            .get(name.repo.domain())
            .cloned()
            .unwrap_or(Credentials::Anonymous);
        let client = self.engine.client().map_err(|error| text(&error))?;
        self.runtime
            .block_on(client.pull(name, platform, credentials, &|_| {}))
            .map_err(|error| format!("failed to pull {}: {error}", name.familiar()))?;
        store.image(&name.to_string()).map_err(|error| text(&error))
    }
}
