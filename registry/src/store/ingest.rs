//! Blobs being written.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::error::{Error, IoContext, Result};
use super::handle::Store;
use super::index::Durability;
use super::layout::{now, random_id, sync_dir};
use super::lock::same_file;
use crate::digest::{Algorithm, Digest, Hasher};

/// Mode of an ingest whose writer means to come back; such a file outlives its process for a day.
const SUSPENDED: u32 = 0o640;
const MAX_HASH_STATES: usize = 4096;

/// A blob being written: `ingest/<id>`; invisible until [`Ingest::commit`]. Dropping it deletes the file.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    id: String,
    path: PathBuf,
    file: File,
    length: u64,
    /// None: bytes of an earlier process have to be read again first.
    hasher: Option<Hasher>,
    keep: bool,
}

impl Ingest {
    /// Its name for [`Store::resume_ingest`]: 32 hex digits that cannot be guessed.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends `bytes`. After an error the tail of the file is cut off again, so [`Ingest::len`] stays true.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            self.file.set_len(self.length).at(&self.path)?;
            self.file.seek(SeekFrom::Start(self.length)).at(&self.path)?;
            return Err(Error::io(&self.path, error));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Verifies (sha256 or sha512 as `expected` says; None: sha256), makes durable, publishes by rename.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`]; the file is deleted then.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let hasher = self.hasher.take().filter(|_| algorithm == Algorithm::Sha256);
        let got = match hasher {
            Some(hasher) => hasher.finish(),
            None => self.rehash(algorithm)?.finish(),
        };
        if let Some(expected) = expected.filter(|expected| **expected != got) {
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                got,
            });
        }
        self.file
            .set_permissions(Permissions::from_mode(0o444))
            .at(&self.path)?;
        if !self.store.has_blob(&got)? {
            self.file.sync_data().at(&self.path)?;
        }
        let target = self.store.inner.layout.blob(&got);
        let _publishing = self.store.publishing()?;
        // First, because it may fail on a full disk: nothing is published then.
        self.store.mark_fresh("blob", &got)?;
        if !self.store.has_blob(&got)? {
            // Only here can it have vanished since the look above.
            self.file.sync_data().at(&self.path)?;
            fs::rename(&self.path, &target).at(&target)?;
            self.keep = true;
            sync_dir(&self.store.inner.layout.blob_dir(algorithm))?;
        }
        Ok((got, self.length))
    }

    /// Keeps the file for [`Store::resume_ingest`] (upload sessions, interrupted downloads) instead of deleting it on drop.
    /// It is collected when nobody has written to it for a day.
    pub fn suspend(mut self) -> Result<String> {
        self.file
            .set_permissions(Permissions::from_mode(SUSPENDED))
            .at(&self.path)?;
        if let Some(hasher) = self.hasher.take() {
            let mut states = self
                .store
                .inner
                .hash_states
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if states.len() >= MAX_HASH_STATES {
                // Losing one only costs reading the file again.
                states.clear();
            }
            states.insert(self.id.clone(), (self.length, hasher));
        }
        self.keep = true;
        Ok(self.id.clone())
    }

    fn rehash(&mut self, algorithm: Algorithm) -> Result<Hasher> {
        let mut hasher = algorithm.hasher();
        let mut buffer = vec![0u8; 256 << 10];
        let mut reader = &self.file;
        reader.seek(SeekFrom::Start(0)).at(&self.path)?;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(hasher),
                Ok(got) => hasher.update(&buffer[..got]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(&self.path, error)),
            }
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an unfinished blob");
        }
    }
}

/// Whether an ingest file that nobody holds may still be resumed.
pub(super) fn is_resumable(metadata: &fs::Metadata) -> bool {
    metadata.mode() & 0o777 == SUSPENDED && now() - metadata.mtime() < 24 * 3600
}

fn valid_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// Starts a blob.
    pub fn ingest(&self) -> Result<Ingest> {
        let id = random_id()?;
        let path = self.inner.layout.dir("ingest").join(&id);
        // A collection must not see the file before it is locked.
        let _publishing = self.publishing()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .at(&path)?;
        file.lock().at(&path)?;
        let hasher = Some(Algorithm::Sha256.hasher());
        Ok(Ingest {
            store: self.clone(),
            id,
            path,
            file,
            length: 0,
            hasher,
            keep: false,
        })
    }

    /// An ingest that was suspended; it is locked while held, so only one writer at a time (None: unknown or in use).
    pub fn resume_ingest(&self, id: &str) -> Result<Option<Ingest>> {
        let Some((path, mut file)) = self.lock_ingest(id)? else {
            return Ok(None);
        };
        let length = file.seek(SeekFrom::End(0)).at(&path)?;
        let state = self
            .inner
            .hash_states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        let hasher = match state {
            Some((hashed, hasher)) if hashed == length => Some(hasher),
            _ if length == 0 => Some(Algorithm::Sha256.hasher()),
            _ => None,
        };
        Ok(Some(Ingest {
            store: self.clone(),
            id: id.to_owned(),
            path,
            file,
            length,
            hasher,
            keep: false,
        }))
    }

    /// Deletes a suspended ingest; nothing happens if it is unknown or in use.
    pub fn drop_ingest(&self, id: &str) -> Result<()> {
        if let Some((path, _file)) = self.lock_ingest(id)? {
            self.inner
                .hash_states
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(id);
            fs::remove_file(&path).at(&path)?;
        }
        Ok(())
    }

    fn lock_ingest(&self, id: &str) -> Result<Option<(PathBuf, File)>> {
        if !valid_id(id) {
            return Ok(None);
        }
        let path = self.inner.layout.dir("ingest").join(id);
        lock_existing(&path).map(|file| file.map(|file| (path, file)))
    }

    /// Protects something that nothing refers to yet, while this handle lives. The caller holds the publishing lock.
    pub(super) fn mark_fresh(&self, kind: &str, digest: &Digest) -> Result<()> {
        let session = self.session()?;
        self.inner.index.write(Durability::Normal, |tx| {
            let digest = digest.to_string();
            tx.prepare_cached("INSERT OR REPLACE INTO fresh(kind, digest, at) VALUES (?1, ?2, ?3)")?
                .execute((kind, &digest, now()))?;
            tx.prepare_cached(
                "INSERT OR IGNORE INTO lease_items(lease, kind, target) VALUES (?1, 'fresh', ?2)",
            )?
            .execute((&session, &digest))?;
            Ok(())
        })
    }
}

/// Opens and locks an existing file; `None` if it is gone or held.
pub(super) fn lock_existing(path: &Path) -> Result<Option<File>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.at(path)?,
    };
    match file.try_lock() {
        Ok(()) => Ok(same_file(&file, path)?.then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io(path, error)),
    }
}
