//! Getting an instance for a RUN.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::directory::CacheMounts;
use super::identity::MountIdentity;
use super::lock::Lock;
use crate::build::Error;

/// How soon a waiting build gets a freed mount, or notices that it is cancelled.
const POLL: Duration = Duration::from_millis(20);

/// `sharing=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Any number of users at the same time.
    #[default]
    Shared,
    /// One user; another one at the same time gets an instance of its own.
    Private,
    /// One user; another one waits.
    Locked,
}

/// A cache mount in use.
#[derive(Debug)]
pub(crate) struct CacheMount {
    dir: PathBuf,
    lock: Lock,
}

impl CacheMount {
    pub(super) fn new(dir: PathBuf, lock: Lock) -> Self {
        lock.touch();
        Self { dir, lock }
    }

    /// The contents.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for CacheMount {
    fn drop(&mut self) {
        self.lock.touch();
    }
}

/// What [`CacheMounts::choose`] found.
enum Choice {
    Mine(CacheMount),
    /// All instances are in use.
    Busy,
    Missing,
}

impl CacheMounts {
    /// An instance of the mount for one user.
    ///
    /// As BuildKit: the first one that can be had; where there is none, or none is free and `sharing` does not wait, a
    /// new one. `fill` makes the path it is given, a directory or a file, with the contents to begin with.
    pub(crate) fn acquire(
        &self,
        identity: &MountIdentity,
        sharing: Sharing,
        fill: &dyn Fn(&Path) -> Result<(), Error>,
        cancelled: &AtomicBool,
    ) -> Result<CacheMount, Error> {
        let key = identity.key();
        loop {
            let choice = {
                let _lock = self.lock()?;
                self.choose(&key, sharing)?
            };
            match choice {
                Choice::Mine(mount) => return Ok(mount),
                Choice::Busy if sharing == Sharing::Locked => {}
                Choice::Busy | Choice::Missing => {
                    let (scratch, held) = self.scratch()?;
                    let filled = fill(&scratch.join("data"));
                    let published = filled.and_then(|()| self.publish(identity, sharing, &scratch, held));
                    if let Some(mount) =
                        published.inspect_err(|_| drop(super::directory::remove(&scratch)))?
                    {
                        return Ok(mount);
                    }
                    super::directory::remove(&scratch)?;
                }
            }
            if cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(POLL);
        }
    }

    /// The caller holds the lock.
    fn choose(&self, key: &str, sharing: Sharing) -> Result<Choice, Error> {
        let mut choice = Choice::Missing;
        for number in self.instances(key)? {
            let dir = self.mount(key).join(number.to_string());
            match Lock::attempt(&dir.join("lock"), sharing == Sharing::Shared)? {
                Some(lock) => return Ok(Choice::Mine(CacheMount::new(dir, lock))),
                None => choice = Choice::Busy,
            }
        }
        Ok(choice)
    }

    /// Makes a filled instance visible, unless another one can be had by now; none if one has to be waited for.
    fn publish(
        &self,
        identity: &MountIdentity,
        sharing: Sharing,
        scratch: &Path,
        held: Lock,
    ) -> Result<Option<CacheMount>, Error> {
        let _lock = self.lock()?;
        match self.choose(&identity.key(), sharing)? {
            Choice::Mine(mount) => {
                drop(held);
                super::directory::remove(scratch)?;
                return Ok(Some(mount));
            }
            Choice::Busy if sharing == Sharing::Locked => return Ok(None),
            Choice::Busy | Choice::Missing => {}
        }
        let dir = self.place(identity, scratch)?;
        if sharing == Sharing::Shared {
            held.share(&dir)?;
        }
        Ok(Some(CacheMount::new(dir, held)))
    }

    /// Renames a complete instance to its place. The caller holds the lock.
    pub(super) fn place(&self, identity: &MountIdentity, scratch: &Path) -> Result<PathBuf, Error> {
        let mount = self.make_mount(identity)?;
        let taken = self.instances(&identity.key())?;
        let number = (0..).find(|number| !taken.contains(number));
        let dir = mount.join(number.unwrap_or(u32::MAX).to_string());
        fs::rename(scratch, &dir).map_err(|error| Error::io(&dir, &error))?;
        Ok(dir)
    }
}
