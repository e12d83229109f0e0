//! Layers of the store in a wanted form.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{OptionalExtension, Transaction};

use super::super::error::{Error, Result};
use super::super::handle::Store;
use super::super::index::{Durability, Fail, to_i64};
use super::super::lease::Lease;
use super::super::lock::FileLock;
use super::super::repos::stored_digest;
use super::super::unpack::decompress;
use super::coding::Coding;
use super::pipeline;
use crate::digest::{DiffId, Digest, Hasher};
use crate::oci::{Descriptor, media_type};

impl Store {
    /// The layer `diff_id` compressed as `coding`; `stored` says under which digest an image has it. Made from its tree or
    /// from what is stored, once: later calls find the blob. `lease` keeps it until something names it. Setting `stop` ends it
    /// with an error within a block's time.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] if the layer is not here, [`Error::DigestMismatch`] if what is stored is not that layer.
    pub fn compress_layer(
        &self,
        diff_id: &DiffId,
        stored: &Descriptor,
        coding: Coding,
        lease: &Lease,
        stop: &AtomicBool,
    ) -> Result<Descriptor> {
        self.compress_layer_with(diff_id, stored, coding, lease, stop, pipeline::threads(coding))
    }

    /// [`Store::compress_layer`] on a given number of threads, which does not show in the result.
    pub fn compress_layer_with(
        &self,
        diff_id: &DiffId,
        stored: &Descriptor,
        coding: Coding,
        lease: &Lease,
        stop: &AtomicBool,
        threads: usize,
    ) -> Result<Descriptor> {
        let name = format!("compress-{}-{}", coding.name(), diff_id.0.hex());
        let lock = FileLock::exclusive(&self.inner.layout.dir("locks").join(name))?;
        if let Some((digest, size)) = self.remembered(diff_id, coding)? {
            lease.blob(&digest)?;
            if self.has_blob(&digest)? {
                return Ok(Descriptor::new(coding.media_type(), digest, size));
            }
        }
        let mut plain = self.open_layer(diff_id, stored)?;
        let what = format!("layer {diff_id}");
        let (digest, size) = self.compress_from(&mut plain, &what, coding, lease, stop, threads)?;
        self.inner.index.write(Durability::Normal, |tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO compressed(diff_id, coding, digest, size) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((
                diff_id.to_string(),
                coding.name(),
                digest.to_string(),
                to_i64(size),
            ))?;
            Ok(())
        })?;
        lock.remove()?;
        Ok(Descriptor::new(coding.media_type(), digest, size))
    }

    /// Whatever is in `plain` as a compressed blob, which `lease` keeps; `what` it is, for messages. Gives digest and size.
    ///
    /// # Errors
    /// Those of reading and of storing; setting `stop` is one.
    pub fn compress_stream(
        &self,
        plain: &mut dyn Read,
        what: &str,
        coding: Coding,
        lease: &Lease,
        stop: &AtomicBool,
    ) -> Result<(Digest, u64)> {
        self.compress_from(plain, what, coding, lease, stop, pipeline::threads(coding))
    }

    fn compress_from(
        &self,
        mut plain: &mut dyn Read,
        what: &str,
        coding: Coding,
        lease: &Lease,
        stop: &AtomicBool,
        threads: usize,
    ) -> Result<(Digest, u64)> {
        let mut ingest = self.ingest()?;
        pipeline::compress(&mut plain, coding, threads, &mut |bytes| {
            if stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("cancelled"));
            }
            ingest.write(bytes).map_err(io::Error::from)
        })
        .map_err(|error| told(error, what))?;
        let (digest, size) = ingest.commit(None)?;
        lease.blob(&digest)?;
        Ok((digest, size))
    }

    /// The layer `diff_id` as a plain tar that can be read as a blob; unpacked into one if need be.
    ///
    /// # Errors
    /// As [`Store::compress_layer`].
    pub fn plain_layer(&self, diff_id: &DiffId, stored: &Descriptor, lease: &Lease) -> Result<Descriptor> {
        lease.blob(&diff_id.0)?;
        if let Some(info) = self.blob_info(&diff_id.0)? {
            return Ok(Descriptor::new(
                media_type::OCI_LAYER,
                diff_id.0.clone(),
                info.size,
            ));
        }
        let mut reader = self.open_layer(diff_id, stored)?;
        let mut ingest = self.ingest()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => ingest.write(&buffer[..got])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(told(error, &format!("layer {diff_id}"))),
            }
        }
        let (digest, size) = ingest.commit(Some(&diff_id.0))?;
        Ok(Descriptor::new(media_type::OCI_LAYER, digest, size))
    }

    /// Reader over the plain tar of a layer, whether it is a tree, a plain blob or a compressed one. It fails before its end
    /// if the bytes are not those of `diff_id`.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`].
    pub fn open_layer(&self, diff_id: &DiffId, stored: &Descriptor) -> Result<Box<dyn Read>> {
        if self.has_blob(&diff_id.0)? {
            return Ok(self.open_blob(&diff_id.0, 0)?);
        }
        let blob = self.open_blob(&stored.digest, 0)?;
        Ok(Box::new(Verified {
            inner: decompress(blob, false)?,
            hasher: Some(diff_id.0.algorithm().hasher()),
            expected: diff_id.0.clone(),
        }))
    }

    fn remembered(&self, diff_id: &DiffId, coding: Coding) -> Result<Option<(Digest, u64)>> {
        self.inner.index.read(|tx| {
            let row: Option<(String, i64)> = tx
                .prepare_cached("SELECT digest, size FROM compressed WHERE diff_id = ?1 AND coding = ?2")?
                .query_row((diff_id.to_string(), coding.name()), |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            row.map(|(digest, size)| Ok((stored_digest(&digest)?, u64::try_from(size).unwrap_or(0))))
                .transpose()
        })
    }
}

/// Drops the rows of blobs that `live` does not have.
pub(in crate::store) fn forget_dead(
    tx: &Transaction<'_>,
    live: &dyn Fn(&Digest) -> bool,
) -> Result<(), Fail> {
    for digest in super::super::gc::digests(tx, "SELECT DISTINCT digest FROM compressed")? {
        if !live(&digest) {
            tx.execute("DELETE FROM compressed WHERE digest = ?1", [digest.to_string()])?;
        }
    }
    Ok(())
}

/// Errors of the store that went through `io` come back as what they were.
fn told(error: io::Error, what: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io(what, error),
    }
}

/// Hashes what is read and compares it at the end.
struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    expected: Digest,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..got]);
        }
        if got == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let got = hasher.finish();
            if got != self.expected {
                return Err(Error::DigestMismatch {
                    expected: self.expected.clone(),
                    got,
                }
                .into());
            }
        }
        Ok(got)
    }
}
