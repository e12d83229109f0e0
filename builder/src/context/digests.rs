//! Digests of context files remembered by what `stat` says, so that an unchanged context is not read again.
//!
//! Kept in the store's build cache, one record for a context directory, under the key `context/v1/<dev>-<ino>`. The value
//! begins with the line `v1`; then one line for a file: device, inode, size, modification and change time in nanoseconds,
//! and the digest, separated by blanks. A record that does not read like this is taken for empty. A file that changed
//! less than [`RACY`] before it was hashed is not remembered: it might change again without a new time.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cooper_registry::store::Store;
use rustix::fs::Stat;

use crate::build::{Error, IoContext as _};
use crate::tree::{DataDigest, Entry, RootHandle, hash_file};

/// Coarsest clock of a file system that is believed.
const RACY: Duration = Duration::from_secs(2);
/// Files remembered for one context.
const MAX_FILES: usize = 500_000;

type Identity = (u64, u64);
type Version = (i64, i128, i128);
type Known = HashMap<Identity, (Version, DataDigest)>;

/// The remembered digests of one context. Usable from several threads.
#[derive(Debug)]
pub(crate) struct DigestCache {
    key: String,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    known: Known,
    /// Files asked for in this build; only these are kept.
    used: Known,
    changed: bool,
}

impl DigestCache {
    /// Reads what is known about the context at `root`.
    pub(crate) fn load(store: &Store, root: &RootHandle) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(root).doing("look at the context directory")?;
        let key = format!("context/v1/{}-{}", stat.st_dev, stat.st_ino);
        let record = store.cache_get(&key)?;
        let known = record.and_then(|record| parse(&record.value)).unwrap_or_default();
        Ok(Self {
            key,
            files: Mutex::new(Files {
                known,
                ..Files::default()
            }),
        })
    }

    /// Digest of a regular file of the context, read only if it is not known.
    pub(crate) fn digest(&self, root: &RootHandle, entry: &Entry) -> Result<DataDigest, Error> {
        let (identity, asked) = ((entry.stat.st_dev, entry.stat.st_ino), version(&entry.stat));
        {
            let mut files = self.lock();
            // Moved, not copied: a context may have a hundred thousand files.
            let known = files.known.remove(&identity);
            let found = known.or_else(|| files.used.get(&identity).cloned());
            if let Some(found) = found.filter(|(known, _)| *known == asked) {
                let digest = found.1.clone();
                files.used.insert(identity, found);
                return Ok(digest);
            }
        }
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (digest, stat) = hash_file(root, entry)?;
        let age = i128::try_from(started.as_nanos()).unwrap_or(0) - version(&stat).2;
        let settled = age > i128::try_from(RACY.as_nanos()).unwrap_or(i128::MAX);
        if version(&stat) == asked && settled {
            let mut files = self.lock();
            files.used.insert(identity, (asked, digest.clone()));
            files.changed = true;
        }
        Ok(digest)
    }

    /// Writes what was learnt, if anything.
    pub(crate) fn save(&self, store: &Store) -> Result<(), Error> {
        let files = self.lock();
        if !files.changed || files.used.len() > MAX_FILES {
            return Ok(());
        }
        let mut text = String::from("v1\n");
        for ((dev, ino), ((size, modified, changed), digest)) in &files.used {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{dev} {ino} {size} {modified} {changed} {}", digest.0);
        }
        let description = format!("digests of {} context files", files.used.len());
        store.cache_put(&self.key, &description, text.as_bytes(), &[])?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(value: &[u8]) -> Option<Known> {
    let mut lines = std::str::from_utf8(value).ok()?.lines();
    if lines.next()? != "v1" {
        return None;
    }
    lines.take(MAX_FILES).map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(Identity, (Version, DataDigest))> {
    let mut fields = line.split(' ');
    let identity = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let version = (
        fields.next()?.parse().ok()?,
        fields.next()?.parse().ok()?,
        fields.next()?.parse().ok()?,
    );
    Some((identity, (version, DataDigest(fields.next()?.to_owned()))))
}

fn version(stat: &Stat) -> Version {
    let nanos = |seconds: i128, nanos: i128| seconds * 1_000_000_000 + nanos;
    (
        stat.st_size,
        nanos(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
        nanos(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_read() {
        for (text, expected) in [
            ("v1\n1 2 3 4 5 abc\n", Some(1)),
            ("v1\n", Some(0)),
            ("v2\n1 2 3 4 5 abc\n", None),
            ("v1\n1 2 3 4 abc\n", None),
            ("", None),
        ] {
            assert_eq!(
                parse(text.as_bytes()).map(|files| files.len()),
                expected,
                "{text:?}"
            );
        }
    }
}
