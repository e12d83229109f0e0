//! The cache in an image's config. Layers are named by their position in the image.

use std::collections::BTreeMap;

use cooper_registry::digest::DiffId;
use cooper_registry::oci::{Descriptor, ImageConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::export::Exported;
use super::format::{Contents, Entry, MAX_RECORDS, StoredLayer, is_step_key};

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Inline {
    version: u32,
    records: Vec<InlineRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct InlineRecord {
    key: String,
    layer: usize,
    /// Size of the layer's uncompressed archive.
    size: u64,
    value: Value,
}

/// Writes the records of the image's own layers into its config.
pub(crate) fn embed(config: &mut ImageConfig, records: &[Exported]) {
    let positions: BTreeMap<&DiffId, usize> = config
        .rootfs
        .diff_ids
        .iter()
        .enumerate()
        .map(|(at, id)| (id, at))
        .collect();
    let records: Vec<InlineRecord> = records
        .iter()
        .filter_map(|record| {
            Some(InlineRecord {
                key: record.key.clone(),
                layer: *positions.get(&record.entry.diff_id)?,
                size: record.size,
                value: record.entry.value.clone(),
            })
        })
        .collect();
    let inline = Inline {
        version: VERSION,
        records,
    };
    config.inline_cache = serde_json::to_value(inline).ok();
}

/// The records in a config; `layers` are those of its manifest.
pub(super) fn extract(config: &ImageConfig, layers: &[Descriptor]) -> Result<Option<Contents>, String> {
    let Some(value) = &config.inline_cache else {
        return Ok(None);
    };
    let inline = Inline::deserialize(value).map_err(|error| error.to_string())?;
    let ids = &config.rootfs.diff_ids;
    if inline.version != VERSION || inline.records.len() > MAX_RECORDS || ids.len() != layers.len() {
        return Err("its inline cache is of another version, or too large".to_owned());
    }
    let mut contents = Contents::default();
    for record in inline.records {
        let (Some(diff_id), Some(blob)) = (ids.get(record.layer), layers.get(record.layer)) else {
            return Err(format!("there is no layer {}", record.layer));
        };
        if !is_step_key(&record.key) {
            return Err("a record is not that of a step".to_owned());
        }
        let layer = StoredLayer {
            size: record.size,
            blob: blob.clone(),
        };
        contents.layers.insert(diff_id.clone(), layer);
        let entry = Entry {
            diff_id: diff_id.clone(),
            title: String::new(),
            value: record.value,
            day: 0,
        };
        contents.records.insert(record.key, entry);
    }
    Ok(Some(contents))
}
