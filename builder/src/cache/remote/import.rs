//! The caches that a build may look into, and what it took from caches of any kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cooper_registry::digest::DiffId;
use cooper_registry::oci::Descriptor;
use cooper_registry::store::{Layer, Lease, Store};

use super::format::{Contents, Entry};
use super::mounts;
use super::place::{Found as FoundAt, Place};
use crate::build::{Error, Event, Request, Services};
use crate::cache::key::record_name;
use crate::cache::record::{Found, Record, look_up_name};
use crate::exec::Events;
use crate::mounts::{CacheMounts, MountIdentity};

/// Layers fetched at once.
const DOWNLOADS: usize = 4;

/// One `--cache-from`.
pub(super) struct Import<'a> {
    pub(super) place: Place<'a>,
    /// Part of the keys under which its records are kept here.
    scope: String,
    contents: Contents,
    /// Set once it did not give what it promised.
    dead: AtomicBool,
}

/// Caches from elsewhere, for one build; also remembers which records the build used.
pub(crate) struct RemoteCache<'a> {
    pub(super) store: &'a Store,
    pub(super) events: Events<'a>,
    pub(super) services: Services<'a>,
    pub(super) imports: Vec<Import<'a>>,
    /// Layers that matched and are not here yet, with the import that has them.
    pending: Mutex<BTreeMap<DiffId, usize>>,
    /// Keys of all steps with their layers.
    used: Mutex<BTreeMap<String, DiffId>>,
    mounts: Mutex<BTreeSet<MountIdentity>>,
    /// One set of layers is fetched at a time; its layers side by side.
    fetching: Mutex<()>,
}

impl<'a> RemoteCache<'a> {
    /// Reads what the caches of the request say, all at once. One that cannot be read costs a warning.
    pub(crate) fn open(
        store: &'a Store,
        lease: &Lease,
        request: &Request,
        services: Services<'a>,
        events: Events<'a>,
    ) -> Self {
        let places: Vec<Place<'a>> = request
            .cache_from
            .iter()
            .filter_map(|import| Place::new(&import.location, services.registries))
            .collect();
        let found: Vec<Result<FoundAt, String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = places
                .iter()
                .map(|place| scope.spawn(move || place.read(store, lease)))
                .collect();
            let panicked = || Err("reading it ended abnormally".to_owned());
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| panicked()))
                .collect()
        });
        let mut imports = Vec::new();
        for (place, found) in places.into_iter().zip(found) {
            let contents = match found {
                Ok(FoundAt::Cache(contents) | FoundAt::Image(Some(contents))) => Ok(contents),
                Ok(FoundAt::Nothing) => Err("not found".to_owned()),
                Ok(FoundAt::Image(None)) => Err("the image has no inline cache of this builder".to_owned()),
                Ok(FoundAt::BuildKit) => Err(
                    "it was written by BuildKit, whose records are named by its own definitions of steps"
                        .to_owned(),
                ),
                Err(error) => Err(error),
            };
            let contents = contents.unwrap_or_else(|error| {
                events(Event::Warning {
                    text: format!("cache {} is not used: {error}", place.label()),
                });
                Contents::default()
            });
            imports.push(Import {
                scope: place.scope(),
                place,
                contents,
                dead: AtomicBool::new(false),
            });
        }
        Self {
            store,
            events,
            services,
            imports,
            pending: Mutex::default(),
            used: Mutex::default(),
            mounts: Mutex::default(),
            fetching: Mutex::default(),
        }
    }

    /// Finds the result of the key with this hash, which the store does not know, in the order of the caches. Its layer may still have to be
    /// fetched: see [`RemoteCache::fetch`].
    pub(crate) fn look_up(&self, lease: &Lease, hash: &str) -> Result<Option<Found>, Error> {
        let key = &record_name(hash);
        for (at, import) in self.imports.iter().enumerate() {
            if let Some(found) = look_up_name(self.store, lease, &import.scoped(key), hash)? {
                return Ok(Some(found));
            }
            if import.dead.load(Ordering::Relaxed) {
                continue;
            }
            let Some((record, size)) = import.believe(key) else {
                continue;
            };
            // Leased before it is looked for, so that a collection in between makes it fetched again.
            lease.layer(&record.diff_id)?;
            let layer = match self.store.layer(&record.diff_id)? {
                Some(layer) => {
                    self.keep(import, key)?;
                    layer
                }
                None => {
                    lock(&self.pending).insert(record.diff_id.clone(), at);
                    Layer {
                        tree: self.store.layer_tree(&record.diff_id),
                        diff_id: record.diff_id.clone(),
                        size,
                    }
                }
            };
            return Ok(Some(Found {
                layer,
                created: record.created,
                key: record.full.unwrap_or_else(|| hash.to_owned()),
            }));
        }
        Ok(None)
    }

    /// Notes that the build has this result of the key with this hash, executed or not.
    pub(crate) fn note(&self, hash: &str, diff_id: &DiffId) {
        lock(&self.used).insert(record_name(hash), diff_id.clone());
    }

    /// Everything noted.
    pub(super) fn used(&self) -> BTreeMap<String, DiffId> {
        lock(&self.used).clone()
    }

    /// What a cache said about a key that this build took from it.
    pub(super) fn entry(&self, key: &str) -> Option<Entry> {
        let found = self
            .imports
            .iter()
            .find_map(|import| import.contents.records.get(key));
        found.cloned()
    }

    /// Notes that a RUN of this build has this cache mount, so that an export with `mounts=true` takes it along.
    pub(crate) fn note_mount(&self, identity: &MountIdentity) {
        lock(&self.mounts).insert(identity.clone());
    }

    pub(super) fn mounts(&self) -> BTreeSet<MountIdentity> {
        lock(&self.mounts).clone()
    }

    /// Fills a cache mount that does not exist here with what the caches have of it. One that exists stays as it is; a
    /// failure costs a warning. Goes before the mount is acquired.
    pub(crate) fn restore_mount(&self, lease: &Lease, identity: &MountIdentity) {
        let name = mounts::name_of(identity);
        for import in &self.imports {
            let Some(stored) = import.contents.mounts.get(&name) else {
                continue;
            };
            let restored = || -> Result<(), String> {
                let text = |error: Error| error.to_string();
                let all = CacheMounts::open(self.store).map_err(text)?;
                let Some(writer) = all.write(identity).map_err(text)? else {
                    return Ok(());
                };
                let fetch = |blob: &Descriptor| import.place.fetch(self.store, lease, blob);
                mounts::restore(self.store, &stored.index, &stored.packs, &writer.data(), &fetch)?;
                writer.commit().map(drop).map_err(text)
            };
            match restored() {
                Ok(()) => return,
                Err(error) => (self.events)(Event::Warning {
                    text: format!(
                        "cache mount {:?} of {} is not used: {error}",
                        identity.id,
                        import.place.label()
                    ),
                }),
            }
        }
    }

    /// Brings those of `layers` into the store that are only promised so far.
    ///
    /// # Errors
    /// [`Error::CacheLost`] if a cache did not keep its promise: it is not looked into again, and the build can begin anew.
    pub(crate) fn fetch<'l>(
        &self,
        lease: &Lease,
        layers: impl IntoIterator<Item = &'l DiffId>,
    ) -> Result<(), Error> {
        let wanted: Vec<DiffId> = {
            let pending = lock(&self.pending);
            if pending.is_empty() {
                return Ok(());
            }
            let layers = layers.into_iter().filter(|id| pending.contains_key(id));
            layers.cloned().collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let _one_at_a_time = lock(&self.fetching);
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut result = Ok(());
            while let Some(diff_id) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let fetched = self.fetch_one(lease, diff_id);
                if fetched.is_err() {
                    result = fetched;
                }
            }
            result
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (1..DOWNLOADS.min(wanted.len()))
                .map(|_| scope.spawn(worker))
                .collect();
            let mut result = worker();
            for thread in threads {
                let other = thread.join();
                let panicked = |_| Err(Error::internal("fetching a layer ended abnormally"));
                result = result.and(other.unwrap_or_else(panicked));
            }
            result
        })
    }

    fn fetch_one(&self, lease: &Lease, diff_id: &DiffId) -> Result<(), Error> {
        // Another step may have wanted it, too.
        let Some(at) = lock(&self.pending).get(diff_id).copied() else {
            return Ok(());
        };
        let import = &self.imports[at];
        match self.adopt(lease, import, diff_id) {
            Ok(()) => {
                lock(&self.pending).remove(diff_id);
                // All of them: without this cache the same result may be asked for by another key.
                let records = import.contents.records.iter();
                records
                    .filter(|(_, entry)| entry.diff_id == *diff_id)
                    .try_for_each(|(key, _)| self.keep(import, key))
            }
            Err(error) => {
                if !import.dead.swap(true, Ordering::Relaxed) {
                    (self.events)(Event::Warning {
                        text: format!("cache {} is not used any more: {error}", import.place.label()),
                    });
                }
                lock(&self.pending).retain(|_, from| *from != at);
                Err(Error::CacheLost)
            }
        }
    }

    fn adopt(&self, lease: &Lease, import: &Import<'_>, diff_id: &DiffId) -> Result<(), String> {
        let stored = import
            .contents
            .layers
            .get(diff_id)
            .ok_or_else(|| format!("it has no layer {diff_id}"))?;
        lease.layer(diff_id).map_err(|error| error.to_string())?;
        import.place.fetch(self.store, lease, &stored.blob)?;
        let adopt = || {
            let mut blob = self.store.open_blob(&stored.blob.digest, 0)?;
            self.store.adopt_layer(&mut *blob, diff_id, stored.size)
        };
        let layer = adopt().map_err(|error| error.to_string())?;
        if layer.size != stored.size {
            return Err(format!(
                "layer {diff_id} has {} bytes, not {}",
                layer.size, stored.size
            ));
        }
        Ok(())
    }

    /// Keeps a record whose layer is here for later builds that name the same cache.
    fn keep(&self, import: &Import<'_>, key: &str) -> Result<(), Error> {
        let Some(entry) = import.contents.records.get(key) else {
            return Ok(());
        };
        let name = import.scoped(key);
        if self.store.cache_get(&name)?.is_some() {
            return Ok(());
        }
        let value = serde_json::to_vec(&entry.value).map_err(|error| Error::internal(error.to_string()))?;
        let description = format!("{}\nfrom {}", entry.title, import.place.label());
        let layers = std::slice::from_ref(&entry.diff_id);
        self.store.cache_put(&name, &description, &value, layers)?;
        Ok(())
    }

    /// Whether something of the cache with this label was missing or wrong in this build.
    pub(super) fn is_dead(&self, label: &str) -> bool {
        let mut imports = self.imports.iter();
        imports.any(|import| import.dead.load(Ordering::Relaxed) && import.place.label() == label)
    }

    /// Key under which a record of one of the imports is kept here.
    pub(super) fn kept_names(&self, key: &str) -> impl Iterator<Item = String> {
        self.imports.iter().map(move |import| import.scoped(key))
    }
}

impl Import<'_> {
    fn scoped(&self, key: &str) -> String {
        format!("imported/v1/{}/{key}", self.scope)
    }

    /// The record of a key with the size of its layer, if it makes sense.
    fn believe(&self, key: &str) -> Option<(Record, u64)> {
        let entry = self.contents.records.get(key)?;
        let value = serde_json::to_vec(&entry.value).ok()?;
        let record = Record::read(&value)?;
        let sound = record.diff_id == entry.diff_id && record.created.parse::<jiff::Timestamp>().is_ok();
        let layer = self.contents.layers.get(&entry.diff_id)?;
        sound.then_some((record, layer.size))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
