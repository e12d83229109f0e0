//! What the build cache takes, record by record.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::error::Result;
use super::gc::texts;
use super::handle::Store;
use super::layers::read_record;
use super::layout::LayerKey;
use super::repos::stored_digest;
use super::types::CacheEntry;
use super::usage::disk_usage;
use crate::digest::DiffId;

impl Store {
    /// Every cache record, oldest first. Walks the trees of all their layers.
    pub fn cache_entries(&self) -> Result<Vec<CacheEntry>> {
        let dead: HashSet<String> = self.dead_leases(&|_| true)?.into_iter().collect();
        let (mut entries, in_images, leased) = self.inner.index.read(|tx| {
            let mut layers: BTreeMap<String, Vec<DiffId>> = BTreeMap::new();
            let mut statement = tx.prepare("SELECT key, diff_id FROM cache_layers ORDER BY key, pos")?;
            for row in statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))? {
                let (key, diff_id): (String, String) = row?;
                layers
                    .entry(key)
                    .or_default()
                    .push(DiffId(stored_digest(&diff_id)?));
            }
            let mut statement = tx.prepare(
                "SELECT key, description, length(description) + length(value), created_at, used_at, uses FROM cache
                 ORDER BY created_at, key",
            )?;
            let rows = statement.query_map((), |row| {
                let key: String = row.get(0)?;
                Ok(CacheEntry {
                    layers: layers.remove(&key).unwrap_or_default(),
                    key,
                    description: row.get(1)?,
                    bytes: row.get::<_, i64>(2)?.unsigned_abs(),
                    shared: false,
                    in_use: false,
                    created_at: row.get(3)?,
                    used_at: row.get(4)?,
                    uses: row.get::<_, i64>(5)?.unsigned_abs(),
                })
            })?;
            let entries = rows.collect::<Result<Vec<_>, _>>()?;
            let in_images: HashSet<String> = texts(tx, "SELECT DISTINCT diff_id FROM image_layers")?
                .into_iter()
                .collect();
            let mut statement = tx.prepare(
                "SELECT lease, target FROM lease_items
                 WHERE kind = 'layer' AND lease NOT IN (SELECT id FROM leases WHERE named)",
            )?;
            let mut leased = HashSet::new();
            for row in statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))? {
                let (lease, target): (String, String) = row?;
                if !dead.contains(&lease) {
                    leased.insert(target);
                }
            }
            Ok((entries, in_images, leased))
        })?;
        let mut counted = BTreeSet::new();
        for entry in entries.iter_mut().filter(|entry| !entry.layers.is_empty()) {
            entry.bytes = 0;
            for layer in &entry.layers {
                let text = layer.to_string();
                entry.shared |= in_images.contains(&text);
                entry.in_use |= leased.contains(&text);
                if counted.insert(layer.clone()) {
                    entry.bytes += disk_usage(&self.inner.layout.layer(&LayerKey::Diff(layer.clone())))?;
                }
            }
        }
        Ok(entries)
    }

    /// About how many bytes the layers of the build cache take that no image has: the sizes of their archives. Reads one
    /// small file a layer.
    pub fn cache_estimate(&self) -> Result<u64> {
        let layers = self.inner.index.read(|tx| {
            let own = "SELECT DISTINCT diff_id FROM cache_layers
                       WHERE diff_id NOT IN (SELECT diff_id FROM image_layers)";
            super::gc::digests(tx, own)
        })?;
        let mut total = 0u64;
        for layer in layers {
            let dir = self.inner.layout.layer(&LayerKey::Diff(DiffId(layer)));
            if let Some(Ok(record)) = read_record(&dir)? {
                total = total.saturating_add(record.size);
            }
        }
        Ok(total)
    }

    /// Bytes that this process may still write to the file system of the store, and the size of that.
    pub fn free_space(&self) -> Result<(u64, u64)> {
        use super::error::IoContext as _;
        let root = self.root();
        let stat = rustix::fs::statvfs(root).at(root)?;
        let unit = stat.f_frsize.max(1);
        Ok((
            stat.f_bavail.saturating_mul(unit),
            stat.f_blocks.saturating_mul(unit),
        ))
    }
}
