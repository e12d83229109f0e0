//! Builds an image again and tells where the result differs.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use cooper_registry::digest::Digest;
use cooper_registry::store::{Image, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Error;
use super::request::{Event, Request, Target};
use super::run::build;
use super::services::Services;
use crate::tree::compare_trees;

/// Differences of one layer that are told.
const MAX_DIFFERENCES: usize = 20;

/// What a build that was repeated gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The image's manifest.
    pub image: Digest,
    /// The manifest of what was built now.
    pub rebuilt: Digest,
    /// Where they differ: the first layer that does, then the config, then the manifest. None if the digests are equal.
    pub differences: Vec<Difference>,
}

/// A difference; `image` is what the image says, `rebuilt` what was built now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "snake_case")]
pub enum Difference {
    /// The number of layers.
    Layers {
        /// How many the image has.
        image: usize,
        /// How many were built now.
        rebuilt: usize,
    },
    /// A file in the first layer that differs.
    File {
        /// Number of the layer, from 0 at the bottom.
        layer: usize,
        /// What made the layer, as the image's history says.
        created_by: String,
        /// Path from the root.
        path: PathBuf,
        /// `missing`, `type`, `content`, `mode`, `owner`, `mtime`, `xattr`, `link` or `device`.
        what: String,
        /// In the image.
        image: String,
        /// Now.
        rebuilt: String,
    },
    /// A layer differs, but not in anything that its files show (or the image's files are not here).
    Layer {
        /// Number of the layer, from 0 at the bottom.
        layer: usize,
        /// What made the layer, as the image's history says.
        created_by: String,
        /// DiffID in the image.
        image: String,
        /// DiffID now.
        rebuilt: String,
    },
    /// A field of the config.
    Config {
        /// `config.Env`, `history[3].created`, …
        field: String,
        /// JSON in the image.
        image: String,
        /// JSON now.
        rebuilt: String,
    },
    /// A field of the manifest: config and files are the same, the packing (compression, annotations) is not.
    Manifest {
        /// `layers[0].mediaType`, …
        field: String,
        /// JSON in the image.
        image: String,
        /// JSON now.
        rebuilt: String,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Layers { image, rebuilt } => {
                write!(f, "the image has {image} layers, the new one {rebuilt}")
            }
            Self::File {
                layer,
                created_by,
                path,
                what,
                image,
                rebuilt,
            } => {
                write!(
                    f,
                    "layer {layer} ({created_by}): /{}: {what}: {image} -> {rebuilt}",
                    path.display()
                )
            }
            Self::Layer {
                layer,
                created_by,
                image,
                rebuilt,
            } => {
                write!(f, "layer {layer} ({created_by}): {image} -> {rebuilt}")
            }
            Self::Config {
                field,
                image,
                rebuilt,
            } => write!(f, "config: {field}: {image} -> {rebuilt}"),
            Self::Manifest {
                field,
                image,
                rebuilt,
            } => write!(f, "manifest: {field}: {image} -> {rebuilt}"),
        }
    }
}

/// Builds [`Request::verify`] again as `request` says, without cache and without naming, pushing or exporting anything, and
/// compares. Times are clamped to [`Request::source_date_epoch`], or to the time the image says it was created. Results are
/// not recorded: the cache is the same afterwards. Ends with [`Event::Verified`].
///
/// # Errors
/// As [`build`]; there is no such image.
pub fn verify(
    store: &Store,
    exec_root: &Path,
    request: &Request,
    services: &Services<'_>,
    events: &(dyn Fn(Event) + Sync),
    cancelled: &AtomicBool,
) -> Result<Verification, Error> {
    let Some(name) = &request.verify else {
        return Err(Error::Source("no image to verify was named".to_owned()));
    };
    let image = store.image(&name.to_string())?;
    let lease = store.lease()?;
    lease.manifest(&image.manifest_digest)?;
    let mut request = request.clone();
    request.no_cache = true;
    request.explain = false;
    request.push = false;
    request.cache_to.clear();
    request.cache_from.clear();
    let stage = request.targets.first().and_then(|target| target.stage.clone());
    request.targets = vec![Target {
        stage,
        names: Vec::new(),
    }];
    if request.source_date_epoch.is_none() {
        let created = image
            .config
            .created
            .as_deref()
            .and_then(|time| time.parse::<jiff::Timestamp>().ok());
        request.source_date_epoch = created.map(jiff::Timestamp::as_second);
    }
    let known: Vec<Digest> = store.images()?.into_iter().map(|image| image.id).collect();
    let built = build(store, exec_root, &request, services, events, cancelled)?;
    let id = built.images.first().map(|built| built.image.clone());
    let id = id.ok_or_else(|| Error::internal("a build gives an image"))?;
    let rebuilt = store.image(&id.to_string())?;
    let verification = Verification {
        image: image.manifest_digest.clone(),
        rebuilt: rebuilt.manifest_digest.clone(),
        differences: compare(store, &clamped(&image, &rebuilt), &rebuilt)?,
    };
    if !known.contains(&id) {
        store.delete_image(&id)?;
    }
    events(Event::Verified {
        result: verification.clone(),
    });
    Ok(verification)
}

/// The image with the parts of seconds left out of its times where the other one's are whole: an epoch has none.
fn clamped(image: &Image, rebuilt: &Image) -> Image {
    let mut image = image.clone();
    let whole = |time: Option<&String>| {
        let time = time.and_then(|time| time.parse::<jiff::Timestamp>().ok());
        time.is_some_and(|time| time.subsec_nanosecond() == 0)
    };
    let clamp = |time: &mut Option<String>, other: Option<&String>| {
        let parsed = time
            .as_ref()
            .and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let second = parsed.and_then(|time| jiff::Timestamp::from_second(time.as_second()).ok());
        if let Some(second) = second.filter(|_| whole(other)) {
            *time = Some(second.to_string());
        }
    };
    clamp(&mut image.config.created, rebuilt.config.created.as_ref());
    for (ours, theirs) in image.config.history.iter_mut().zip(&rebuilt.config.history) {
        clamp(&mut ours.created, theirs.created.as_ref());
    }
    image
}

fn compare(store: &Store, image: &Image, rebuilt: &Image) -> Result<Vec<Difference>, Error> {
    let mut differences = Vec::new();
    if image.manifest_digest == rebuilt.manifest_digest {
        return Ok(differences);
    }
    let (left, right) = (&image.config.rootfs.diff_ids, &rebuilt.config.rootfs.diff_ids);
    if left.len() != right.len() {
        differences.push(Difference::Layers {
            image: left.len(),
            rebuilt: right.len(),
        });
    }
    if let Some(layer) = left.iter().zip(right).position(|(one, other)| one != other) {
        let created_by = image
            .config
            .history
            .iter()
            .filter(|entry| !entry.empty_layer)
            .nth(layer);
        let created_by = created_by
            .map(|entry| entry.created_by.clone())
            .unwrap_or_default();
        let mut files = Vec::new();
        if let (Some(one), Some(other)) = (store.layer(&left[layer])?, store.layer(&right[layer])?) {
            files = compare_trees(&one.tree, &other.tree, MAX_DIFFERENCES)?;
        }
        if files.is_empty() {
            differences.push(Difference::Layer {
                layer,
                created_by: created_by.clone(),
                image: left[layer].to_string(),
                rebuilt: right[layer].to_string(),
            });
        }
        differences.extend(files.into_iter().map(|file| Difference::File {
            layer,
            created_by: created_by.clone(),
            path: file.path,
            what: file.what.to_owned(),
            image: file.left,
            rebuilt: file.right,
        }));
    }
    let mut fields = Vec::new();
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    walk(
        "",
        &json(&image.config_bytes),
        &json(&rebuilt.config_bytes),
        &mut fields,
    );
    // The layers were compared already.
    fields.retain(|(field, ..)| !field.starts_with("rootfs"));
    differences.extend(
        fields
            .into_iter()
            .map(|(field, image, rebuilt)| Difference::Config {
                field,
                image,
                rebuilt,
            }),
    );
    if differences.is_empty() {
        let json = |image: &Image| serde_json::to_value(&image.manifest).unwrap_or_default();
        let mut fields = Vec::new();
        walk("", &json(image), &json(rebuilt), &mut fields);
        differences.extend(
            fields
                .into_iter()
                .map(|(field, image, rebuilt)| Difference::Manifest {
                    field,
                    image,
                    rebuilt,
                }),
        );
    }
    Ok(differences)
}

/// Fields that differ, as far down as both are of one shape.
fn walk(path: &str, left: &Value, right: &Value, found: &mut Vec<(String, String, String)>) {
    if left == right {
        return;
    }
    match (left, right) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let value =
                    |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                walk(&path, &value(one), &value(other), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (one, other)) in one.iter().zip(other).enumerate() {
                walk(&format!("{path}[{at}]"), one, other, found);
            }
        }
        _ => found.push((path.to_owned(), left.to_string(), right.to_string())),
    }
}
