//! Digests of context files remembered by what `stat` says, so that an unchanged context is not read again.
//!
//! Kept as a note of the store, one for a context directory: `context-<dev>-<ino>`, in the form of the `stat_table` module.
//! One that does not read like this is taken for empty. A file that changed less than [`RACY`] before it was hashed is not
//! remembered: it might change again without a new time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cooper_registry::store::Store;
use rustix::fs::Stat;

use super::stat_table::{Row, Table, Version};
use crate::build::{Error, IoContext as _};
use crate::tree::{DataDigest, Entry, RootHandle, hash_file};

/// Coarsest clock of a file system that is believed.
const RACY: Duration = Duration::from_secs(2);
/// Files remembered for one context.
const MAX_FILES: usize = 800_000;

/// The remembered digests of one context. Usable from several threads.
#[derive(Debug)]
pub(crate) struct DigestCache {
    note: String,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    known: Table,
    /// Which of the known ones this build has asked for.
    used: Vec<bool>,
    /// Row after the last one that was found: files are mostly asked for in the order of their inodes.
    next: usize,
    learnt: Vec<Row>,
}

impl DigestCache {
    /// Reads what is known about the context at `root`.
    pub(crate) fn load(store: &Store, root: &RootHandle) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(root).doing("look at the context directory")?;
        let note = format!("context-{}-{}", stat.st_dev, stat.st_ino);
        let known = store.note(&note)?.and_then(Table::decode).unwrap_or_default();
        Ok(Self {
            note,
            files: Mutex::new(Files {
                used: vec![false; known.len()],
                known,
                ..Files::default()
            }),
        })
    }

    /// Digest of a regular file of the context, read only if it is not known.
    pub(crate) fn digest(&self, root: &RootHandle, entry: &Entry) -> Result<DataDigest, Error> {
        let asked = version(&entry.stat);
        if let Some(digest) = self.lock().find(&asked) {
            return Ok(digest);
        }
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (digest, stat) = hash_file(root, entry)?;
        let started = i64::try_from(started.as_nanos()).unwrap_or(0);
        let racy = i64::try_from(RACY.as_nanos()).unwrap_or(i64::MAX);
        let settled = started.saturating_sub(version(&stat).changed) > racy;
        if version(&stat) == asked && settled {
            let row = Row::new(asked, &digest.0);
            self.lock().learnt.extend(row);
        }
        Ok(digest)
    }

    /// Writes what was learnt, if anything. What other builds of this context asked for is kept while it is not more than
    /// what this one did.
    pub(crate) fn save(&self, store: &Store) -> Result<(), Error> {
        let mut files = self.lock();
        if files.learnt.is_empty() {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut files.learnt);
        let used = files.used.iter().filter(|used| **used).count() + rows.len();
        let unused = files.known.len().saturating_sub(used);
        let keep_unused = unused <= used + 10_000 && files.known.len() + rows.len() <= MAX_FILES;
        rows.extend(
            (0..files.known.len())
                .filter(|&at| files.used[at] || keep_unused)
                .map(|at| files.known.row(at)),
        );
        rows.truncate(MAX_FILES);
        // The rows learnt now stand before those of the same file that were known.
        store.put_note(&self.note, &Table::encode(rows))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn find(&mut self, asked: &Version) -> Option<DataDigest> {
        if let Some(at) = self.known.find(asked, self.next) {
            self.next = at + 1;
            self.used[at] = true;
            return Some(DataDigest(self.known.digest(at)));
        }
        // Files with several names, and those that several instructions copy.
        let row = self
            .learnt
            .iter()
            .rev()
            .take(64)
            .find(|row| row.version == *asked)?;
        Some(DataDigest(row.digest()))
    }
}

fn version(stat: &Stat) -> Version {
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Version {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: nanos(stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or(0)),
        changed: nanos(stat.st_ctime, stat.st_ctime_nsec.try_into().unwrap_or(0)),
    }
}
