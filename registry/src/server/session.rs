//! Upload sessions: suspended ingests, named in URLs in a way that binds them to their repository.
//!
//! A session's URL name is `<ingest id>.<check>`, where the check is a hash of the unguessable id and the repository.
//! So a session can be continued by any process on the store, and only through the repository it was opened in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;
use crate::reference::RepoName;
use crate::store::{self, Ingest, Store};

/// The sessions that requests of this process are writing to, with their offsets.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

/// A session held for writing; released when dropped.
#[derive(Debug)]
pub(super) struct Held {
    busy: Busy,
    id: String,
    /// Bytes really stored so far.
    pub(super) offset: Arc<AtomicU64>,
}

/// What taking a session for writing gives.
pub(super) enum Taken {
    /// It is ours until the [`Held`] is dropped.
    Ours(Box<Ingest>, Held),
    /// Someone else is writing to it; its offset at this moment.
    Busy(u64),
    /// There is no such session.
    Unknown,
}

/// The name of the session of ingest `id` in URLs of `repo`.
pub(super) fn url_name(id: &str, repo: &RepoName) -> String {
    format!("{id}.{}", check(id, repo))
}

/// The ingest id behind a session name, if the name belongs to `repo`.
pub(super) fn ingest_id<'a>(name: &'a str, repo: &RepoName) -> Option<&'a str> {
    let (id, found) = name.rsplit_once('.')?;
    let harmless = !id.is_empty()
        && id.len() <= 128
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (harmless && found == check(id, repo)).then_some(id)
}

fn check(id: &str, repo: &RepoName) -> String {
    Digest::sha256(format!("{repo}\n{id}").as_bytes()).hex()[..16].to_owned()
}

impl Busy {
    /// Marks an ingest as being written to by this process.
    pub(super) fn hold(&self, ingest: &Ingest) -> Held {
        let offset = Arc::new(AtomicU64::new(ingest.len()));
        let id = ingest.id().to_owned();
        self.map().insert(id.clone(), Arc::clone(&offset));
        Held {
            busy: self.clone(),
            id,
            offset,
        }
    }

    /// Takes the session for writing. Blocking.
    pub(super) fn take(&self, store: &Store, id: &str) -> store::Result<Taken> {
        if let Some(offset) = self.offset(id) {
            return Ok(Taken::Busy(offset));
        }
        Ok(match store.resume_ingest(id)? {
            Some(ingest) => {
                let held = self.hold(&ingest);
                Taken::Ours(Box::new(ingest), held)
            }
            // Held by another process, or by a request of this one that has not said so yet.
            None => stored(store, id)?.map_or(Taken::Unknown, Taken::Busy),
        })
    }

    /// How far a session is, without taking it: a writer that comes at the same moment is not turned away. Blocking.
    pub(super) fn standing(&self, store: &Store, id: &str) -> store::Result<Option<u64>> {
        match self.offset(id) {
            Some(offset) => Ok(Some(offset)),
            None => stored(store, id),
        }
    }

    fn offset(&self, id: &str) -> Option<u64> {
        self.map().get(id).map(|offset| offset.load(Ordering::Relaxed))
    }

    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<AtomicU64>>> {
        // Each change of the map is a single insert or remove: a panic cannot leave it half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of an ingest, whoever holds it: ingests are written without buffers to `ingest/<id>`.
fn stored(store: &Store, id: &str) -> store::Result<Option<u64>> {
    let path = store.root().join("ingest").join(id);
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(store::Error::Io { path, source }),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.busy.map().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bound_to_their_repository() {
        let demo: RepoName = "demo".parse().unwrap();
        let other: RepoName = "other".parse().unwrap();
        let name = url_name("abc-1_2", &demo);
        assert_eq!(ingest_id(&name, &demo), Some("abc-1_2"));
        assert_eq!(ingest_id(&name, &other), None);
        for id in ["../x", "", "a/b", "a b"] {
            assert_eq!(ingest_id(&url_name(id, &demo), &demo), None, "{id:?}");
        }
        assert_eq!(ingest_id("abc", &demo), None);
    }
}
