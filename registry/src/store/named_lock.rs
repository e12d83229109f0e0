//! Locks with names, so that work that two builders would do at once is done once.

use std::fs;

use super::error::{Error, IoContext, Result};
use super::handle::Store;
use super::lock::FileLock;

const PREFIX: &str = "step-";

/// A held lock, released on drop and, by the kernel, when its process dies.
#[derive(Debug)]
pub struct NamedLock(Option<FileLock>);

impl Drop for NamedLock {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(FileLock::remove) {
            // It is free all the same; the next sweep finds the file.
            tracing::debug!(%error, "a lock file could not be removed");
        }
    }
}

impl Store {
    /// The lock `locks/step-<name>` if nobody holds it now, in any process. `name` has letters, digits and `-`.
    pub fn try_lock(&self, name: &str) -> Result<Option<NamedLock>> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain || name.is_empty() || name.len() > 128 {
            return Err(Error::Damaged(format!("{name:?} is no name for a lock")));
        }
        let path = self.inner.layout.dir("locks").join(format!("{PREFIX}{name}"));
        Ok(FileLock::try_exclusive(&path)?.map(|lock| NamedLock(Some(lock))))
    }

    /// Removes the files that holders left who died. A collection does this too.
    pub fn sweep_named_locks(&self) -> Result<()> {
        let dir = self.inner.layout.dir("locks");
        for entry in fs::read_dir(&dir).at(&dir)? {
            let entry = entry.at(&dir)?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
                && let Some(lock) = FileLock::try_existing(&entry.path())?
            {
                lock.remove()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_once_and_left_by_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let files = || {
            let entries = fs::read_dir(store.root().join("locks")).unwrap();
            entries
                .filter(|e| e.as_ref().unwrap().file_name() != "gc")
                .count()
        };
        let held = store.try_lock("a").unwrap().unwrap();
        assert!(store.try_lock("a").unwrap().is_none());
        assert!(store.try_lock("b").unwrap().is_some());
        fs::write(store.root().join("locks/step-dead"), "").unwrap();
        store.sweep_named_locks().unwrap();
        assert_eq!(files(), 1);
        assert!(store.try_lock("a").unwrap().is_none());
        drop(held);
        assert_eq!(files(), 0);
        assert!(store.try_lock("../a").is_err());
    }
}
