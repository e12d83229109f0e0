//! Other registries for builds.

use std::collections::BTreeMap;

use cooper_builder::build::Registries;
use cooper_registry::client::{Client, Credentials};
use cooper_registry::digest::Digest;
use cooper_registry::oci::Descriptor;
use cooper_registry::reference::ImageRef;
use tokio::runtime::Handle;

use super::Engine;

/// Reaches registries with the build's credentials.
#[derive(Debug)]
pub(crate) struct RemoteRegistries {
    pub(crate) engine: Engine,
    /// By registry host.
    pub(crate) credentials: BTreeMap<String, Credentials>,
    /// The runtime that drives the client's sockets; the builder's threads are outside of it.
    pub(crate) runtime: Handle,
}

impl RemoteRegistries {
    fn client(&self, name: &ImageRef) -> Result<(Client, Credentials), String> {
        let credentials = self.credentials.get(name.repo.domain()).cloned();
        let client = self.engine.client().map_err(|error| error.to_string())?;
        Ok((client, credentials.unwrap_or(Credentials::Anonymous)))
    }
}

impl Registries for RemoteRegistries {
    fn manifest(&self, name: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
        let (client, credentials) = self.client(name)?;
        self.runtime
            .block_on(client.fetch_manifest(name, credentials))
            .map_err(|error| error.to_string())
    }

    fn blob(&self, name: &ImageRef, descriptor: &Descriptor) -> Result<(), String> {
        let (client, credentials) = self.client(name)?;
        self.runtime
            .block_on(client.fetch_blob(name, descriptor, credentials))
            .map_err(|error| error.to_string())
    }

    fn push(
        &self,
        name: &ImageRef,
        manifest: &Digest,
        progress: &(dyn Fn(String) + Sync),
    ) -> Result<(), String> {
        let (client, credentials) = self.client(name)?;
        let exact = ImageRef {
            repo: name.repo.clone(),
            tag: name.tag_or_latest(),
            digest: Some(manifest.clone()),
        };
        progress(format!("pushing {}", name.familiar()));
        self.runtime
            .block_on(client.push(&exact, credentials, &|_| {}))
            .map(drop)
            .map_err(|error| error.to_string())
    }
}
