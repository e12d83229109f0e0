//! Build cache records.

use rusqlite::OptionalExtension;

use super::error::Result;
use super::handle::Store;
use super::index::{Durability, to_i64};
use super::layout::{LayerKey, now};
use super::repos::stored_digest;
use super::types::CacheRecord;
use crate::digest::DiffId;

/// Uses are not written more often than this, in seconds.
const USED_GRANULARITY: i64 = 60;

impl Store {
    /// The record of a key, if it and all its layers are still there. Counts as a use.
    pub fn cache_get(&self, key: &str) -> Result<Option<CacheRecord>> {
        let found = self.inner.index.read(|tx| {
            let row: Option<(Vec<u8>, i64)> = tx
                .prepare_cached("SELECT value, used_at FROM cache WHERE key = ?1")?
                .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((value, used_at)) = row else {
                return Ok(None);
            };
            let mut statement =
                tx.prepare_cached("SELECT diff_id FROM cache_layers WHERE key = ?1 ORDER BY pos")?;
            let rows = statement.query_map([key], |row| row.get::<_, String>(0))?;
            let mut layers = Vec::new();
            for row in rows {
                layers.push(DiffId(stored_digest(&row?)?));
            }
            Ok(Some((CacheRecord { value, layers }, used_at)))
        })?;
        let Some((record, used_at)) = found else {
            return Ok(None);
        };
        for layer in &record.layers {
            // A layer that did not survive a power cut takes its record with it.
            if self.load_layer(&LayerKey::Diff(layer.clone()))?.is_none() {
                self.inner.index.write(Durability::Normal, |tx| {
                    tx.prepare_cached("DELETE FROM cache_layers WHERE key = ?1")?
                        .execute([key])?;
                    tx.prepare_cached("DELETE FROM cache WHERE key = ?1")?
                        .execute([key])?;
                    Ok(())
                })?;
                return Ok(None);
            }
        }
        if now() - used_at >= USED_GRANULARITY {
            self.inner.index.write(Durability::Normal, |tx| {
                tx.prepare_cached("UPDATE cache SET used_at = ?2, uses = uses + 1 WHERE key = ?1")?
                    .execute((key, now()))?;
                Ok(())
            })?;
        }
        Ok(Some(record))
    }

    /// The description of a record. Counts as no use.
    pub fn cache_description(&self, key: &str) -> Result<Option<String>> {
        self.inner.index.read(|tx| {
            let mut statement = tx.prepare_cached("SELECT description FROM cache WHERE key = ?1")?;
            Ok(statement.query_row([key], |row| row.get(0)).optional()?)
        })
    }

    /// Remembers `value` under `key`, replacing what was there. `layers` stay alive as long as the record does.
    /// `description`: what `system df -v` shows.
    pub fn cache_put(&self, key: &str, description: &str, value: &[u8], layers: &[DiffId]) -> Result<()> {
        self.inner.index.write(Durability::Normal, |tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO cache(key, description, value, created_at, used_at) VALUES (?1, ?2, ?3, ?4, ?4)",
            )?
            .execute((key, description, value, now()))?;
            tx.prepare_cached("DELETE FROM cache_layers WHERE key = ?1")?.execute([key])?;
            for (at, layer) in layers.iter().enumerate() {
                let layer = layer.to_string();
                tx.prepare_cached("INSERT INTO cache_layers(key, pos, diff_id) VALUES (?1, ?2, ?3)")?
                    .execute((key, to_i64(at as u64), &layer))?;
                tx.prepare_cached("DELETE FROM fresh WHERE kind = 'layer' AND digest = ?1")?.execute([&layer])?;
            }
            Ok(())
        })
    }
}
