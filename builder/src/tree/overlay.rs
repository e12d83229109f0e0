//! Overlay mounts that no namespace sees, used through their handle and gone when it is closed.

use std::path::{Path, PathBuf};

use cooper_runner::overlay::Overlay;

use super::entry::RootHandle;
use crate::build::Error;

/// Mounts `lowers` (top first) below a writable `upper` with its `work` directory. `empty` is an empty directory.
pub(crate) fn mount_writable(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    empty: &Path,
) -> Result<RootHandle, Error> {
    mount(lowers, Some((upper, work)), empty)
}

/// Mounts `lowers` (top first) read-only.
pub(crate) fn mount_readonly(lowers: &[PathBuf], empty: &Path) -> Result<RootHandle, Error> {
    mount(lowers, None, empty)
}

fn mount(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, empty: &Path) -> Result<RootHandle, Error> {
    let overlay = Overlay {
        lowers,
        upper,
        empty,
        // Durability is the store's business when it commits the upper directory.
        volatile: true,
        inert: true,
    };
    Ok(RootHandle::new(overlay.mount_detached()?))
}
