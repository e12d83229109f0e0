//! in-toto statements and the manifest that carries them.

use std::collections::BTreeMap;

use cooper_registry::digest::{DiffId, Digest};
use cooper_registry::oci::{Descriptor, ImageConfig, Manifest, Platform, RootFs, RunConfig, media_type};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Lease, Store};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::convert::keep;
use super::super::index::{Attestation, MAX_DOCUMENT, json as bytes_of, parse};
use crate::build::Error;

/// Annotation of a statement's layer.
pub(in crate::export) const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// in-toto attestation framework 0.1, as BuildKit writes it: what reads provenance of images expects this version.
const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";

/// A statement as it is stored.
#[derive(Debug)]
pub(in crate::export) struct Statement {
    predicate_type: String,
    bytes: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a, P> {
    #[serde(rename = "_type")]
    kind: &'a str,
    predicate_type: &'a str,
    subject: &'a [Value],
    predicate: &'a P,
}

/// What statements are about: the manifest under each of its names, as package URLs.
pub(super) fn subjects(names: &[ImageRef], platform: &Platform, image: &Digest) -> Vec<Value> {
    let digest = json!({ image.algorithm().as_str(): image.hex() });
    if names.is_empty() {
        return vec![json!({ "name": "_", "digest": digest })];
    }
    let subject = |name: &ImageRef| json!({ "name": package_url(name, platform), "digest": digest });
    names.iter().map(subject).collect()
}

/// `pkg:docker/<name>@<tag>?platform=<os>%2F<arch>`
pub(super) fn package_url(name: &ImageRef, platform: &Platform) -> String {
    let version = match (&name.digest, name.tag_or_latest()) {
        (_, Some(tag)) => tag.to_string(),
        (Some(digest), None) => digest.to_string(),
        (None, None) => String::new(),
    };
    let variant = platform.variant.as_ref().map(|variant| format!("%2F{variant}"));
    format!(
        "pkg:docker/{}@{}?platform={}%2F{}{}",
        name.repo.familiar(),
        version.replace(':', "%3A"),
        platform.os,
        platform.architecture,
        variant.unwrap_or_default()
    )
}

pub(super) fn statement(
    subject: &[Value],
    predicate_type: &str,
    predicate: &impl Serialize,
) -> Result<Statement, Error> {
    let bytes = bytes_of(&Envelope {
        kind: STATEMENT,
        predicate_type,
        subject,
        predicate,
    })?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Error::Source(format!(
            "the attestation {predicate_type} has {} bytes, more than {MAX_DOCUMENT}",
            bytes.len()
        )));
    }
    Ok(Statement {
        predicate_type: predicate_type.to_owned(),
        bytes,
    })
}

/// Stores statements as the layers of a manifest; digest and size of that. `linked`: as a manifest of the store, otherwise
/// as a blob that the lease alone keeps.
pub(in crate::export) fn store_statements(
    store: &Store,
    lease: &Lease,
    statements: &[Statement],
    linked: bool,
) -> Result<(Digest, u64), Error> {
    let mut layers = Vec::new();
    for statement in statements {
        let digest = keep(store, lease, &statement.bytes)?;
        layers.push(Descriptor {
            annotations: BTreeMap::from([(PREDICATE_TYPE.to_owned(), statement.predicate_type.clone())]),
            ..Descriptor::new(MEDIA_TYPE, digest, statement.bytes.len() as u64)
        });
    }
    let config = ImageConfig {
        architecture: "unknown".to_owned(),
        os: "unknown".to_owned(),
        os_version: None,
        variant: None,
        author: None,
        created: None,
        config: RunConfig::default(),
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|layer| DiffId(layer.digest.clone())).collect(),
        },
        history: Vec::new(),
        inline_cache: None,
    };
    let config = bytes_of(&config)?;
    let digest = keep(store, lease, &config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media_type::OCI_CONFIG, digest, config.len() as u64),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    let bytes = bytes_of(&manifest)?;
    let digest = if linked {
        let digest = Digest::sha256(&bytes);
        lease.manifest(&digest)?;
        store
            .put_manifest(None, media_type::OCI_MANIFEST, &bytes, Some(&digest), &[])?
            .digest
    } else {
        keep(store, lease, &bytes)?
    };
    Ok((digest, bytes.len() as u64))
}

/// The statements of an attestation, made to be about `new` instead of `old`.
pub(in crate::export) fn rebind(
    store: &Store,
    attestation: &Attestation,
    old: &Digest,
    new: &Digest,
) -> Result<Vec<Statement>, Error> {
    let mut statements = Vec::new();
    for layer in &attestation.manifest.layers {
        let bytes = store.read_blob(&layer.digest, MAX_DOCUMENT)?;
        let mut value: Value = parse(&layer.digest, &bytes)?;
        let subjects = value.get_mut("subject").and_then(Value::as_array_mut);
        for subject in subjects.into_iter().flatten() {
            let Some(Value::String(hex)) = subject
                .get_mut("digest")
                .and_then(|digest| digest.get_mut(old.algorithm().as_str()))
            else {
                continue;
            };
            if *hex == old.hex() {
                new.hex().clone_into(hex);
            }
        }
        statements.push(Statement {
            predicate_type: layer.annotations.get(PREDICATE_TYPE).cloned().unwrap_or_default(),
            bytes: bytes_of(&value)?,
        });
    }
    Ok(statements)
}
