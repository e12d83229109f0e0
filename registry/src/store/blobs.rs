//! Reading blobs, whatever they are made of.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use super::error::{Error, IoContext, Result};
use super::handle::Store;
use super::layout::LayerKey;
use super::tar::blob::BlobReader;
use super::types::{Backing, BlobInfo};
use crate::digest::{DiffId, Digest};

impl Store {
    /// Stores `bytes` under their SHA-256.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256(bytes);
        if self.has_blob(&digest)? {
            let _publishing = self.publishing()?;
            // Again under the lock: a collection may have come between.
            if self.has_blob(&digest)? {
                self.mark_fresh("blob", &digest)?;
                return Ok(digest);
            }
        }
        let mut ingest = self.ingest()?;
        ingest.write(bytes)?;
        Ok(ingest.commit(Some(&digest))?.0)
    }

    /// Size and backing of a blob, whichever repository it belongs to; `None` if it is not in the store.
    pub fn blob_info(&self, digest: &Digest) -> Result<Option<BlobInfo>> {
        let path = self.inner.layout.blob(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => {
                let backing = Backing::File(path);
                return Ok(Some(BlobInfo {
                    digest: digest.clone(),
                    size: metadata.len(),
                    backing,
                }));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(path, error)),
        }
        let diff_id = DiffId(digest.clone());
        let record = self
            .load_layer(&LayerKey::Diff(diff_id.clone()))?
            .filter(|record| record.canonical);
        Ok(record.map(|record| BlobInfo {
            digest: digest.clone(),
            size: record.size,
            backing: Backing::Layer(diff_id),
        }))
    }

    pub(super) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blob_info(digest)?.is_some())
    }

    /// Reader over the blob from `offset`. A [`Backing::Layer`] one is regenerated: from offset 0 it is verified and fails
    /// before its last bytes on a mismatch; from another offset only its size is.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`]. An offset beyond the end gives an empty reader.
    pub fn open_blob(&self, digest: &Digest, offset: u64) -> Result<Box<dyn Read + Send>> {
        let info = self
            .blob_info(digest)?
            .ok_or_else(|| Error::NoSuchBlob(digest.clone()))?;
        match info.backing {
            Backing::File(path) => {
                let mut file = match File::open(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        return Err(Error::NoSuchBlob(digest.clone()));
                    }
                    other => other.at(&path)?,
                };
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset)).at(&path)?;
                }
                Ok(Box::new(file))
            }
            Backing::Layer(diff_id) => {
                let tree = self.inner.layout.layer(&LayerKey::Diff(diff_id)).join("tree");
                let dir = open_dir(&tree)?;
                Ok(Box::new(BlobReader::new(dir, digest.clone(), info.size, offset)?))
            }
        }
    }

    /// The whole blob, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`], [`Error::TooLarge`].
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let info = self
            .blob_info(digest)?
            .ok_or_else(|| Error::NoSuchBlob(digest.clone()))?;
        if info.size > limit {
            return Err(Error::TooLarge {
                digest: digest.clone(),
                size: info.size,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(info.size).unwrap_or(0));
        let path = self.inner.layout.blob(digest);
        self.open_blob(digest, 0)?
            .take(limit)
            .read_to_end(&mut bytes)
            .at(&path)?;
        if bytes.len() as u64 != info.size {
            return Err(Error::Damaged(format!(
                "blob {digest} has {} bytes, expected {}",
                bytes.len(),
                info.size
            )));
        }
        Ok(bytes)
    }
}

/// Opens a directory of the store itself for walking.
pub(super) fn open_dir(path: &std::path::Path) -> Result<std::os::fd::OwnedFd> {
    use rustix::fs::OFlags;
    let flags = i32::try_from((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits()).expect("open flags fit an int");
    let dir = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .at(path)?;
    Ok(dir.into())
}
