//! Progress reports.

use std::time::{Duration, Instant};

use crate::oci::Descriptor;

/// Byte counts are reported at most this often for each blob.
const INTERVAL: Duration = Duration::from_millis(100);

/// Progress of one blob or of the whole.
#[derive(Debug, Clone)]
pub enum Progress {
    /// The reference is being looked up.
    Resolving,
    /// The blob will be downloaded, or looked for on the other side.
    Waiting(Descriptor),
    /// The blob is where it should be already.
    Exists(Descriptor),
    /// The blob is being downloaded; at most ten times a second for each blob, and once at its end.
    Downloading {
        /// The blob.
        blob: Descriptor,
        /// Bytes so far.
        done: u64,
    },
    /// The layer is being unpacked (reported by those who unpack).
    Unpacking(Descriptor),
    /// The blob is complete and verified.
    Done(Descriptor),
    /// The blob is being uploaded; at most ten times a second for each blob, and once at its end.
    Uploading {
        /// The blob.
        blob: Descriptor,
        /// Bytes so far.
        done: u64,
    },
    /// The blob was mounted from another repository of the registry.
    Mounted(Descriptor),
    /// The blob or manifest is on the registry.
    Pushed(Descriptor),
    /// Something worth telling a person.
    Note(String),
}

/// Where progress goes.
pub(super) type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Decides which byte counts are worth a report.
#[derive(Debug)]
pub(super) struct Throttle {
    last: Option<Instant>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { last: None }
    }

    /// Whether to report now; always when `last`.
    pub(super) fn due(&mut self, last: bool) -> bool {
        let now = Instant::now();
        let due = last || self.last.is_none_or(|then| now.duration_since(then) >= INTERVAL);
        if due {
            self.last = Some(now);
        }
        due
    }
}
