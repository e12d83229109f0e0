//! Keeping the build cache within bounds: `builder.gc` of the configuration file, and applying it.

use std::io::Read as _;
use std::path::Path;

use cooper_builder::build;
use cooper_builder::cache::{Filter, GcPolicy, Limits, Prune, collect_after_build};
use cooper_registry::store::GcOptions;
use serde::Deserialize;

use super::Engine;

const MAX_CONFIG: u64 = 1 << 20;

/// The part of dockerd's `daemon.json` that is about the build cache; sizes are bytes or as `20GB`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    builder: Builder,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Builder {
    gc: Gc,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Gc {
    enabled: Option<bool>,
    /// The old name of `defaultReservedSpace`.
    default_keep_storage: Option<Size>,
    default_reserved_space: Option<Size>,
    default_max_used_space: Option<Size>,
    default_min_free_space: Option<Size>,
    policy: Option<Vec<Rule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    all: bool,
    filter: Vec<String>,
    keep_duration: Option<String>,
    keep_storage: Option<Size>,
    reserved_space: Option<Size>,
    max_used_space: Option<Size>,
    min_free_space: Option<Size>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

impl Size {
    /// Docker's `units.RAMInBytes`: binary multiples, with or without `B` or `iB`.
    fn bytes(size: Option<&Self>) -> Result<u64, String> {
        let text = match size {
            None => return Ok(0),
            Some(Self::Bytes(bytes)) => return Ok(*bytes),
            Some(Self::Text(text)) => text,
        };
        parse_size(text).ok_or_else(|| format!("invalid size: '{text}'"))
    }
}

/// `512`, `20GB`, `1.5g`, `10 MiB`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim().trim_end_matches('b').trim_end_matches('i');
    let shift = ["", "k", "m", "g", "t", "p"]
        .iter()
        .position(|known| *known == unit)?;
    let factor = 1u64 << (10 * shift);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value: f64 = number.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a fraction of a unit; casts of floats saturate"
    )]
    let bytes = (value * factor as f64) as u64;
    Some(bytes)
}

fn limits(
    reserved: [Option<&Size>; 2],
    max_used: Option<&Size>,
    min_free: Option<&Size>,
) -> Result<Limits, String> {
    let reserved = reserved.into_iter().flatten().next();
    Ok(Limits {
        reserved: Size::bytes(reserved)?,
        max_used: Size::bytes(max_used)?,
        min_free: Size::bytes(min_free)?,
    })
}

fn rule(rule: &Rule) -> Result<Prune, String> {
    let mut prune = Prune {
        all: rule.all,
        limits: limits(
            [rule.reserved_space.as_ref(), rule.keep_storage.as_ref()],
            rule.max_used_space.as_ref(),
            rule.min_free_space.as_ref(),
        )?,
        ..Prune::default()
    };
    let mut old = rule.keep_duration.clone();
    for filter in &rule.filter {
        let (field, value) = filter.split_once('=').unwrap_or((filter, ""));
        match field {
            "unused-for" | "until" => old = Some(value.to_owned()),
            _ => prune
                .filters
                .push(Filter::new(field, value.trim_start_matches('=')).map_err(|error| error.to_string())?),
        }
    }
    if let Some(text) = old {
        let duration = text.parse::<jiff::SignedDuration>();
        let duration = duration.map_err(|error| format!("invalid duration '{text}': {error}"))?;
        prune.unused_for = Some(duration.as_secs().unsigned_abs());
    }
    Ok(prune)
}

/// The policy that a configuration file asks for; the default one if there is no such file.
pub(crate) fn policy(path: &Path) -> Result<GcPolicy, String> {
    let mut text = String::new();
    match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(GcPolicy::default()),
        Err(error) => return Err(error.to_string()),
        Ok(file) => file
            .take(MAX_CONFIG)
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?,
    };
    let gc = serde_json::from_str::<ConfigFile>(&text)
        .map_err(|error| error.to_string())?
        .builder
        .gc;
    Ok(GcPolicy {
        enabled: gc.enabled.unwrap_or(true),
        limits: limits(
            [
                gc.default_reserved_space.as_ref(),
                gc.default_keep_storage.as_ref(),
            ],
            gc.default_max_used_space.as_ref(),
            gc.default_min_free_space.as_ref(),
        )?,
        rules: gc
            .policy
            .map(|rules| rules.iter().map(rule).collect())
            .transpose()?,
    })
}

impl Engine {
    /// The store's collection, as the builder's clean-up calls it.
    pub(crate) fn collect_for_builder(&self, options: &GcOptions) -> Result<u64, build::Error> {
        let report = self.collect(options);
        report
            .map(|report| report.freed_bytes)
            .map_err(|error| build::Error::Source(error.message))
    }

    /// Applies the policy after a build. Failing to clean up does not fail a build.
    pub(crate) fn trim_build_cache(&self) {
        let path = self.config().config_file.as_deref();
        let policy = path.map_or_else(|| Ok(GcPolicy::default()), policy);
        let policy = policy.unwrap_or_else(|error| {
            tracing::warn!(file = ?path, "builder.gc is ignored: {error}");
            GcPolicy::default()
        });
        let trim = || {
            let store = self.store().map_err(|error| error.to_string())?;
            collect_after_build(store, &policy, &|options| self.collect_for_builder(options))
                .map_err(|error| error.to_string())
        };
        match trim() {
            Ok(pruned) if pruned.deleted.is_empty() => {}
            Ok(pruned) => tracing::info!(
                entries = pruned.deleted.len(),
                bytes = pruned.freed,
                "removed build cache beyond its limits"
            ),
            Err(error) => tracing::warn!("the build cache could not be trimmed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("512", Some(512)),
            ("20GB", Some(20 << 30)),
            ("1.5g", Some(3 << 29)),
            ("10 MiB", Some(10 << 20)),
            ("3kb", Some(3072)),
            ("x", None),
            ("1x", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        assert_eq!(policy(&path).unwrap(), GcPolicy::default());
        let check = |text: &str| {
            std::fs::write(&path, text).unwrap();
            policy(&path)
        };
        let found = check(
            r#"{"debug": true, "builder": {"gc": {"enabled": true, "defaultKeepStorage": "10GB", "defaultMaxUsedSpace": 5,
                "policy": [{"filter": ["type=regular", "unused-for=48h"], "reservedSpace": "1MB", "all": true}]}}}"#,
        );
        let found = found.unwrap();
        assert_eq!((found.limits.reserved, found.limits.max_used), (10 << 30, 5));
        let rules = found.rules.unwrap();
        assert_eq!(
            (rules[0].unused_for, rules[0].limits.reserved, rules[0].all),
            (Some(172_800), 1 << 20, true)
        );
        assert!(
            !check(r#"{"builder": {"gc": {"enabled": false}}}"#)
                .unwrap()
                .enabled
        );
        assert!(check("{").is_err() && check(r#"{"builder": {"gc": {"defaultKeepStorage": "x"}}}"#).is_err());
    }
}
