//! Removing entries.

use cooper_registry::store::{GcOptions, Store};

use super::filter::Filter;
use super::item::{CacheItem, CacheKind, Place, items};
use super::limits::Limits;
use crate::build::Error;
use crate::mounts::CacheMounts;

/// What to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prune {
    /// Shared and internal entries too.
    pub all: bool,
    /// Only what meets all of these.
    pub filters: Vec<Filter>,
    /// Only what was not used for this many seconds.
    pub unused_for: Option<u64>,
    /// Remove the longest unused only until this much is left.
    pub limits: Limits,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids.
    pub deleted: Vec<String>,
    /// Bytes of disk space.
    pub freed: u64,
}

/// Removes entries; what a build or a container uses stays. `collect`: runs the store's collection with the given options
/// and says how many bytes it freed; the engine adds what it knows of its containers.
///
/// # Errors
/// What the store or the file system says.
pub fn prune(
    store: &Store,
    options: &Prune,
    collect: &dyn Fn(&GcOptions) -> Result<u64, Error>,
) -> Result<Pruned, Error> {
    let now = jiff::Timestamp::now().as_second();
    let items = items(store)?;
    let (free, _) = store.free_space()?;
    let chosen = choose(&items, options, now, free);
    remove(store, &chosen, collect)
}

/// The entries to remove, longest unused first.
pub(super) fn choose<'a>(items: &'a [CacheItem], options: &Prune, now: i64, free: u64) -> Vec<&'a CacheItem> {
    let counted = |item: &CacheItem| options.all || !item.shared;
    let total: u64 = items
        .iter()
        .filter(|item| counted(item))
        .map(|item| item.bytes)
        .sum();
    let keep = options.limits.keep(total, free);
    let may_go = |item: &&CacheItem| {
        let old = options.unused_for.is_none_or(|seconds| {
            now.saturating_sub(item.used_at) >= i64::try_from(seconds).unwrap_or(i64::MAX)
        });
        !item.in_use
            && old
            && (options.all || (!item.shared && item.kind != CacheKind::Internal))
            && options.filters.iter().all(|filter| filter.matches(item))
    };
    let mut left = total;
    let mut chosen = Vec::new();
    let mut candidates: Vec<&CacheItem> = items.iter().filter(may_go).collect();
    candidates.sort_by(|a, b| (a.used_at, a.uses, &a.id).cmp(&(b.used_at, b.uses, &b.id)));
    for item in candidates {
        if !options.limits.is_none() && left <= keep {
            break;
        }
        left = left.saturating_sub(item.bytes);
        chosen.push(item);
    }
    chosen
}

fn remove(
    store: &Store,
    chosen: &[&CacheItem],
    collect: &dyn Fn(&GcOptions) -> Result<u64, Error>,
) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    if chosen.is_empty() {
        return Ok(pruned);
    }
    let mounts = CacheMounts::open_existing(store)?;
    let mut keys = Vec::new();
    for item in chosen {
        match &item.place {
            Place::Record(key) => keys.push(key.clone()),
            Place::Mount { key, instance } => {
                let removed = mounts.as_ref().map(|mounts| mounts.remove(key, *instance));
                match removed.transpose()?.flatten() {
                    Some(bytes) => pruned.freed += bytes,
                    // A build has just taken it.
                    None => continue,
                }
            }
        }
        pruned.deleted.push(item.id.clone());
    }
    if !keys.is_empty() {
        let options = GcOptions {
            cache_keys: keys,
            ..GcOptions::default()
        };
        pruned.freed += collect(&options)?;
    }
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, used_at: i64, bytes: u64) -> CacheItem {
        CacheItem {
            id: id.to_owned(),
            parents: Vec::new(),
            kind: CacheKind::Regular,
            description: format!("RUN {id}"),
            in_use: false,
            shared: false,
            bytes,
            created_at: Some(used_at),
            used_at,
            uses: 0,
            place: Place::Record(id.to_owned()),
        }
    }

    #[test]
    fn choices() {
        let mut items = vec![
            item("old", 10, 100),
            item("new", 90, 50),
            item("used", 5, 10),
            item("shared", 1, 1000),
            item("mount", 20, 30),
            item("own", 2, 1),
        ];
        items[2].in_use = true;
        items[3].shared = true;
        items[4].kind = CacheKind::CacheMount;
        items[5].kind = CacheKind::Internal;
        let check = |options: Prune, expected: &[&str]| {
            let chosen: Vec<&str> = choose(&items, &options, 100, 0)
                .iter()
                .map(|item| item.id.as_str())
                .collect();
            assert_eq!(chosen, expected, "{options:?}");
        };
        let filter = |field: &str, value: &str| Prune {
            filters: vec![Filter::new(field, value).unwrap()],
            ..Prune::default()
        };
        let limits = |reserved, max_used| Prune {
            limits: Limits {
                reserved,
                max_used,
                min_free: 0,
            },
            ..Prune::default()
        };
        check(Prune::default(), &["old", "mount", "new"]);
        let all = Prune {
            all: true,
            ..Prune::default()
        };
        check(all, &["shared", "own", "old", "mount", "new"]);
        let until = Prune {
            unused_for: Some(80),
            ..Prune::default()
        };
        check(until, &["old", "mount"]);
        check(limits(100, 0), &["old"]);
        check(limits(0, 61), &["old", "mount"]);
        check(limits(0, 600), &[]);
        check(filter("type", "exec.cachemount"), &["mount"]);
        check(filter("id", "ne"), &["new"]);
        check(filter("description", "old"), &["old"]);
        check(filter("inuse", "true"), &[]);
        check(filter("private", ""), &["old", "mount", "new"]);
        check(filter("mutable", ""), &["mount"]);
        assert!(Filter::new("nope", "x").is_err() && Filter::new("shared", "x").is_err());
    }
}
