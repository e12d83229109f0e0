//! Directories that a step writes into: made where missing, and their times put right afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, fchown, futimens, mkdirat};
use rustix::io::Errno;

use super::entry::RootHandle;
use super::owner::Owner;
use crate::build::{Error, IoContext as _};

/// Times of directories to set once nothing is written into them any more.
///
/// A directory that was there keeps its time, so that a layer depends on what was copied and not on when.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// None: a directory made here that keeps the time of its making.
    times: BTreeMap<PathBuf, Option<Timespec>>,
}

impl Touched {
    /// Must be called before an entry is added to or removed from the existing directory `real`.
    pub(crate) fn touch(&mut self, root: &RootHandle, real: &Path) -> Result<(), Error> {
        if !self.times.contains_key(real) {
            let stat = root.stat(real).at(real)?;
            self.times.insert(real.to_owned(), Some(modified(&stat)));
        }
        Ok(())
    }

    /// The directory `real` shall have this time in the end.
    pub(crate) fn set(&mut self, real: PathBuf, time: Timespec) {
        self.times.insert(real, Some(time));
    }

    /// Makes `real` (free of links) and its missing parents with `mode` and `owner`.
    pub(crate) fn make_dirs(
        &mut self,
        root: &RootHandle,
        real: &Path,
        mode: u32,
        owner: Owner,
    ) -> Result<(), Error> {
        let mut path = PathBuf::new();
        for part in real {
            let parent = path.clone();
            path.push(part);
            match root.open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).at(&path),
            }
            self.touch(root, &parent)?;
            let fd = root.open_dir(&parent).at(&parent)?;
            mkdirat(&fd, part, Mode::RWXU).at(&path)?;
            let made = root.open_dir(&path).at(&path)?;
            fchown(&made, Some(owner.uid()), Some(owner.gid())).at(&path)?;
            fchmod(&made, Mode::from_raw_mode(mode)).at(&path)?;
            self.times.insert(path.clone(), None);
        }
        Ok(())
    }

    /// Sets the times, children before their parents.
    pub(crate) fn finish(self, root: &RootHandle) -> Result<(), Error> {
        for (real, time) in self.times.iter().rev() {
            let Some(time) = time else { continue };
            let fd = root.open_dir(real).at(real)?;
            futimens(&fd, &only_modified(*time)).at(real)?;
        }
        Ok(())
    }
}

/// Time of last modification.
pub(super) fn modified(stat: &rustix::fs::Stat) -> Timespec {
    #[expect(
        clippy::cast_possible_wrap,
        reason = "nanoseconds are below 10^9; the field's sign differs by platform"
    )]
    Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as i64,
    }
}

pub(crate) fn only_modified(time: Timespec) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: time,
    }
}
