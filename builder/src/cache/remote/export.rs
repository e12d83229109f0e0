//! Writing caches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cooper_registry::digest::{DiffId, Digest};
use cooper_registry::oci::{Descriptor, media_type};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Lease, Store};

use super::compress::layer_blob;
use super::format::{Contents, Entry, MAX_VALUE, StoredLayer, StoredMount, is_step_key, title_of};
use super::import::RemoteCache;
use super::layout::Writer;
use super::mounts;
use super::place::{Found, Place};
use crate::build::{CacheExport, CacheMode, Error, Event, Registries};
use crate::mounts::CacheMounts;

/// How often a registry is written to before an export gives up against other writers.
const ATTEMPTS: usize = 8;
/// Bounds of the time in which another writer may have read before and write after us.
const SETTLE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A record with all that an export needs.
#[derive(Debug, Clone)]
pub(crate) struct Exported {
    pub(super) key: String,
    pub(super) entry: Entry,
    /// Size of the layer's uncompressed archive; 0 if the layer is not here.
    pub(super) size: u64,
}

impl RemoteCache<'_> {
    /// The records that this build used; `result`: only those of these layers.
    pub(crate) fn records(&self, result: Option<&BTreeSet<DiffId>>) -> Result<Vec<Exported>, Error> {
        let day = today();
        let mut records = Vec::new();
        for (key, diff_id) in self.used() {
            if !is_step_key(&key) || result.is_some_and(|result| !result.contains(&diff_id)) {
                continue;
            }
            let mut entry = None;
            for name in std::iter::once(key.clone()).chain(self.kept_names(&key)) {
                if let Some(record) = self.store.cache_get(&name)?
                    && record.layers == [diff_id.clone()]
                    && record.value.len() <= MAX_VALUE
                    && let Ok(value) = serde_json::from_slice(&record.value)
                {
                    entry = Some(Entry {
                        diff_id: diff_id.clone(),
                        title: title_of(&self.store.cache_description(&name)?.unwrap_or_default()),
                        value,
                        day,
                    });
                    break;
                }
            }
            // One that was found elsewhere and whose layer nobody needed.
            let entry = entry.or_else(|| self.entry(&key).map(|entry| Entry { day, ..entry }));
            if let Some(entry) = entry.filter(|entry| entry.diff_id == diff_id) {
                let size = self.store.layer(&diff_id)?.map_or(0, |layer| layer.size);
                records.push(Exported { key, entry, size });
            }
        }
        Ok(records)
    }
}

/// Writes every cache that the request asks for, inline ones excepted. `result`: the layers of the images.
///
/// # Errors
/// [`Error::CacheExport`], unless the export's `ignore_error` makes it a warning.
pub(crate) fn export(
    remote: &RemoteCache<'_>,
    lease: &Lease,
    exports: &[CacheExport],
    result: &BTreeSet<DiffId>,
) -> Result<(), Error> {
    for wanted in exports {
        let Some(place) = Place::new(&wanted.location, remote.services.registries) else {
            continue;
        };
        let exported = export_one(remote, lease, wanted, &place, result);
        match exported {
            Ok(()) => {}
            Err(reason) if wanted.ignore_error => (remote.events)(Event::Warning {
                text: format!("cache {} was not exported: {reason}", place.label()),
            }),
            Err(reason) => {
                return Err(Error::CacheExport {
                    place: place.label(),
                    reason,
                });
            }
        }
    }
    Ok(())
}

fn export_one(
    remote: &RemoteCache<'_>,
    lease: &Lease,
    wanted: &CacheExport,
    place: &Place<'_>,
    result: &BTreeSet<DiffId>,
) -> Result<(), String> {
    let records = remote
        .records((wanted.mode == CacheMode::Min).then_some(result))
        .map_err(|error| error.to_string())?;
    let job = Job {
        remote,
        lease,
        wanted,
        records,
    };
    match place {
        Place::Layout { path, tag } => {
            let writer = Writer::open(path)?;
            let Some((contents, _)) = job.merged(place, Some(&writer), &mut BTreeMap::new())? else {
                return Ok(());
            };
            let (config, blobs, manifest) = job.document(&contents)?;
            writer.put(remote.store, &blobs)?;
            writer.put(remote.store, &[config])?;
            let descriptor = Descriptor::new(
                media_type::OCI_MANIFEST,
                Digest::sha256(&manifest),
                manifest.len() as u64,
            );
            writer.publish(tag, &descriptor, &manifest)
        }
        Place::Registry { name, registries } => job.push(place, name, *registries),
    }
}

/// Takes what lacks a blob out of a cache: nobody can use it, and this build may be able to make it again. Says whether
/// there was any.
fn forget_damaged(contents: &mut Contents, has: &dyn Fn(&Descriptor) -> bool) -> bool {
    let (layers, mounts) = (contents.layers.len(), contents.mounts.len());
    contents.layers.retain(|_, layer| has(&layer.blob));
    contents
        .mounts
        .retain(|_, mount| has(&mount.index) && mount.packs.iter().all(has));
    let kept = &contents.layers;
    contents
        .records
        .retain(|_, entry| kept.contains_key(&entry.diff_id));
    (layers, mounts) != (contents.layers.len(), contents.mounts.len())
}

/// Days since 1970.
fn today() -> i64 {
    jiff::Timestamp::now().as_second().div_euclid(24 * 3600)
}

struct Job<'a> {
    remote: &'a RemoteCache<'a>,
    lease: &'a Lease,
    wanted: &'a CacheExport,
    records: Vec<Exported>,
}

impl Job<'_> {
    fn store(&self) -> &Store {
        self.remote.store
    }

    /// What the place should have, and what of it is ours; none if it has it already. `made` remembers compressed layers.
    fn merged(
        &self,
        place: &Place<'_>,
        writer: Option<&Writer>,
        made: &mut BTreeMap<DiffId, StoredLayer>,
    ) -> Result<Option<(Contents, Contents)>, String> {
        let found = match (place.read(self.store(), self.lease), writer) {
            // A registry may be better at the next attempt; a directory of this host stays what it is.
            (Err(reason), Some(_)) => {
                (self.remote.events)(Event::Warning {
                    text: format!("cache {} is damaged and begun anew: {reason}", place.label()),
                });
                Found::Nothing
            }
            (found, _) => found?,
        };
        let mut there = match found {
            Found::Cache(contents) => contents,
            Found::Nothing | Found::BuildKit => Contents::default(),
            Found::Image(_) => {
                return Err("an image is there, which is not overwritten by a cache".to_owned());
            }
        };
        let doubted = self.remote.is_dead(&place.label());
        let healed = writer.is_some_and(|writer| {
            forget_damaged(&mut there, &|blob| {
                let whole = writer.has(blob, doubted);
                if !whole {
                    writer.drop_blob(blob);
                }
                whole
            })
        });
        let own = self.own(&there, made)?;
        let before = there.clone();
        there.merge(&own, today());
        Ok((healed || there != before).then_some((there, own)))
    }

    /// What this build has to say, with layers as they are there already or compressed now.
    fn own(&self, there: &Contents, made: &mut BTreeMap<DiffId, StoredLayer>) -> Result<Contents, String> {
        let mut own = Contents::default();
        for record in &self.records {
            let diff_id = &record.entry.diff_id;
            let known = there.layers.get(diff_id).or_else(|| made.get(diff_id));
            let layer = match known {
                Some(layer) if !self.wanted.compression.force => layer.clone(),
                _ => match made.get(diff_id) {
                    Some(layer) => layer.clone(),
                    // The cache that had promised it has lost it, which has been said; this build did without.
                    None => match self.compress(diff_id)? {
                        Some(layer) => layer,
                        None => continue,
                    },
                },
            };
            made.insert(diff_id.clone(), layer.clone());
            own.layers.insert(diff_id.clone(), layer);
            own.records.insert(record.key.clone(), record.entry.clone());
        }
        if self.wanted.mounts {
            self.take_mounts(there, &mut own)?;
        }
        Ok(own)
    }

    /// Adds the contents of the build's cache mounts. One that is in use by others is left out.
    fn take_mounts(&self, there: &Contents, own: &mut Contents) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let known: BTreeSet<&Digest> = there
            .mounts
            .values()
            .flat_map(|mount| &mount.packs)
            .map(|pack| &pack.digest)
            .collect();
        let mounts = CacheMounts::open(self.store()).map_err(text)?;
        for identity in self.remote.mounts() {
            let Some(mount) = mounts.read(&identity.key()).map_err(text)? else {
                continue;
            };
            match mounts::take(self.store(), self.lease, &mount, &|pack| known.contains(pack)) {
                Ok(taken) => {
                    let stored = StoredMount {
                        day: today(),
                        index: taken.index,
                        packs: taken.packs,
                    };
                    own.mounts.insert(mounts::name_of(&identity), stored);
                }
                Err(error) => (self.remote.events)(Event::Warning {
                    text: format!("cache mount {:?} was not exported: {error}", identity.id),
                }),
            }
        }
        Ok(())
    }

    fn compress(&self, diff_id: &DiffId) -> Result<Option<StoredLayer>, String> {
        let text = |error: Error| error.to_string();
        // It may be one that matched elsewhere and that this build did not need.
        match self.remote.fetch(self.lease, [diff_id]) {
            Err(Error::CacheLost) => return Ok(None),
            fetched => fetched.map_err(text)?,
        }
        let layer = self
            .store()
            .layer(diff_id)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("layer {diff_id} is gone"))?;
        let blob = layer_blob(
            self.store(),
            self.lease,
            diff_id,
            layer.size,
            self.wanted.compression,
        )
        .map_err(text)?;
        Ok(Some(StoredLayer {
            size: layer.size,
            blob,
        }))
    }

    /// Config (in the store), blobs and manifest.
    fn document(&self, contents: &Contents) -> Result<(Descriptor, Vec<Descriptor>, Vec<u8>), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (config, blobs) = contents.write().map_err(|error| text(&error))?;
        let digest = self.store().put_blob(&config).map_err(|error| text(&error))?;
        self.lease.blob(&digest).map_err(|error| text(&error))?;
        let manifest = Contents::manifest(&digest, config.len() as u64, blobs.clone());
        let bytes = serde_json::to_vec(&manifest).map_err(|error| text(&error))?;
        Ok((manifest.config, blobs, bytes))
    }

    /// Reads, adds, writes; looks again, and begins anew if another writer who had not seen ours was last.
    fn push(&self, place: &Place<'_>, name: &ImageRef, registries: &dyn Registries) -> Result<(), String> {
        let mut made = BTreeMap::new();
        for _ in 0..ATTEMPTS {
            let start = Instant::now();
            let Some((contents, own)) = self.merged(place, None, &mut made)? else {
                return Ok(());
            };
            self.put(name, registries, &contents)?;
            // Who read before our writing is done writes within about the time that it took us.
            std::thread::sleep(start.elapsed().clamp(SETTLE.0, SETTLE.1));
            match place.read(self.store(), self.lease)? {
                Found::Cache(there) if there.has(&own) => return Ok(()),
                _ => {}
            }
        }
        Err(format!(
            "others wrote to it at the same time, {ATTEMPTS} times over"
        ))
    }

    fn put(&self, name: &ImageRef, registries: &dyn Registries, contents: &Contents) -> Result<(), String> {
        let text = |error: cooper_registry::store::Error| error.to_string();
        let (_, _, bytes) = self.document(contents)?;
        let digest = Digest::sha256(&bytes);
        self.lease.manifest(&digest).map_err(text)?;
        let store = self.store();
        let known = store.manifest(&name.repo, &digest).map_err(text)?.is_some();
        store
            .put_manifest(
                Some(&name.repo),
                media_type::OCI_MANIFEST,
                &bytes,
                Some(&digest),
                &[],
            )
            .map_err(text)?;
        let tagged = ImageRef {
            tag: name.tag_or_latest(),
            ..name.clone()
        };
        let pushed = registries.push(&tagged, &digest, &|_| {});
        let tagged = match name.tag_or_latest() {
            Some(tag) => store.resolve_tag(&name.repo, &tag).map_err(text)?,
            None => None,
        };
        if !known && tagged.is_none_or(|tagged| tagged.digest != digest) {
            // Only there to be pushed from.
            store.delete_manifest(&name.repo, &digest).map_err(text)?;
        }
        pushed
    }
}
