//! Telling the event log what happens to containers. A log that cannot be written stops nothing.

use std::collections::BTreeMap;
use std::path::Path;

use super::containers::Containers;
use super::layout::{Layout, read_json};
use crate::events::{Event, EventKind, EventLog};

/// File of the engine in a container's directory: attributes of its events, as a JSON object of strings.
pub const ATTRIBUTES_FILE: &str = "attributes.json";

/// A container as its events show it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    id: String,
    attributes: BTreeMap<String, String>,
}

impl Subject {
    /// Reads what the engine wrote, and the present name.
    pub(crate) fn read(layout: &Layout, id: &str) -> Self {
        let mut attributes: BTreeMap<String, String> =
            read_json(&layout.dir.join(ATTRIBUTES_FILE)).unwrap_or_default();
        if let Ok(name) = layout.read_name() {
            attributes.insert("name".to_owned(), name);
        }
        Self {
            id: id.to_owned(),
            attributes,
        }
    }

    /// Appends an event of the container to the log of `data`.
    pub(crate) fn tell(&self, data: &Path, action: &str, more: &[(&str, String)]) {
        let event = Event::new(EventKind::Container, action, &self.id).with_all(&self.attributes);
        let event = more
            .iter()
            .fold(event, |event, (name, value)| event.with(*name, value));
        let _ = EventLog::new(data).append(event);
    }
}

impl Containers {
    /// The log of what happens in this data root.
    #[must_use]
    pub fn events(&self) -> EventLog {
        EventLog::new(&self.data)
    }

    /// Appends an event of a container to the log, with its attributes and `more`.
    pub fn tell(&self, id: &str, action: &str, more: &[(&str, String)]) {
        Subject::read(&Layout::of_dir(&self.dir(id)), id).tell(&self.data, action, more);
    }
}
