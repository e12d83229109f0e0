//! Builds that this engine runs now, so that they can be cancelled.
//!
//! This is state of requests in progress, not of the engine: a build ends with its process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// All of them.
#[derive(Debug)]
pub(crate) struct Builds {
    running: Mutex<Running>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    builds: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// What the client calls it.
    name: Option<String>,
    cancelled: Arc<AtomicBool>,
}

impl Default for Builds {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }
}

/// One build; it is running for as long as this lives.
#[derive(Debug)]
pub(crate) struct Build {
    builds: Arc<Builds>,
    number: u64,
    cancelled: Arc<AtomicBool>,
}

impl Builds {
    /// A build begins; `name` is what `POST /build/cancel` will know it by.
    pub(crate) fn begin(self: &Arc<Self>, name: Option<&str>) -> Build {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut running = self.lock();
        running.next += 1;
        let number = running.next;
        let entry = Entry {
            name: name.map(str::to_owned),
            cancelled: cancelled.clone(),
        };
        running.builds.insert(number, entry);
        self.count.send_replace(running.builds.len());
        Build {
            builds: self.clone(),
            number,
            cancelled,
        }
    }

    /// Cancels the builds of that name, or all. They end soon after.
    pub(crate) fn cancel(&self, name: Option<&str>) {
        for entry in self.lock().builds.values() {
            if name.is_none() || entry.name.as_deref() == name {
                entry.cancelled.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Completes when no build is running.
    pub(crate) async fn ended(&self) {
        // The sender is `self`, so it cannot have gone.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Build {
    /// Set when the build is to end.
    pub(crate) fn cancelled(&self) -> &Arc<AtomicBool> {
        &self.cancelled
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        let mut running = self.builds.lock();
        running.builds.remove(&self.number);
        self.builds.count.send_replace(running.builds.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn builds_are_cancelled_by_name() {
        let builds = Arc::new(Builds::default());
        builds.ended().await;
        let (one, two) = (builds.begin(Some("one")), builds.begin(None));
        let cancelled = |build: &Build| build.cancelled().load(Ordering::Relaxed);
        builds.cancel(Some("other"));
        assert_eq!((cancelled(&one), cancelled(&two)), (false, false));
        builds.cancel(Some("one"));
        assert_eq!((cancelled(&one), cancelled(&two)), (true, false));
        builds.cancel(None);
        assert!(cancelled(&two));
        drop(one);
        let waiting = tokio::spawn({
            let builds = builds.clone();
            async move { builds.ended().await }
        });
        drop(two);
        waiting.await.unwrap();
    }
}
