//! Room kept so that things can be deleted on a full disk.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FallocateFlags, fallocate};

use super::error::{Error, Result};
use super::handle::Store;
use super::layout::Layout;

/// Deleting writes the changed pages of the index to its log before any space becomes free.
const BYTES: u64 = 1 << 20;

impl Store {
    /// Runs something that deletes; if the disk is full, once more with the reserve given up.
    pub(super) fn freeing<T>(&self, delete: impl Fn() -> Result<T>) -> Result<T> {
        let layout = &self.inner.layout;
        let result = match delete() {
            Err(error) if error.is_no_space() && give_up(layout)? => delete(),
            other => other,
        };
        renew(layout);
        result
    }
}

/// Whether there was a reserve.
fn give_up(layout: &Layout) -> Result<bool> {
    let path = layout.reserve();
    match fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path, error)),
        Ok(()) => Ok(true),
    }
}

/// Makes the reserve if it is missing and there is room for it. The next deletion tries again.
pub(super) fn renew(layout: &Layout) {
    let path = layout.reserve();
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    if let Ok(file) = made
        && let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, BYTES)
    {
        tracing::debug!(path = %path.display(), %error, "no room for a reserve");
        let _ = fs::remove_file(&path);
    }
}
