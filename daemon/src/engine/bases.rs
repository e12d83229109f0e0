//! Base images for builds: the local store first, a registry otherwise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// How soon a pull notices that its build has ended.
const POLL: Duration = Duration::from_millis(20);

impl BaseImages for PullingBases<'_> {
    /// A local image that is for another platform is taken only if no registry has one for the right one, as Docker does.
    fn resolve(
        &self,
        name: &ImageRef,
        platform: &Platform,
        always_pull: bool,
        cancelled: &AtomicBool,
    ) -> Result<Image, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let store = self.engine.store().map_err(|error| text(&error))?;
        let find = || match store.image_for(&name.to_string(), platform) {
            Ok(image) => Ok(Some(image)),
            Err(store::Error::NoSuchImage(_) | store::Error::NotRunnable { .. }) => Ok(None),
            Err(error) => Err(text(&error)),
        };
        let local = find()?;
        let fits = local.as_ref().is_some_and(|image| is_for(image, platform));
        if let (Some(image), true, false) = (&local, fits, always_pull) {
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
        let told = task.clone();
        // Called while the runtime runs, where nothing may wait for a slow client.
        let report = move |progress| {
            if let Some(event) = event(&told, progress) {
                // The receiver outlives the pull.
                let _ = send.send(event);
            }
        };
        let pulled = std::thread::scope(|scope| {
            scope.spawn(|| reports.into_iter().for_each(self.events));
            // Takes the sender along, so that the reports end with the pull.
            self.runtime.block_on(async move {
                tokio::select! {
                    pulled = client.pull(name, platform, credentials, &report) => Some(pulled),
                    () = until(cancelled) => None,
                }
            })
        });
        match (pulled, local) {
            (None, _) => return Err("the build has ended".to_owned()),
            (Some(Ok(_)), _) => (self.events)(Event::Progress {
                task,
                item: String::new(),
                status: "done".to_owned(),
                current: 0,
                total: 0,
            }),
            // What is here is at least an image of that name.
            (Some(Err(_)), Some(image)) if !always_pull => return Ok(image),
            (Some(Err(error)), _) => return Err(format!("failed to pull {}: {error}", name.familiar())),
        }
        find()?.ok_or_else(|| format!("{} has no image for platform {platform}", name.familiar()))
    }
}

/// Whether an image says that it is for a platform, or does not say.
fn is_for(image: &Image, platform: &Platform) -> bool {
    let found = Platform {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        os_version: None,
        variant: None,
    };
    found.architecture.is_empty() || found.same_machine(platform)
}

async fn until(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(POLL).await;
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
