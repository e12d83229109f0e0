//! Base images for builds: the local store first, a registry otherwise.

use std::collections::BTreeMap;

use cooper_builder::build::{BaseImages, Event};
use cooper_registry::client::{Credentials, Progress};
use cooper_registry::oci::{Descriptor, Platform};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{self, Image};
use tokio::runtime::Handle;

use super::Engine;

/// Pulls what is missing with the build's credentials.
pub(crate) struct PullingBases<'a> {
    pub(crate) engine: Engine,
    /// By registry host.
    pub(crate) credentials: BTreeMap<String, Credentials>,
    /// The runtime that drives the client's sockets; the builder's threads are outside of it.
    pub(crate) runtime: Handle,
    /// Where the progress of a pull goes.
    pub(crate) events: &'a (dyn Fn(Event) + Send + Sync),
}

impl BaseImages for PullingBases<'_> {
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
        let task = format!("pulling {}", name.familiar());
        let (send, reports) = std::sync::mpsc::channel();
        // Called while the runtime runs, where nothing may wait for a slow client.
        let report = move |progress| {
            if let Some(event) = event(&task, progress) {
                // The receiver outlives the pull.
                let _ = send.send(event);
            }
        };
        let pulled = std::thread::scope(|scope| {
            scope.spawn(|| reports.into_iter().for_each(self.events));
            // Takes the sender along, so that the reports end with the pull.
            self.runtime
                .block_on(async move { client.pull(name, platform, credentials, &report).await })
        });
        pulled.map_err(|error| format!("failed to pull {}: {error}", name.familiar()))?;
        (self.events)(Event::Progress {
            task: format!("pulling {}", name.familiar()),
            item: String::new(),
            status: "done".to_owned(),
            current: 0,
            total: 0,
        });
        store.image(&name.to_string()).map_err(|error| text(&error))
    }
}

/// A pull's report as an event; none for what is not worth a line.
fn event(task: &str, progress: Progress) -> Option<Event> {
    let (item, status, current, total) = match progress {
        Progress::Resolving => (String::new(), "resolving", 0, 0),
        Progress::Downloading { blob, done } => (short(&blob), "downloading", done, blob.size),
        Progress::Unpacking(blob) => (short(&blob), "unpacking", 0, 0),
        Progress::Done(blob) => (short(&blob), "done", blob.size, blob.size),
        _ => return None,
    };
    Some(Event::Progress {
        task: task.to_owned(),
        item,
        status: status.to_owned(),
        current,
        total,
    })
}

fn short(blob: &Descriptor) -> String {
    blob.digest.short().to_owned()
}
