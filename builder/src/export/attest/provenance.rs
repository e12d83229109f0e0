//! SLSA provenance v1 (<https://slsa.dev/spec/v1.0/provenance>), with BuildKit's extensions where a field of it fits
//! (`docs/attestations/slsa-definitions.md`).

use cooper_registry::digest::Digest;
use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::index::json as bytes_of;
use super::super::publish::Finished;
use super::secret::{is_secret, without_credentials};
use super::stamp;
use super::statement::package_url;
use crate::build::{Context, Error, Provenance, ProvenanceMode, Request};

pub(super) const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// Names the meaning of `externalParameters` and `internalParameters`: those of BuildKit's definitions, with a
/// list of steps as `buildConfig`.
const BUILD_TYPE: &str = "urn:cooper:build:dockerfile:v1";
const MAX_ARGUMENT: usize = 64 << 10;

/// What the build knows of how a result was made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// When the build began; none is now.
    pub(crate) started: Option<Timestamp>,
    /// Path of the Dockerfile in its context.
    pub(crate) dockerfile_name: String,
    /// Its bytes.
    pub(crate) dockerfile: Vec<u8>,
    /// Stage that was built, if one was named.
    pub(crate) stage: Option<String>,
    /// Images and sources that went in.
    pub(crate) materials: Vec<Material>,
    /// Steps, in the order of the file.
    pub(crate) steps: Vec<StepFact>,
}

/// Something that went into a build.
#[derive(Debug, Clone)]
pub(crate) struct Material {
    /// A package URL, or where it was fetched from.
    uri: String,
    /// Algorithm and digits: `sha256`, or `sha1` for a git commit.
    digest: (String, String),
}

impl Material {
    /// A base image, by the digest of what its name pointed to.
    pub(crate) fn image(name: &ImageRef, digest: &Digest, platform: &Platform) -> Self {
        Self {
            uri: package_url(name, platform),
            digest: (digest.algorithm().as_str().to_owned(), digest.hex().to_owned()),
        }
    }

    /// An image of an OCI layout, which is called `uri`.
    pub(crate) fn layout(uri: &str, digest: &Digest) -> Self {
        Self {
            uri: uri.to_owned(),
            digest: (digest.algorithm().as_str().to_owned(), digest.hex().to_owned()),
        }
    }
}

/// A step and what it made.
#[derive(Debug, Clone)]
pub(crate) struct StepFact {
    /// `[build 2/5] RUN make`
    pub(crate) name: String,
    /// 1-based line of the Dockerfile.
    pub(crate) line: u32,
    /// DiffIDs of its result, bottom first.
    pub(crate) layers: Vec<String>,
}

/// The predicate. `min` tells what was built from what; `max` adds the Dockerfile, the build arguments, and steps with their
/// layers. Secrets are in neither, nor are values of arguments that are named like one.
pub(super) fn predicate(
    request: &Request,
    options: &Provenance,
    finished: &Finished,
) -> Result<Value, Error> {
    let facts = &finished.facts;
    let max = options.mode == ProvenanceMode::Max;
    let epoch = request.source_date_epoch;
    let mut source = json!({ "path": facts.dockerfile_name });
    let context = match &request.context {
        Context::Remote(url) => {
            source["uri"] = without_credentials(url).into();
            None
        }
        Context::Directory(_) => Some(json!([{ "name": "context" }, { "name": "dockerfile" }])),
        Context::Empty => Some(json!([{ "name": "dockerfile" }])),
    };
    let mut build_request = json!({ "frontend": "dockerfile.v0", "args": arguments(request, facts, max) });
    if let Some(locals) = context {
        build_request["locals"] = locals;
    }
    let mut internal = json!({ "builderPlatform": platform_text(&Platform::host()) });
    if max {
        internal["buildConfig"] = json!({ "steps": steps(facts) });
    }
    let materials: Vec<Value> = facts.materials.iter().map(material).collect();
    let definition = json!({
        "buildType": BUILD_TYPE,
        "externalParameters": { "configSource": source, "request": build_request },
        "internalParameters": internal,
        "resolvedDependencies": materials,
    });
    let started = stamp(epoch, facts.started.unwrap_or_else(Timestamp::now))?;
    let ended = stamp(epoch, Timestamp::now())?;
    // The same build at the same time is the same invocation; with an epoch that is every such build.
    let invocation =
        Digest::sha256(&[&bytes_of(&definition)?[..], started.as_bytes(), ended.as_bytes()].concat());
    let mut metadata = json!({
        "invocationId": &invocation.hex()[..32],
        "startedOn": started,
        "finishedOn": ended,
        "buildkit_completeness": {
            "request": max,
            // Files of a local context and what RUN fetches are not listed.
            "resolvedDependencies": false,
        },
        "buildkit_reproducible": options.reproducible,
    });
    if max {
        metadata["buildkit_metadata"] = json!({
            "source": { "infos": [{
                "filename": facts.dockerfile_name,
                "language": "Dockerfile",
                "data": base64(&facts.dockerfile),
                "sha256": Digest::sha256(&facts.dockerfile).hex(),
            }] },
            "layers": layers(facts, finished),
        });
    }
    Ok(json!({
        "buildDefinition": definition,
        "runDetails": {
            "builder": {
                "id": options.builder_id.clone().unwrap_or_default(),
                "version": { "cooper": env!("CARGO_PKG_VERSION") },
            },
            "metadata": metadata,
        },
    }))
}

fn platform_text(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}"));
    format!(
        "{}/{}{}",
        platform.os,
        platform.architecture,
        variant.unwrap_or_default()
    )
}

/// The frontend's options in BuildKit's names; not those that only say how work is saved, so that a build without the cache
/// says the same.
fn arguments(request: &Request, facts: &Facts, max: bool) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: String, value: String| map.insert(key, Value::String(value));
    if let Some(stage) = &facts.stage {
        put("target".to_owned(), stage.clone());
    }
    if !max {
        return map;
    }
    put("filename".to_owned(), facts.dockerfile_name.clone());
    for (name, value) in &request.build_args {
        let shown = match value {
            _ if is_secret(name) => "<redacted>".to_owned(),
            None => continue,
            Some(value) if value.len() > MAX_ARGUMENT => "<too long>".to_owned(),
            Some(value) => without_credentials(value),
        };
        put(format!("build-arg:{name}"), shown);
    }
    for (name, value) in &request.labels {
        put(format!("label:{name}"), value.clone());
    }
    if !request.platforms.is_empty() {
        let list: Vec<String> = request.platforms.iter().map(platform_text).collect();
        put("platform".to_owned(), list.join(","));
    }
    map
}

fn material(material: &Material) -> Value {
    json!({ "uri": material.uri, "digest": { &material.digest.0: material.digest.1 } })
}

fn steps(facts: &Facts) -> Vec<Value> {
    let steps = facts.steps.iter().enumerate();
    steps
        .map(|(at, step)| json!({ "id": format!("step{at}"), "name": step.name, "line": step.line }))
        .collect()
}

/// Which step made which layers, with their descriptors in the image where they are part of it.
fn layers(facts: &Facts, finished: &Finished) -> Map<String, Value> {
    let of_image = |diff_id: &String| {
        let ids = finished.config.rootfs.diff_ids.iter();
        let at = ids.map(ToString::to_string).position(|id| id == *diff_id)?;
        let layer = finished.layers.get(at)?;
        Some(json!({ "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size }))
    };
    let mut map = Map::new();
    for (at, step) in facts.steps.iter().enumerate() {
        let list: Option<Vec<Value>> = step.layers.iter().map(of_image).collect();
        if let Some(list) = list.filter(|list| !list.is_empty()) {
            map.insert(format!("step{at}:0"), json!([list]));
        }
    }
    map
}

/// Standard alphabet with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for at in 0..4 {
            let index = usize::try_from(word >> (18 - 6 * at) & 63).unwrap_or(0);
            text.push(if at <= chunk.len() {
                char::from(ALPHABET[index])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
