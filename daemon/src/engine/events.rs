//! Telling the event log what this engine does. What supervisors and the runner do, they tell themselves.

use std::collections::BTreeMap;

use cooper_registry::digest::Digest;
use cooper_registry::reference::ImageRef;
use cooper_runner::events::{Event, EventKind};

use super::Engine;
use crate::api;

/// Attributes of a container's events, as the file that the runner reads.
pub(crate) fn attributes(config: &api::ContainerConfig) -> BTreeMap<String, String> {
    let mut attributes = config.labels.clone();
    attributes.insert("image".to_owned(), config.image.clone());
    attributes
}

impl Engine {
    /// Appends an event to the log. What was done is done, so a log that cannot be written is no failure of it.
    pub(crate) fn tell(&self, event: Event) {
        let written = match self.containers() {
            Ok(containers) => containers.events().append(event),
            Err(error) => return tracing::warn!(%error, "an event is lost"),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "an event is lost");
        }
    }

    /// An event of an image that was named: its id is the name, as Docker has it for pull and push.
    pub(crate) fn tell_named(&self, action: &str, name: &ImageRef) {
        let repository = name.repo.familiar();
        self.tell(Event::new(EventKind::Image, action, name.familiar()).with("name", repository));
    }

    /// An event of an image by its id, with the name it is about.
    pub(crate) fn tell_image(&self, action: &str, id: &Digest, name: Option<&ImageRef>) {
        let name = name.map_or_else(|| id.to_string(), ImageRef::familiar);
        self.tell(Event::new(EventKind::Image, action, id.to_string()).with("name", name));
    }
}
