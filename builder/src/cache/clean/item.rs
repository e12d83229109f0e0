//! The entries of the build cache as people see them.

use std::collections::{BTreeMap, BTreeSet};

use cooper_registry::digest::{ChainId, Digest};
use cooper_registry::store::{CacheEntry, Store};

use crate::build::Error;
use crate::mounts::CacheMounts;

/// Digits of an id; docker shows the first twelve.
const ID_LENGTH: usize = 25;

/// What an entry is, by BuildKit's names of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheKind {
    /// `regular`: the result of a step.
    Regular,
    /// `source.local`: what is known of a context's files.
    SourceLocal,
    /// `exec.cachemount`: the contents of a cache mount.
    CacheMount,
    /// `source.git.checkout`: what was fetched from a git repository.
    GitCheckout,
    /// `internal`: what the engine keeps for itself.
    Internal,
}

impl CacheKind {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::SourceLocal => "source.local",
            Self::CacheMount => "exec.cachemount",
            Self::GitCheckout => "source.git.checkout",
            Self::Internal => "internal",
        }
    }

    fn of_key(key: &str) -> Self {
        match key.split('/').next() {
            Some("step" | "imported") => Self::Regular,
            Some("context" | "http") => Self::SourceLocal,
            Some("git") => Self::GitCheckout,
            _ => Self::Internal,
        }
    }
}

/// Where an entry is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Record(String),
    Mount { key: String, instance: u32 },
}

/// An entry of the build cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheItem {
    /// Lower-case hex digits, the same as long as the entry lives.
    pub id: String,
    /// Ids of the entries that this one was made from, as far as they are still there.
    pub parents: Vec<String>,
    /// What it is.
    pub kind: CacheKind,
    /// The instruction, the mount, or the like.
    pub description: String,
    /// A running build or container uses it.
    pub in_use: bool,
    /// An image has its layers, too.
    pub shared: bool,
    /// Bytes on disk, as `du` counts them.
    pub bytes: u64,
    /// Unix seconds; none if that is not known.
    pub created_at: Option<i64>,
    /// Unix seconds.
    pub used_at: i64,
    /// How often it was used.
    pub uses: u64,
    pub(super) place: Place,
}

/// All entries, oldest use first. Walks everything for the sizes.
///
/// # Errors
/// What the store or the file system says.
pub fn items(store: &Store) -> Result<Vec<CacheItem>, Error> {
    let entries = store.cache_entries()?;
    let parents = parents(&entries);
    let mut items: Vec<CacheItem> = entries
        .into_iter()
        .map(|entry| CacheItem {
            id: id_of(&entry.key),
            parents: parents.get(&entry.key).cloned().unwrap_or_default(),
            kind: CacheKind::of_key(&entry.key),
            description: entry.description.lines().next().unwrap_or_default().to_owned(),
            in_use: entry.in_use,
            shared: entry.shared,
            bytes: entry.bytes,
            created_at: Some(entry.created_at),
            used_at: entry.used_at,
            uses: entry.uses,
            place: Place::Record(entry.key),
        })
        .collect();
    let mounts = CacheMounts::open_existing(store)?.map(|mounts| mounts.list());
    for mount in mounts.transpose()?.unwrap_or_default() {
        let name = format!("{}/{}", mount.key, mount.instance);
        items.push(CacheItem {
            id: id_of(&name),
            parents: Vec::new(),
            kind: CacheKind::CacheMount,
            description: format!(
                "cached mount {} with id {:?}",
                mount.key.get(..12).unwrap_or(""),
                mount.identity.id
            ),
            in_use: mount.in_use,
            shared: false,
            bytes: mount.bytes,
            created_at: None,
            used_at: mount.last_used,
            uses: 0,
            place: Place::Mount {
                key: mount.key,
                instance: mount.instance,
            },
        });
    }
    items.sort_by(|a, b| (a.used_at, &a.id).cmp(&(b.used_at, &b.id)));
    Ok(items)
}

fn id_of(key: &str) -> String {
    Digest::sha256(key.as_bytes()).hex()[..ID_LENGTH].to_owned()
}

/// The records whose results each record began with: the parts `rootfs` and `from` of a key, which its description lists,
/// are ChainIDs.
fn parents(entries: &[CacheEntry]) -> BTreeMap<String, Vec<String>> {
    let part = |entry: &CacheEntry, name: &str| {
        let line = entry.description.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(' ')?;
            value.strip_prefix('"')?.strip_suffix('"')
        });
        line.map(str::to_owned)
    };
    let mut makers: BTreeMap<String, Vec<&CacheEntry>> = BTreeMap::new();
    for entry in entries {
        let Some(layer) = entry.layers.first() else {
            continue;
        };
        let below = part(entry, "rootfs");
        let chain = match below.as_deref().map(str::parse::<ChainId>) {
            Some(Ok(below)) => below.push(layer),
            _ => ChainId::bottom(layer),
        };
        makers.entry(chain.to_string()).or_default().push(entry);
    }
    let mut parents = BTreeMap::new();
    for entry in entries {
        let found: BTreeSet<String> = ["rootfs", "from"]
            .iter()
            .filter_map(|name| makers.get(&part(entry, name)?))
            .flatten()
            .map(|maker| id_of(&maker.key))
            .collect();
        if !found.is_empty() {
            parents.insert(entry.key.clone(), found.into_iter().collect());
        }
    }
    parents
}
