//! The files of an image as a tar, with its attestations beside them.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use cooper_registry::archive::TreeArchive;
use cooper_registry::digest::Digest;
use cooper_registry::oci::Platform;
use cooper_registry::store::{Image, Lease, Store};

use super::super::attest::PREDICATE_TYPE;
use super::super::index::{Contents, MAX_DOCUMENT, OneImage};
use super::WriteOptions;
use crate::build::{Error, IoContext as _};
use crate::tree::mount_readonly;

pub(super) fn write(
    store: &Store,
    lease: &Lease,
    exec_root: &Path,
    id: &Digest,
    options: &WriteOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let contents = Contents::read(store, lease, id)?;
    let empty = exec_root.join("build/empty");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&empty);
    made.map_err(|error| Error::io(&empty, &error))?;
    let split = options.platform_split.unwrap_or(contents.images.len() > 1);
    if !split && contents.images.len() > 1 {
        let reason = "platform-split=false cannot hold several platforms: their files would mix";
        return Err(Error::Source(reason.to_owned()));
    }
    let mut archive = TreeArchive::new(out, options.source_date_epoch);
    for image in &contents.images {
        let prefix = if split {
            format!("{}/", directory(&image.platform))
        } else {
            String::new()
        };
        let root = mount_readonly(&unpacked(store, image)?, &empty)?;
        archive.tree(
            root.open_dir(Path::new("")).doing("open the image's root")?,
            &prefix,
        )?;
        for (name, bytes) in statements(store, &contents, image)? {
            archive.file(&format!("{prefix}{name}"), &bytes)?;
        }
    }
    Ok(archive.finish()?)
}

/// `linux_amd64`, `linux_arm_v7`: BuildKit's name of a platform's directory.
fn directory(platform: &Platform) -> String {
    let mut name = format!("{}_{}", platform.os, platform.architecture);
    if let Some(variant) = platform.variant.as_ref().filter(|variant| !variant.is_empty()) {
        name.push('_');
        name.push_str(variant);
    }
    // Nothing of an index may lead to another directory.
    name.replace('/', "_").replace("..", "__")
}

fn unpacked(store: &Store, image: &OneImage) -> Result<Vec<std::path::PathBuf>, Error> {
    let image = Image {
        id: image.descriptor.digest.clone(),
        manifest_digest: image.descriptor.digest.clone(),
        manifest: image.manifest.clone(),
        config: image.config.clone(),
        config_bytes: Vec::new(),
        names: Vec::new(),
        stored_at: 0,
    };
    Ok(store.unpack_image(&image)?)
}

/// `provenance.json`, `sbom.spdx.json`: BuildKit's names (`docs/attestations/attestation-storage.md`).
fn statements(
    store: &Store,
    contents: &Contents,
    image: &OneImage,
) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
    let subject = image.descriptor.digest.to_string();
    let mut found = Vec::new();
    for attestation in contents.attestations.iter().filter(|one| one.subject == subject) {
        for layer in &attestation.manifest.layers {
            let kind = layer.annotations.get(PREDICATE_TYPE).map_or("", String::as_str);
            let name = if kind.contains("slsa.dev/provenance") {
                "provenance.json"
            } else if kind.contains("spdx.dev/Document") {
                "sbom.spdx.json"
            } else {
                continue;
            };
            found.push((name, store.read_blob(&layer.digest, MAX_DOCUMENT)?));
        }
    }
    found.sort();
    Ok(found)
}
