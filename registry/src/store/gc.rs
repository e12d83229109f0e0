//! Mark and sweep. The order of steps and why it is safe is in the documentation of the store module.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction};

use super::compress::forget_dead;
use super::error::{Error, IoContext, Result};
use super::handle::Store;
use super::images::{closure, dangling, drop_image, edges, layer_keys, top_level};
use super::index::{Durability, FRESH_SECONDS, Fail};
use super::ingest::{is_resumable, lock_existing};
use super::layers::read_record;
use super::layout::{ALGORITHMS, LAYER_KINDS, LayerKey, now, random_id};
use super::lock::FileLock;
use super::repos::{image_layers, stored_digest};
use super::snapshot::remove_tree;
use super::types::{GcOptions, GcReport};
use super::usage::disk_usage;
use crate::digest::{DiffId, Digest};

/// What must stay.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) manifests: HashSet<Digest>,
    pub(super) blobs: HashSet<Digest>,
    pub(super) layers: HashSet<LayerKey>,
}

/// Something to remove from the disk.
struct Doomed {
    path: PathBuf,
    digest: Option<Digest>,
}

impl Store {
    /// Mark and sweep. `named_alive` says whether the owner of a named lease still exists; dead ones are dropped.
    /// Safe beside any number of other engines; they wait only while the list of garbage is made, not while it is removed.
    pub fn gc(&self, options: &GcOptions, named_alive: &dyn Fn(&str) -> bool) -> Result<GcReport> {
        self.freeing(|| self.collect(options, named_alive))
    }

    fn collect(&self, options: &GcOptions, named_alive: &dyn Fn(&str) -> bool) -> Result<GcReport> {
        let mut report = GcReport::default();
        let lock = FileLock::exclusive(&self.inner.layout.gc_lock())?;
        let dead_leases = self.dead_leases(named_alive)?;
        let mark = |tx: &Transaction<'_>| -> Result<Live, Fail> {
            for lease in &dead_leases {
                tx.execute("DELETE FROM lease_items WHERE lease = ?1", [lease])?;
                tx.execute("DELETE FROM leases WHERE id = ?1", [lease])?;
            }
            if options.cache {
                report.cache_deleted = texts(tx, "SELECT key FROM cache ORDER BY key")?;
                tx.execute_batch("DELETE FROM cache; DELETE FROM cache_layers;")?;
            }
            for key in &options.cache_keys {
                if tx.execute("DELETE FROM cache WHERE key = ?1", [key])? > 0 {
                    tx.execute("DELETE FROM cache_layers WHERE key = ?1", [key])?;
                    report.cache_deleted.push(key.clone());
                }
            }
            drop_images(tx, options, &mut report)?;
            let live = mark_live(tx)?;
            drop_dead_rows(tx, &live, &mut report)?;
            Ok(live)
        };
        let live = if options.dry_run {
            self.inner.index.rehearse(mark)?
        } else {
            self.inner.index.write(Durability::Normal, mark)?
        };
        let doomed = self.garbage(&live)?;
        let mut trash = Vec::new();
        for Doomed { path, digest } in doomed {
            report.freed_bytes += disk_usage(&path)?;
            report.deleted.extend(digest);
            if !options.dry_run {
                let aside = self.inner.layout.dir("trash").join(random_id()?);
                match fs::rename(&path, &aside) {
                    Ok(()) => trash.push(aside),
                    // Its owner has just removed it.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::io(&path, error)),
                }
            }
        }
        report.deleted.sort();
        report.deleted.dedup();
        if !options.dry_run {
            for lease in &dead_leases {
                // A named lease has no file.
                if let Some(held) = self.lease_file(lease) {
                    held.remove()?;
                }
            }
            self.sweep_locks()?;
            self.trim_notes()?;
            trash.extend(
                list(&self.inner.layout.dir("trash"))?
                    .into_iter()
                    .map(|(_, path)| path),
            );
        }
        drop(lock);
        let mut first_error = None;
        for path in trash {
            let removed = if path.is_dir() {
                remove_tree(&path)
            } else {
                remove_file(&path)
            };
            if let Err(error) = removed {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(report), Err)
    }

    /// Ids of leases whose owner is gone. To act on the answer hold the collection lock.
    pub(super) fn dead_leases(&self, named_alive: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        let (named, mentioned) = self.inner.index.read(|tx| {
            let named = texts(tx, "SELECT id FROM leases WHERE named")?;
            Ok((named, texts(tx, "SELECT DISTINCT lease FROM lease_items")?))
        })?;
        let named: BTreeSet<String> = named.into_iter().collect();
        let mut dead: BTreeSet<String> = named.iter().filter(|name| !named_alive(name)).cloned().collect();
        let mut held = BTreeSet::new();
        for (name, path) in list(&self.inner.layout.dir("leases"))? {
            match lock_existing(&path)? {
                Some(_) => drop(dead.insert(name)),
                None => drop(held.insert(name)),
            }
        }
        dead.extend(
            mentioned
                .into_iter()
                .filter(|id| !named.contains(id) && !held.contains(id)),
        );
        Ok(dead.into_iter().collect())
    }

    fn lease_file(&self, id: &str) -> Option<FileLock> {
        let plain = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let path = self.inner.layout.dir("leases").join(id);
        if plain && path.exists() {
            FileLock::try_exclusive(&path).ok().flatten()
        } else {
            None
        }
    }

    /// Everything on disk that is not live.
    fn garbage(&self, live: &Live) -> Result<Vec<Doomed>> {
        let layout = &self.inner.layout;
        let mut doomed = Vec::new();
        for algorithm in ALGORITHMS {
            for (name, path) in list(&layout.blob_dir(algorithm))? {
                let digest = format!("{}:{name}", algorithm.as_str()).parse::<Digest>().ok();
                if digest.as_ref().is_none_or(|digest| !live.blobs.contains(digest)) {
                    doomed.push(Doomed { path, digest });
                }
            }
        }
        for kind in LAYER_KINDS {
            for (name, path) in list(&layout.layer_kind(kind))? {
                let key = LayerKey::parse(kind, &name);
                let wanted = key.as_ref().is_some_and(|key| match key {
                    LayerKey::Diff(id) => live.layers.contains(key) || live.blobs.contains(&id.0),
                    LayerKey::Chain(_) => live.layers.contains(key),
                });
                if !wanted {
                    let diff_id = read_record(&path)?
                        .and_then(Result::ok)
                        .map(|record| record.diff_id.0);
                    doomed.push(Doomed {
                        path,
                        digest: diff_id,
                    });
                }
            }
        }
        for (_, path) in list(&layout.dir("ingest"))? {
            if let Some(file) = lock_existing(&path)?
                && !is_resumable(&file.metadata().at(&path)?)
            {
                doomed.push(Doomed { path, digest: None });
            }
        }
        for (_, path) in list(&layout.dir("snapshots"))? {
            let lock = path.join("lock");
            if !lock.exists() || lock_existing(&lock)?.is_some() {
                doomed.push(Doomed { path, digest: None });
            }
        }
        Ok(doomed)
    }

    /// Removes the lock files of layers that nobody unpacks.
    fn sweep_locks(&self) -> Result<()> {
        for (name, path) in list(&self.inner.layout.dir("locks"))? {
            if name != "gc"
                && let Some(lock) = FileLock::try_exclusive(&path)?
            {
                lock.remove()?;
            }
        }
        Ok(())
    }
}

fn drop_images(tx: &Transaction<'_>, options: &GcOptions, report: &mut GcReport) -> Result<(), Fail> {
    let leased: HashSet<String> = texts(tx, "SELECT target FROM lease_items WHERE kind = 'manifest'")?
        .into_iter()
        .collect();
    let mut candidates = Vec::new();
    if options.unused_images {
        candidates = top_level(tx)?;
    } else if options.dangling {
        candidates = dangling(tx)?;
    }
    for id in candidates {
        let used = closure(tx, &id)?
            .iter()
            .any(|digest| leased.contains(&digest.to_string()));
        if !used {
            report.untagged.extend(drop_image(tx, &id)?);
        }
    }
    Ok(())
}

/// Marks from the roots: visible manifests, leases, cache records, and what is too young to be referred to.
pub(super) fn mark_live(tx: &Transaction<'_>) -> Result<Live, Fail> {
    let mut live = Live::default();
    let mut queue = digests(tx, "SELECT DISTINCT digest FROM repo_manifests")?;
    queue.extend(digests(
        tx,
        "SELECT target FROM lease_items WHERE kind = 'manifest'",
    )?);
    while let Some(digest) = queue.pop() {
        if !live.manifests.insert(digest.clone()) {
            continue;
        }
        live.blobs.insert(digest.clone());
        live.blobs.extend(edges(tx, &digest, "1")?);
        live.layers.extend(layer_keys(&image_layers(tx, &digest)?));
        queue.extend(edges(
            tx,
            &digest,
            "role = 'child' AND target IN (SELECT digest FROM manifests)",
        )?);
    }
    live.blobs
        .extend(digests(tx, "SELECT target FROM lease_items WHERE kind = 'blob'")?);
    let young = now() - FRESH_SECONDS;
    let makers = "SELECT target FROM lease_items WHERE kind = 'fresh'";
    let uploads = "SELECT digest FROM repo_blobs";
    live.blobs.extend(digests(
        tx,
        &format!(
            "SELECT digest FROM fresh WHERE kind = 'blob' AND at > {young}
               AND (digest IN ({makers}) OR digest IN ({uploads}))"
        ),
    )?);
    let layers = format!(
        "SELECT target FROM lease_items WHERE kind = 'layer' UNION SELECT diff_id FROM cache_layers
         UNION SELECT digest FROM fresh WHERE kind = 'layer' AND at > {young} AND digest IN ({makers})"
    );
    live.layers.extend(
        digests(tx, &layers)?
            .into_iter()
            .map(|digest| LayerKey::Diff(DiffId(digest))),
    );
    Ok(live)
}

fn drop_dead_rows(tx: &Transaction<'_>, live: &Live, report: &mut GcReport) -> Result<(), Fail> {
    for digest in digests(tx, "SELECT digest FROM manifests")? {
        if !live.manifests.contains(&digest) {
            let key = digest.to_string();
            for table in ["edges", "image_layers"] {
                tx.execute(&format!("DELETE FROM {table} WHERE manifest = ?1"), [&key])?;
            }
            tx.execute("DELETE FROM manifests WHERE digest = ?1", [&key])?;
            report.deleted.push(digest);
        }
    }
    for digest in digests(tx, "SELECT DISTINCT digest FROM repo_blobs")? {
        if !live.blobs.contains(&digest) {
            tx.execute("DELETE FROM repo_blobs WHERE digest = ?1", [digest.to_string()])?;
        }
    }
    forget_dead(tx, &|digest| live.blobs.contains(digest))?;
    tx.execute("DELETE FROM fresh WHERE at <= ?1", [now() - FRESH_SECONDS])?;
    tx.execute_batch(
        "DELETE FROM lease_items WHERE kind = 'fresh' AND target NOT IN (SELECT digest FROM fresh)",
    )?;
    tx.execute_batch(
        "DELETE FROM repos WHERE id > 0 AND NOT EXISTS (SELECT 1 FROM repo_manifests WHERE repo = id)
           AND NOT EXISTS (SELECT 1 FROM repo_blobs WHERE repo = id) AND NOT EXISTS (SELECT 1 FROM tags WHERE repo = id)",
    )?;
    Ok(())
}

/// The first column of a query.
pub(super) fn texts(tx: &Connection, sql: &str) -> Result<Vec<String>, Fail> {
    let mut statement = tx.prepare(sql)?;
    let rows = statement.query_map((), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn digests(tx: &Connection, sql: &str) -> Result<Vec<Digest>, Fail> {
    texts(tx, sql)?
        .iter()
        .map(|text| Ok(stored_digest(text)?))
        .collect()
}

/// Names and paths in a directory of the store.
pub(super) fn list(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let entry = entry.at(dir)?;
        entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    entries.sort();
    Ok(entries)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(path, error)),
        Ok(()) => Ok(()),
    }
}
