//! Lock files (flock): released by the kernel when their holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{Error, IoContext, Result};

/// A held lock. The file may be removed only by who holds it exclusively; a waiter notices that and tries again.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
    TryExclusive,
}

impl FileLock {
    /// Waits for a lock that others may share.
    pub(super) fn shared(path: &Path) -> Result<Self> {
        Self::acquire(path, Mode::Shared).map(|lock| lock.expect("a waiting lock is acquired or fails"))
    }

    /// Waits for the lock.
    pub(super) fn exclusive(path: &Path) -> Result<Self> {
        Self::acquire(path, Mode::Exclusive).map(|lock| lock.expect("a waiting lock is acquired or fails"))
    }

    /// The lock if nobody holds it now.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        Self::acquire(path, Mode::TryExclusive)
    }

    /// The same, without making the file: none if there is none.
    pub(super) fn try_existing(path: &Path) -> Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at(path)?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(Error::io(path, error)),
        }
        Ok(same_file(&file, path)?.then(|| Self {
            _file: file,
            path: path.to_owned(),
        }))
    }

    fn acquire(path: &Path, mode: Mode) -> Result<Option<Self>> {
        loop {
            let open = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path);
            let file = open.at(path)?;
            match mode {
                Mode::Shared => file.lock_shared().at(path)?,
                Mode::Exclusive => file.lock().at(path)?,
                Mode::TryExclusive => match file.try_lock() {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => return Ok(None),
                    Err(TryLockError::Error(error)) => return Err(Error::io(path, error)),
                },
            }
            if same_file(&file, path)? {
                return Ok(Some(Self {
                    _file: file,
                    path: path.to_owned(),
                }));
            }
        }
    }

    /// Removes the file, then releases. Only sensible with the exclusive lock.
    pub(super) fn remove(self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.path, error)),
            _ => Ok(()),
        }
    }
}

/// Whether `path` still names the open `file`.
pub(super) fn same_file(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().at(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path, error)),
    }
}
