//! flock(2) of whole files.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, flock, futimens, open};
use rustix::io::Errno;

use crate::build::{Error, IoContext as _};

/// A locked file; the kernel frees the lock with the last descriptor.
#[derive(Debug)]
pub(super) struct Lock(OwnedFd);

impl Lock {
    fn open(path: &Path) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        open(path, flags, Mode::RUSR | Mode::WUSR).at(path)
    }

    /// Waits for the file's exclusive lock.
    pub(super) fn wait(path: &Path) -> Result<Self, Error> {
        let file = Self::open(path)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).at(path)?;
        Ok(Self(file))
    }

    /// The exclusive lock, or the shared one, unless somebody is in the way.
    pub(super) fn attempt(path: &Path, shared: bool) -> Result<Option<Self>, Error> {
        let file = Self::open(path)?;
        let operation = if shared {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        match rustix::io::retry_on_intr(|| flock(&file, operation)) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).at(path),
        }
    }

    /// Lets others share. Nobody can come between while the caller holds the directory's lock.
    pub(super) fn share(&self, path: &Path) -> Result<(), Error> {
        rustix::io::retry_on_intr(|| flock(&self.0, FlockOperation::LockShared)).at(path)
    }

    /// Notes the time.
    pub(super) fn touch(&self) {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        if let Err(errno) = futimens(&self.0, &times) {
            tracing::debug!(%errno, "the last use of a cache mount could not be noted");
        }
    }
}
