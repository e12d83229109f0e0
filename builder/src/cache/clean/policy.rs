//! Keeping the cache within bounds by itself.

use cooper_registry::store::{GcOptions, Store};

use super::filter::Filter;
use super::item::{CacheKind, items};
use super::limits::Limits;
use super::prune::{Prune, Pruned, prune};
use crate::build::Error;

const GB: u64 = 1_000_000_000;
const DAY: u64 = 24 * 3600;
/// When nothing seems to be too much, entries are still looked at this often (seconds).
const FULL_PASS: i64 = 3600;
/// The record of the last pass.
const STAMP: &str = "usage/v1/last-collection";

/// `builder.gc` of the engine's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcPolicy {
    /// Whether anything is collected without being asked.
    pub enabled: bool,
    /// `defaultReservedSpace` (or `defaultKeepStorage`), `defaultMaxUsedSpace` and `defaultMinFreeSpace`; of those that are
    /// 0 BuildKit's defaults hold: min(10 %, 10 GB), min(80 %, 100 GB) and 20 % of the disk.
    pub limits: Limits,
    /// What is done, in order, instead of BuildKit's four rules.
    pub rules: Option<Vec<Prune>>,
}

impl Default for GcPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            limits: Limits::default(),
            rules: None,
        }
    }
}

impl GcPolicy {
    /// The limits for a disk of this size.
    fn limits_on(&self, disk: u64) -> Limits {
        let or = |given: u64, default: u64| if given == 0 { default } else { given };
        let max_used = or(self.limits.max_used, (disk / 10 * 8).min(100 * GB));
        Limits {
            reserved: or(self.limits.reserved, (disk / 10).min(10 * GB).min(max_used)),
            max_used,
            min_free: or(self.limits.min_free, disk / 5),
        }
    }

    /// What is done, in order. By default what BuildKit does: things that are cheap to get again go after two days beyond
    /// 512 MB, anything after 60 days; then what no image has, then all, as far as the limits say.
    fn rules_on(&self, disk: u64) -> Vec<Prune> {
        if let Some(rules) = &self.rules {
            return rules.clone();
        }
        let limits = self.limits_on(disk);
        let cheap = [
            CacheKind::SourceLocal,
            CacheKind::CacheMount,
            CacheKind::GitCheckout,
        ];
        let mut rules: Vec<Prune> = cheap
            .into_iter()
            .map(|kind| Prune {
                filters: vec![Filter::Type(kind.as_str().to_owned())],
                unused_for: Some(2 * DAY),
                limits: Limits {
                    max_used: 512_000_000,
                    ..Limits::default()
                },
                ..Prune::default()
            })
            .collect();
        rules.push(Prune {
            unused_for: Some(60 * DAY),
            limits,
            ..Prune::default()
        });
        rules.push(Prune {
            limits,
            ..Prune::default()
        });
        rules.push(Prune {
            all: true,
            limits,
            ..Prune::default()
        });
        rules
    }
}

/// Applies the policy if more seems to be there than it allows, or if it was not applied for an hour. Cheap otherwise: one
/// small file is read for each layer.
///
/// # Errors
/// What the store or the file system says.
pub fn collect_after_build(
    store: &Store,
    policy: &GcPolicy,
    collect: &dyn Fn(&GcOptions) -> Result<u64, Error>,
) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    if !policy.enabled {
        return Ok(pruned);
    }
    let (free, disk) = store.free_space()?;
    let rules = policy.rules_on(disk);
    let now = jiff::Timestamp::now().as_second();
    // What the last pass left: time, and bytes other than layers.
    let last = store.cache_get(STAMP)?.and_then(|record| {
        let text = String::from_utf8(record.value).ok()?;
        let (at, others) = text.split_once(' ')?;
        Some((at.parse::<i64>().ok()?, others.parse::<u64>().ok()?))
    });
    let (at, others) = last.unwrap_or((0, 0));
    let estimate = store.cache_estimate()?.saturating_add(others);
    let over = rules
        .iter()
        .filter(|rule| !rule.limits.is_none() && rule.unused_for.is_none())
        .any(|rule| rule.limits.keep(estimate, free) < estimate);
    if !over && now.saturating_sub(at) < FULL_PASS {
        return Ok(pruned);
    }
    for rule in &rules {
        let one = prune(store, rule, collect)?;
        pruned.deleted.extend(one.deleted);
        pruned.freed += one.freed;
    }
    let others: u64 = items(store)?
        .iter()
        .filter(|item| item.kind != CacheKind::Regular)
        .map(|item| item.bytes)
        .sum();
    store.cache_put(
        STAMP,
        "last collection",
        format!("{now} {others}").as_bytes(),
        &[],
    )?;
    Ok(pruned)
}
