//! Overlay mounts that no namespace sees, used through their handle and gone when it is closed.

use std::path::{Path, PathBuf};

use cooper_runner::overlay::Overlay;

use super::entry::RootHandle;
use crate::build::Error;

/// Mounts `lowers` (top first) read-only. `empty` is an empty directory.
pub(crate) fn mount_readonly(lowers: &[PathBuf], empty: &Path) -> Result<RootHandle, Error> {
    let overlay = Overlay {
        lowers,
        upper: None,
        empty,
        volatile: true,
        inert: true,
    };
    Ok(RootHandle::new(overlay.mount_detached()?))
}
