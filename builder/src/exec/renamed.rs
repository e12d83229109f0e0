//! A file that was renamed before it was copied under the same name as before.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::attempt::Attempt;
use super::context::RootFs;
use super::copy;
use crate::build::Error;
use crate::cache::{Key, look_up};
use crate::plan::CopyAction;
use crate::tree::RootHandle;

/// The key of a single file whose own name does not matter because the destination is no directory: one that was renamed
/// is found under it.
pub(super) struct Renamed {
    pub(super) key: Key,
    /// Destination, relative to the root.
    dest: PathBuf,
}

impl Renamed {
    pub(super) fn new(action: &CopyAction, sources: &copy::Sources, key: &Key) -> Option<Self> {
        let named = action.parents || action.dest.ends_with('/');
        let plain = !named && !action.unpack && action.files.is_empty();
        (plain && sources.is_single_file()).then(|| Self {
            key: key.without("COPY as", &["step", "source", "name"]),
            dest: Path::new(action.dest.trim_start_matches('/')).to_owned(),
        })
    }

    /// Records the result of the key with hash `full` under this one, too, if the file has indeed the destination's name.
    pub(super) fn remember(&self, attempt: Attempt<'_>, rootfs: &RootFs, full: &str) -> Result<(), Error> {
        let environment = attempt.environment;
        let (Some(layer), Some(tree)) = (rootfs.layers.last(), rootfs.lowers.first()) else {
            return Ok(());
        };
        let (diff_id, Some(created)) = (&layer.diff_id, &layer.created) else {
            return Ok(());
        };
        let made = RootHandle::open_host(tree)?.stat(&self.dest);
        let is_file = made.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory);
        // Not where the result itself was not kept.
        let kept = look_up(environment.store, environment.lease, full)?;
        if is_file && kept.is_some_and(|kept| kept.layer.diff_id == *diff_id) {
            attempt.remember(&self.key, diff_id, created, Some(full))?;
        }
        Ok(())
    }
}
