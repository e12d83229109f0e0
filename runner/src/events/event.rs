//! One event.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A container or an exec in it.
    Container,
    /// An image or a name of one.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// The build cache.
    Builder,
    /// An engine that listens on a socket.
    Daemon,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds since 1970. Never less than that of the event before it in the log.
    pub time: i64,
    /// What it is about.
    pub kind: EventKind,
    /// What happened, in Docker's words: `start`, `die`, `pull`.
    pub action: String,
    /// Id of the container, name of the image.
    pub id: String,
    /// More about it, in Docker's words: `image`, `name`, `exitCode`, labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event without attributes; [`super::EventLog::append`] sets the time.
    pub fn new(kind: EventKind, action: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            time: 0,
            kind,
            action: action.into(),
            id: id.into(),
            attributes: BTreeMap::new(),
        }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.attributes.insert(name.into(), value.to_string());
        self
    }

    /// The same with more attributes.
    #[must_use]
    pub fn with_all<'a>(mut self, attributes: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let pairs = attributes
            .into_iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        self.attributes.extend(pairs);
        self
    }
}
