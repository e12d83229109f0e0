//! Registries for builds: results are pushed and caches fetched with the build's credentials.

use std::collections::BTreeMap;

use cooper_builder::build::Registries;
use cooper_registry::client::{Client, Credentials, Progress};
use cooper_registry::digest::Digest;
use cooper_registry::oci::Descriptor;
use cooper_registry::reference::ImageRef;
use tokio::runtime::Handle;

use super::Engine;

/// Pushes to and fetches from registries.
#[derive(Debug)]
pub(crate) struct ClientRegistries {
    pub(crate) engine: Engine,
    /// By registry host.
    pub(crate) credentials: BTreeMap<String, Credentials>,
    /// The runtime that drives the client's sockets; the builder's threads are outside of it.
    pub(crate) runtime: Handle,
}

impl ClientRegistries {
    fn client(&self, name: &ImageRef) -> Result<(Client, Credentials), String> {
        let credentials = self.credentials.get(name.repo.domain()).cloned();
        let client = self.engine.client().map_err(|error| error.to_string())?;
        Ok((client, credentials.unwrap_or(Credentials::Anonymous)))
    }
}

impl Registries for ClientRegistries {
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
        let wanted = ImageRef {
            digest: Some(manifest.clone()),
            ..name.clone()
        };
        let (send, lines) = std::sync::mpsc::channel();
        // Called while the runtime runs, where nothing may wait for a slow client.
        let report = move |event: Progress| {
            if let Some(line) = line(&event) {
                // The receiver outlives the push.
                let _ = send.send(line);
            }
        };
        let wanted = &wanted;
        let result = std::thread::scope(|scope| {
            scope.spawn(|| lines.into_iter().for_each(progress));
            // Takes the sender along, so that the lines end with the push.
            self.runtime
                .block_on(async move { client.push(wanted, credentials, &report).await })
        });
        let pushed = result.map_err(|error| format!("failed to push {}: {error}", name.familiar()))?;
        progress(format!("pushed {} {}\n", name.familiar(), pushed.digest));
        Ok(())
    }
}

/// What is worth a line; byte counts are not.
fn line(event: &Progress) -> Option<String> {
    let (what, blob) = match event {
        Progress::Exists(blob) => ("exists", blob),
        Progress::Mounted(blob) => ("mounted", blob),
        Progress::Pushed(blob) => ("pushed", blob),
        Progress::Note(text) => return Some(format!("{text}\n")),
        _ => return None,
    };
    Some(format!("{what} {} {} bytes\n", blob.digest, blob.size))
}
