//! One execution for equal steps of builds that run at the same time, in any process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cooper_registry::store::{NamedLock, Store};

use crate::build::Error;

/// How soon a waiting step notices that the other one ended: often at first, for steps that take no time.
const FIRST_POLL: Duration = Duration::from_millis(1);
const LAST_POLL: Duration = Duration::from_millis(10);

/// Waits until no build executes the key with this hash, and takes its place. The store is where builds meet, so it does not
/// matter in which process or with which run-time directory they work. Who dies while he holds the lock lets the next one
/// go on; who is cancelled, too.
pub(crate) fn board(store: &Store, hash: &str, cancelled: &AtomicBool) -> Result<NamedLock, Error> {
    let mut poll = FIRST_POLL;
    loop {
        if let Some(lock) = store.try_lock(hash)? {
            return Ok(lock);
        }
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        std::thread::sleep(poll);
        poll = (poll * 2).min(LAST_POLL);
    }
}
