//! One execution for equal steps of builds that run at the same time, in any process.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open};
use rustix::io::Errno;

use super::key::Key;
use crate::build::{Error, IoContext as _};

const POLL: Duration = Duration::from_millis(20);

/// The right to execute a step: a locked file `<exec_root>/build/locks/<key>`, removed on drop. The kernel frees the lock of a
/// process that dies; the file it leaves is taken over by the next one.
#[derive(Debug)]
pub(crate) struct Flight {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Flight {
    /// Waits until no other execution of `key` is going on.
    pub(crate) fn board(exec_root: &Path, key: &Key, cancelled: &AtomicBool) -> Result<Self, Error> {
        let dir = exec_root.join("build/locks");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| Error::io(&dir, &error))?;
        let path = dir.join(key.name().replace('/', "-"));
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let lock = open(&path, flags, Mode::RUSR | Mode::WUSR).at(&path)?;
            loop {
                match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => break,
                    Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                    Err(errno) => return Err(errno).at(&path),
                }
                if cancelled.load(Ordering::Relaxed) {
                    return Err(Error::Cancelled);
                }
                std::thread::sleep(POLL);
            }
            // The holder removed the file before it let go: the lock is on a file nobody else can see.
            if fstat(&lock).at(&path)?.st_nlink > 0 {
                return Ok(Self { path, _lock: lock });
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a build lock could not be removed");
        }
    }
}
