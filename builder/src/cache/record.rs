//! Records.

use cooper_registry::digest::DiffId;
use cooper_registry::store::{Layer, Lease, Store};
use serde::{Deserialize, Serialize};

use super::key::Key;
use crate::build::Error;

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) diff_id: DiffId,
    /// When the layer was made, RFC 3339: a cached rebuild says the same and so is the same image.
    pub(super) created: String,
}

impl Record {
    /// The record in a value; none if it is of another version.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let record = serde_json::from_slice::<Self>(value).ok()?;
        (record.version == VERSION).then_some(record)
    }
}

/// A result from the cache.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) layer: Layer,
    pub(crate) created: String,
}

/// Finds the result of `key` and has `lease` keep it; a record whose layer is gone is a miss.
pub(crate) fn look_up(store: &Store, lease: &Lease, key: &Key) -> Result<Option<Found>, Error> {
    look_up_name(store, lease, &key.name())
}

/// [`look_up`] by the name of a record.
pub(super) fn look_up_name(store: &Store, lease: &Lease, name: &str) -> Result<Option<Found>, Error> {
    let Some(record) = store.cache_get(name)? else {
        return Ok(None);
    };
    let Some(record) = Record::read(&record.value) else {
        return Ok(None);
    };
    // Leased before it is looked for, so that a collection in between makes a miss and no dangling layer.
    lease.layer(&record.diff_id)?;
    let layer = store.layer(&record.diff_id)?;
    Ok(layer.map(|layer| Found {
        layer,
        created: record.created,
    }))
}

/// Records a result.
pub(crate) fn remember(
    store: &Store,
    key: &Key,
    title: &str,
    diff_id: &DiffId,
    created: &str,
) -> Result<(), Error> {
    let record = Record {
        version: VERSION,
        diff_id: diff_id.clone(),
        created: created.to_owned(),
    };
    let value = serde_json::to_vec(&record).map_err(|error| Error::internal(error.to_string()))?;
    store.cache_put(
        &key.name(),
        &key.describe(title),
        &value,
        std::slice::from_ref(diff_id),
    )?;
    Ok(())
}
