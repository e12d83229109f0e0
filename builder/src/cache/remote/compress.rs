//! The one place where layers of caches are compressed.

use std::io::{Read, Write};

use cooper_registry::digest::DiffId;
use cooper_registry::oci::{Descriptor, media_type};
use cooper_registry::store::{Ingest, Lease, Store};

use crate::build::{Compression, CompressionKind, Error};

/// Writes into a blob of the store; remembers the store's own error, which is better than IO's.
struct Blob {
    ingest: Ingest,
    failed: Option<cooper_registry::store::Error>,
}

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.ingest.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let shown = std::io::Error::other(error.to_string());
                self.failed = Some(error);
                Err(shown)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The blob of a layer of the store in this compression; it is in the store, and `lease` keeps it.
pub(super) fn layer_blob(
    store: &Store,
    lease: &Lease,
    diff_id: &DiffId,
    compression: Compression,
) -> Result<Descriptor, Error> {
    let mut source = store.open_blob(&diff_id.0, 0)?;
    let (digest, size) = compressed(store, lease, &mut source, compression)?;
    let kind = match compression.kind {
        CompressionKind::None => media_type::OCI_LAYER,
        CompressionKind::Gzip => media_type::OCI_LAYER_GZIP,
        CompressionKind::Zstd => media_type::OCI_LAYER_ZSTD,
    };
    Ok(Descriptor::new(kind, digest, size))
}

/// Compresses `source` into a blob of the store that `lease` keeps.
pub(super) fn compressed(
    store: &Store,
    lease: &Lease,
    source: &mut dyn Read,
    compression: Compression,
) -> Result<(cooper_registry::digest::Digest, u64), Error> {
    let level = compression.level;
    let mut blob = Blob {
        ingest: store.ingest()?,
        failed: None,
    };
    let copied = match compression.kind {
        CompressionKind::None => std::io::copy(source, &mut blob).map(drop),
        CompressionKind::Gzip => {
            let level = level.map_or(flate2::Compression::default(), |level| {
                flate2::Compression::new(u32::from(level))
            });
            let mut encoder = flate2::write::GzEncoder::new(&mut blob, level);
            std::io::copy(source, &mut encoder).and_then(|_| encoder.finish().map(drop))
        }
        CompressionKind::Zstd => {
            zstd::Encoder::new(&mut blob, level.map_or(0, i32::from)).and_then(|mut encoder| {
                std::io::copy(source, &mut encoder)?;
                encoder.finish().map(drop)
            })
        }
    };
    if let Some(error) = blob.failed {
        return Err(error.into());
    }
    copied.map_err(|error| Error::Source(format!("compress a layer: {error}")))?;
    let (digest, size) = blob.ingest.commit(None)?;
    lease.blob(&digest)?;
    Ok((digest, size))
}
