//! The one place where layers of caches are compressed.

use std::io::Read;
use std::sync::atomic::AtomicBool;

use cooper_registry::digest::{DiffId, Digest};
use cooper_registry::oci::{Descriptor, media_type};
use cooper_registry::store::{Coding, Lease, Store};

use crate::build::{Compression, Error};

/// The blob of a layer of the store in this compression; it is in the store, and `lease` keeps it. A pushed image of
/// the same compression has the very same blob.
pub(super) fn layer_blob(
    store: &Store,
    lease: &Lease,
    diff_id: &DiffId,
    size: u64,
    compression: Compression,
) -> Result<Descriptor, Error> {
    let plain = Descriptor::new(media_type::OCI_LAYER, diff_id.0.clone(), size);
    Ok(match compression.coding()? {
        Some(coding) => store.compress_layer(diff_id, &plain, coding, lease, &AtomicBool::new(false))?,
        None => store.plain_layer(diff_id, &plain, lease)?,
    })
}

/// Compresses `source` into a blob of the store that `lease` keeps.
pub(super) fn compressed(
    store: &Store,
    lease: &Lease,
    source: &mut dyn Read,
) -> Result<(Digest, u64), Error> {
    let coding = Coding::zstd(None).map_err(|error| Error::Source(error.to_string()))?;
    let stop = AtomicBool::new(false);
    Ok(store.compress_stream(source, "a cache mount", coding, lease, &stop)?)
}
