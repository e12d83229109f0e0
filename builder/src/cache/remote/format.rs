//! What a cache says, read from and written to its manifest and config. No IO.

use std::collections::{BTreeMap, HashMap};

use cooper_registry::digest::{DiffId, Digest};
use cooper_registry::oci::{Descriptor, Manifest, media_type};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Media type of a cache's config.
pub(super) const CONFIG_TYPE: &str = "application/vnd.cooper.cache.config.v1+json";
/// Largest config that is read.
pub(super) const MAX_CONFIG: u64 = 32 << 20;
/// Most records of a cache; the most recent ones win.
pub(super) const MAX_RECORDS: usize = 10_000;
/// Most blobs of a manifest: registries take 4 MiB of it.
pub(super) const MAX_BLOBS: usize = 12_000;
/// Days after which an entry that no export had goes.
pub(super) const MAX_AGE: i64 = 30;
/// Longest value of a record, as JSON.
pub(super) const MAX_VALUE: usize = 64 << 10;
const MAX_TITLE: usize = 1 << 10;
const VERSION: u32 = 1;

/// A layer that a cache has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredLayer {
    /// Size of its uncompressed archive.
    pub(super) size: u64,
    pub(super) blob: Descriptor,
}

/// What a cache remembers for a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) diff_id: DiffId,
    /// The step, for people.
    pub(super) title: String,
    /// The store's record, as it is.
    pub(super) value: Value,
    /// When an export last had it, in days since 1970.
    pub(super) day: i64,
}

/// The contents of a cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredMount {
    pub(crate) day: i64,
    /// Lists the files.
    pub(crate) index: Descriptor,
    /// The files' bytes.
    pub(crate) packs: Vec<Descriptor>,
}

/// All that a cache says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) layers: BTreeMap<DiffId, StoredLayer>,
    pub(super) records: BTreeMap<String, Entry>,
    pub(super) mounts: BTreeMap<String, StoredMount>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    version: u32,
    #[serde(default)]
    layers: Vec<ConfigLayer>,
    #[serde(default)]
    records: Vec<ConfigRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<ConfigMount>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigLayer {
    diff_id: DiffId,
    size: u64,
    blob: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigRecord {
    key: String,
    layer: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    title: String,
    value: Value,
    #[serde(default)]
    day: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMount {
    id: String,
    #[serde(default)]
    day: i64,
    index: usize,
    #[serde(default)]
    packs: Vec<usize>,
}

/// Whether a cache may speak about this key: steps only, never what this store knows of its own files.
pub(super) fn is_step_key(key: &str) -> bool {
    let Some((version, hex)) = key.strip_prefix("step/v").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    (1..=4).contains(&version.len())
        && version.bytes().all(|b| b.is_ascii_digit())
        && hex.len() == 64
        && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The first line of a description, not too long.
pub(super) fn title_of(description: &str) -> String {
    let line = description.lines().next().unwrap_or_default();
    line.char_indices()
        .take_while(|(at, _)| *at < MAX_TITLE)
        .map(|(_, c)| c)
        .collect()
}

impl Contents {
    /// Reads a config whose positions mean `blobs`.
    ///
    /// # Errors
    /// Why it is none, or none that can be believed.
    pub(super) fn read(config: &[u8], blobs: &[Descriptor]) -> Result<Self, String> {
        let config: Config = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        if config.version != VERSION {
            return Err(format!("version {}, expected {VERSION}", config.version));
        }
        let counts = [config.layers.len(), config.records.len(), config.mounts.len()];
        if counts.into_iter().any(|count| count > MAX_RECORDS) {
            return Err(format!("more than {MAX_RECORDS} entries"));
        }
        let blob = |at: usize| {
            let found = blobs.get(at);
            found.cloned().ok_or_else(|| format!("there is no blob {at}"))
        };
        let mut contents = Self::default();
        let mut ids = Vec::with_capacity(config.layers.len());
        for layer in config.layers {
            let stored = StoredLayer {
                size: layer.size,
                blob: blob(layer.blob)?,
            };
            ids.push(layer.diff_id.clone());
            contents.layers.insert(layer.diff_id, stored);
        }
        for record in config.records {
            let diff_id = ids
                .get(record.layer)
                .ok_or_else(|| format!("there is no layer {}", record.layer))?;
            if !is_step_key(&record.key) {
                return Err(format!("{:?} is no key of a step", title_of(&record.key)));
            }
            let entry = Entry {
                diff_id: diff_id.clone(),
                title: title_of(&record.title),
                value: record.value,
                day: record.day,
            };
            contents.records.insert(record.key, entry);
        }
        for mount in config.mounts {
            let stored = StoredMount {
                day: mount.day,
                index: blob(mount.index)?,
                packs: mount.packs.iter().map(|&at| blob(at)).collect::<Result<_, _>>()?,
            };
            contents.mounts.insert(mount.id, stored);
        }
        Ok(contents)
    }

    /// The config and the blobs that its positions mean.
    pub(super) fn write(&self) -> Result<(Vec<u8>, Vec<Descriptor>), serde_json::Error> {
        let mut blobs = Blobs::default();
        let mut config = Config {
            version: VERSION,
            ..Config::default()
        };
        let mut positions = BTreeMap::new();
        for (diff_id, layer) in &self.layers {
            positions.insert(diff_id, config.layers.len());
            config.layers.push(ConfigLayer {
                diff_id: diff_id.clone(),
                size: layer.size,
                blob: blobs.position(&layer.blob),
            });
        }
        for (key, entry) in &self.records {
            // A record without its layer says nothing.
            let Some(&layer) = positions.get(&entry.diff_id) else {
                continue;
            };
            config.records.push(ConfigRecord {
                key: key.clone(),
                layer,
                title: entry.title.clone(),
                value: entry.value.clone(),
                day: entry.day,
            });
        }
        for (id, mount) in &self.mounts {
            config.mounts.push(ConfigMount {
                id: id.clone(),
                day: mount.day,
                index: blobs.position(&mount.index),
                packs: mount.packs.iter().map(|pack| blobs.position(pack)).collect(),
            });
        }
        Ok((serde_json::to_vec(&config)?, blobs.list))
    }

    /// The manifest around a config.
    pub(super) fn manifest(config: &Digest, size: u64, blobs: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(CONFIG_TYPE, config.clone(), size),
            layers: blobs,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Unites with what `own` says; where both speak `own` is right, but a layer that is there stays as it is.
    pub(super) fn merge(&mut self, own: &Self, today: i64) {
        for (diff_id, layer) in &own.layers {
            self.layers
                .entry(diff_id.clone())
                .or_insert_with(|| layer.clone());
        }
        for (key, entry) in &own.records {
            self.records.insert(key.clone(), entry.clone());
        }
        for (id, mount) in &own.mounts {
            self.mounts.insert(id.clone(), mount.clone());
        }
        self.expire(today);
    }

    /// Drops what is too old or too much, and layers that no record has.
    fn expire(&mut self, today: i64) {
        self.records.retain(|_, entry| today - entry.day <= MAX_AGE);
        self.mounts.retain(|_, mount| today - mount.day <= MAX_AGE);
        let packs: usize = self.mounts.values().map(|mount| mount.packs.len() + 1).sum();
        let limit = MAX_RECORDS.min(MAX_BLOBS.saturating_sub(packs));
        if self.records.len() > limit {
            let mut days: Vec<(i64, String)> = self
                .records
                .iter()
                .map(|(key, entry)| (entry.day, key.clone()))
                .collect();
            days.sort();
            for (_, key) in days.into_iter().take(self.records.len() - limit) {
                self.records.remove(&key);
            }
        }
        let used: std::collections::BTreeSet<&DiffId> =
            self.records.values().map(|entry| &entry.diff_id).collect();
        let unused: Vec<DiffId> = self
            .layers
            .keys()
            .filter(|id| !used.contains(id))
            .cloned()
            .collect();
        for id in unused {
            self.layers.remove(&id);
        }
    }

    /// Whether everything in `own` is here, however it is compressed.
    pub(super) fn has(&self, own: &Self) -> bool {
        own.records.iter().all(|(key, entry)| {
            self.records
                .get(key)
                .is_some_and(|here| here.diff_id == entry.diff_id && self.layers.contains_key(&entry.diff_id))
        }) && own.mounts.keys().all(|id| self.mounts.contains_key(id))
    }
}

/// Descriptors in the order of their first mention.
#[derive(Default)]
struct Blobs {
    list: Vec<Descriptor>,
    positions: HashMap<Digest, usize>,
}

impl Blobs {
    fn position(&mut self, blob: &Descriptor) -> usize {
        *self.positions.entry(blob.digest.clone()).or_insert_with(|| {
            self.list.push(blob.clone());
            self.list.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    fn contents(names: &[(&str, i64)]) -> Contents {
        let mut contents = Contents::default();
        for (name, day) in names {
            let diff_id = DiffId(digest(name));
            let blob = Descriptor::new(media_type::OCI_LAYER_GZIP, digest(&format!("{name}.gz")), 1);
            contents
                .layers
                .insert(diff_id.clone(), StoredLayer { size: 2, blob });
            let entry = Entry {
                diff_id,
                title: (*name).to_owned(),
                value: serde_json::json!({ "version": 1 }),
                day: *day,
            };
            contents
                .records
                .insert(format!("step/v1/{}", digest(name).hex()), entry);
        }
        contents
    }

    #[test]
    fn reads_what_it_writes() {
        let mut all = contents(&[("a", 5), ("b", 6)]);
        let index = Descriptor::new("x/index", digest("index"), 3);
        let packs = vec![Descriptor::new("x/pack", digest("pack"), 4)];
        all.mounts
            .insert("/root/.cache".to_owned(), StoredMount { day: 6, index, packs });
        let (config, blobs) = all.write().unwrap();
        assert_eq!(blobs.len(), 4);
        assert_eq!(Contents::read(&config, &blobs).unwrap(), all);
    }

    #[test]
    fn union_is_commutative_and_old_entries_go() {
        let (a, b) = (
            contents(&[("a", 100), ("x", 69)]),
            contents(&[("b", 100), ("a", 100)]),
        );
        let merged = |one: &Contents, other: &Contents| {
            let mut merged = one.clone();
            merged.merge(other, 100);
            merged
        };
        assert_eq!(merged(&a, &b), merged(&b, &a));
        assert_eq!(merged(&a, &b), contents(&[("a", 100), ("b", 100)]));
        assert!(merged(&a, &b).has(&b) && !a.has(&b));
    }

    #[test]
    fn refuses_what_cannot_be_believed() {
        let blobs = [Descriptor::new("x/y", digest("x"), 1)];
        let layer = format!(r#"{{"diffId":"{}","size":1,"blob":0}}"#, digest("x"));
        let key = format!("step/v1/{}", digest("x").hex());
        let check = |layers: &str, records: &str, expected: &str| {
            let config = format!(r#"{{"version":1,"layers":[{layers}],"records":[{records}]}}"#);
            let found = Contents::read(config.as_bytes(), &blobs).map(|_| ());
            assert!(
                found.as_ref().is_err_and(|error| error.contains(expected)),
                "{config}: {found:?}"
            );
        };
        check(&layer.replace("\"blob\":0", "\"blob\":1"), "", "no blob 1");
        check(
            &layer,
            &format!(r#"{{"key":"{key}","layer":1,"value":1}}"#),
            "no layer 1",
        );
        for key in ["context/v1/1-2", "step/v1/../../x", "imported/v1/a/b", ""] {
            check(
                &layer,
                &format!(r#"{{"key":"{key}","layer":0,"value":1}}"#),
                "no key of a step",
            );
        }
        let many = vec![format!(r#"{{"key":"{key}","layer":0,"value":1}}"#); MAX_RECORDS + 1];
        check(&layer, &many.join(","), "more than");
        for text in ["", "[]", r#"{"version":2}"#, r#"{"version":1,"layers":{}}"#] {
            assert!(Contents::read(text.as_bytes(), &blobs).is_err(), "{text}");
        }
    }
}
