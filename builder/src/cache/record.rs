//! Records.

use cooper_registry::digest::DiffId;
use cooper_registry::store::{Layer, Lease, Store};
use serde::{Deserialize, Serialize};

use super::key::{Key, record_name};
use super::preimage::{About, PreImage};
use crate::build::Error;

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) diff_id: DiffId,
    /// When the layer was made, RFC 3339: a cached rebuild says the same and so is the same image.
    pub(super) created: String,
    /// Hash of the key that explains this one, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) full: Option<String>,
}

impl Record {
    /// The record in a value; none if it is of another version or, from elsewhere, makes no sense.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let record = serde_json::from_slice::<Self>(value).ok()?;
        let is_hash = |text: &String| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let sound = record.version == VERSION && record.full.iter().all(is_hash);
        sound.then_some(record)
    }
}

/// A result from the cache.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) layer: Layer,
    pub(crate) created: String,
    /// Hash of the key whose pre-image is kept.
    pub(crate) key: String,
}

/// Finds the result of the key with this hash and has `lease` keep it; a record whose layer is gone is a miss.
pub(crate) fn look_up(store: &Store, lease: &Lease, hash: &str) -> Result<Option<Found>, Error> {
    look_up_name(store, lease, &record_name(hash), hash)
}

/// [`look_up`] by the name of a record.
pub(super) fn look_up_name(
    store: &Store,
    lease: &Lease,
    name: &str,
    hash: &str,
) -> Result<Option<Found>, Error> {
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
        key: record.full.unwrap_or_else(|| hash.to_owned()),
    }))
}

/// A result to be recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made<'a> {
    pub(crate) diff_id: &'a DiffId,
    pub(crate) created: &'a str,
}

/// Records a result under the key with this hash. `description` is shown where the cache is listed: its
/// first line, see [`Key::describe`].
pub(crate) fn remember(
    store: &Store,
    hash: &str,
    description: &str,
    made: Made<'_>,
    full: Option<&str>,
) -> Result<(), Error> {
    let record = Record {
        version: VERSION,
        diff_id: made.diff_id.clone(),
        created: made.created.to_owned(),
        full: full.map(str::to_owned),
    };
    let value = serde_json::to_vec(&record).map_err(|error| Error::internal(error.to_string()))?;
    store.cache_put(
        &record_name(hash),
        description,
        &value,
        std::slice::from_ref(made.diff_id),
    )?;
    Ok(())
}

/// Keeps what a key was made of, for later explanations.
pub(crate) fn keep_pre_image(store: &Store, hash: &str, key: &Key, about: About) -> Result<(), Error> {
    PreImage::new(key, about).save(store, hash)
}
