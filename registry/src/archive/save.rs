//! Writing archives.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use super::layout::{
    Entry, IMAGE_NAME, INDEX, MANIFEST, OCI_LAYOUT, OCI_LAYOUT_TEXT, REF_NAME, REPOSITORIES, Repositories,
    blob_path,
};
use crate::digest::Digest;
use crate::oci::{Descriptor, Index, Manifest, media_type};
use crate::reference::{ImageRef, RepoName};
use crate::store::{Error, Image, Result, Store, StoredManifest};

const MAX_MANIFEST_BYTES: u64 = 4 << 20;
const MAX_DEPTH: usize = 4;
const BUFFER: usize = 256 << 10;

/// Writes images as one tar that is both an OCI layout and a docker-archive; `names` says which names of each image to
/// record, none for an image asked for by its id. Layers are streamed, as stored: what was pulled compressed is saved
/// compressed.
///
/// # Errors
/// If the store lacks a part of an image, or `out` takes no more.
pub fn save(store: &Store, images: &[(Image, Vec<ImageRef>)], out: &mut dyn Write) -> Result<()> {
    let lease = store.lease()?;
    let mut plan = Plan::default();
    let mut descriptors = Vec::new();
    let mut entries = Vec::new();
    let mut repositories = Repositories::new();
    for (image, names) in images {
        lease.manifest(&image.id)?;
        let repos: BTreeSet<&RepoName> = names.iter().chain(&image.names).map(|name| &name.repo).collect();
        let repos: Vec<_> = repos.into_iter().collect();
        let top = find(store, &repos, &image.id)?.ok_or_else(|| Error::NoSuchManifest(image.id.clone()))?;
        let plain = Descriptor::new(
            top.descriptor.media_type.clone(),
            image.id.clone(),
            top.bytes.len() as u64,
        );
        plan.document(store, &repos, top, 0)?;
        // What can be run here must be complete, whatever else the index lists.
        plan.image(&image.manifest);
        descriptors.extend(described(&plain, names));
        entries.push(entry(image, names));
        for name in names {
            if let (Some(tag), Some(layer)) = (name.tag_or_latest(), image.manifest.layers.last()) {
                let tags = repositories.entry(name.repo.familiar()).or_default();
                tags.insert(tag.to_string(), layer.digest.hex().to_owned());
            }
        }
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: descriptors,
        subject: None,
        annotations: BTreeMap::new(),
    };
    let mut tar = Tar(out);
    tar.blobs(store, &plan)?;
    tar.file(INDEX, &text(&index)?)?;
    tar.file(MANIFEST, &text(&entries)?)?;
    tar.file(OCI_LAYOUT, OCI_LAYOUT_TEXT.as_bytes())?;
    if !repositories.is_empty() {
        tar.file(REPOSITORIES, &text(&repositories)?)?;
    }
    tar.end()
}

/// Writes a manifest or index with everything of it that the store has as an OCI layout in a tar, without the files of a
/// docker-archive. `tops`: its descriptor for `index.json`, once for each name, with the annotations it is to have there.
///
/// # Errors
/// As [`save`]. The caller keeps what is written by a lease.
pub fn save_layout(store: &Store, tops: &[Descriptor], out: &mut dyn Write) -> Result<()> {
    let mut plan = Plan::default();
    for top in tops {
        let document =
            find(store, &[], &top.digest)?.ok_or_else(|| Error::NoSuchManifest(top.digest.clone()))?;
        plan.document(store, &[], document, 0)?;
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: tops.to_vec(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    let mut tar = Tar(out);
    tar.blobs(store, &plan)?;
    tar.file(INDEX, &text(&index)?)?;
    tar.file(OCI_LAYOUT, OCI_LAYOUT_TEXT.as_bytes())?;
    tar.end()
}

fn text(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| output(error.into()))
}

/// What the blobs directory will hold.
#[derive(Debug, Default)]
struct Plan {
    blobs: BTreeMap<Digest, Content>,
}

#[derive(Debug)]
enum Content {
    /// A manifest or index.
    Bytes(Vec<u8>),
    /// A blob of the store, by its size.
    Blob(u64),
}

impl Plan {
    /// Adds a manifest with its blobs, or an index with those of its children that are complete.
    fn document(
        &mut self,
        store: &Store,
        repos: &[&RepoName],
        document: StoredManifest,
        depth: usize,
    ) -> Result<()> {
        let StoredManifest { descriptor, bytes } = document;
        let invalid =
            |error: serde_json::Error| Error::InvalidManifest(format!("{}: {error}", descriptor.digest));
        match descriptor.media_type.as_str() {
            media_type::OCI_INDEX | media_type::DOCKER_LIST if depth < MAX_DEPTH => {
                let index: Index = serde_json::from_slice(&bytes).map_err(invalid)?;
                for child in index.manifests {
                    if let Some(found) = find(store, repos, &child.digest)?
                        && complete(store, &found)?
                    {
                        self.document(store, repos, found, depth + 1)?;
                    }
                }
            }
            media_type::OCI_INDEX | media_type::DOCKER_LIST => {}
            _ => self.image(&serde_json::from_slice::<Manifest>(&bytes).map_err(invalid)?),
        }
        self.blobs.insert(descriptor.digest, Content::Bytes(bytes));
        Ok(())
    }

    fn image(&mut self, manifest: &Manifest) {
        let layers = manifest.layers.iter().filter(|layer| layer.urls.is_empty());
        for blob in std::iter::once(&manifest.config).chain(layers) {
            self.blobs
                .entry(blob.digest.clone())
                .or_insert(Content::Blob(blob.size));
        }
    }
}

/// A stored manifest by digest: in the image's repositories, or as a blob if it has none.
fn find(store: &Store, repos: &[&RepoName], digest: &Digest) -> Result<Option<StoredManifest>> {
    for repo in repos {
        if let Some(found) = store.manifest(repo, digest)? {
            return Ok(Some(found));
        }
    }
    let Some(info) = store.blob_info(digest)? else {
        return Ok(None);
    };
    let bytes = store.read_blob(digest, MAX_MANIFEST_BYTES)?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let declared = value.get("mediaType").and_then(|kind| kind.as_str());
    let media_type = match declared {
        Some(declared) => declared,
        None if value.get("manifests").is_some() => media_type::OCI_INDEX,
        None => media_type::OCI_MANIFEST,
    };
    Ok(Some(StoredManifest {
        descriptor: Descriptor::new(media_type, digest.clone(), info.size),
        bytes,
    }))
}

/// Whether all blobs of an image are here; an index is complete by itself.
fn complete(store: &Store, document: &StoredManifest) -> Result<bool> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&document.bytes) else {
        return Ok(true);
    };
    let layers = manifest.layers.iter().filter(|layer| layer.urls.is_empty());
    for blob in std::iter::once(&manifest.config).chain(layers) {
        if store.blob_info(&blob.digest)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The image's descriptors in index.json: one per name.
fn described(plain: &Descriptor, names: &[ImageRef]) -> Vec<Descriptor> {
    let named = names.iter().filter_map(|name| {
        let tag = name.tag_or_latest()?;
        let mut descriptor = plain.clone();
        descriptor
            .annotations
            .insert(IMAGE_NAME.to_owned(), format!("{}:{tag}", name.repo));
        descriptor
            .annotations
            .insert(REF_NAME.to_owned(), tag.to_string());
        Some(descriptor)
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        vec![plain.clone()]
    } else {
        named
    }
}

fn entry(image: &Image, names: &[ImageRef]) -> Entry {
    let tags = names
        .iter()
        .filter_map(|name| Some(format!("{}:{}", name.repo.familiar(), name.tag_or_latest()?)));
    let tags: Vec<_> = tags.collect();
    let sources = image.config.rootfs.diff_ids.iter().zip(&image.manifest.layers);
    Entry {
        config: blob_path(&image.manifest.config.digest),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: Some(
            image
                .manifest
                .layers
                .iter()
                .map(|layer| blob_path(&layer.digest))
                .collect(),
        ),
        layer_sources: sources
            .map(|(diff_id, layer)| (diff_id.to_string(), layer.clone()))
            .collect(),
    }
}

/// A tar being written: no times, no owners.
struct Tar<'a>(&'a mut dyn Write);

impl Tar<'_> {
    fn header(&mut self, path: &str, kind: tar::EntryType, mode: u32, size: u64) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).map_err(output)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.0.write_all(header.as_bytes()).map_err(output)
    }

    fn blobs(&mut self, store: &Store, plan: &Plan) -> Result<()> {
        self.directory("blobs/")?;
        let algorithms: BTreeSet<_> = plan.blobs.keys().map(Digest::algorithm).collect();
        for algorithm in algorithms {
            self.directory(&format!("blobs/{}/", algorithm.as_str()))?;
            for (digest, content) in plan
                .blobs
                .iter()
                .filter(|(digest, _)| digest.algorithm() == algorithm)
            {
                self.blob(store, digest, content)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &str) -> Result<()> {
        self.header(path, tar::EntryType::Directory, 0o755, 0)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        self.header(path, tar::EntryType::Regular, 0o644, size)?;
        self.0.write_all(bytes).map_err(output)?;
        self.pad(size)
    }

    fn blob(&mut self, store: &Store, digest: &Digest, content: &Content) -> Result<()> {
        let path = blob_path(digest);
        let size = match content {
            Content::Bytes(bytes) => return self.file(&path, bytes),
            Content::Blob(size) => *size,
        };
        let mut reader = store.open_blob(digest, 0)?;
        self.header(&path, tar::EntryType::Regular, 0o644, size)?;
        let mut buffer = vec![0; BUFFER];
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let got = match reader.read(&mut buffer[..want]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read,
            };
            let got = got.map_err(|source| Error::Io {
                path: path.clone().into(),
                source,
            })?;
            self.0.write_all(&buffer[..got]).map_err(output)?;
            left -= got as u64;
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = usize::try_from(size.wrapping_neg() % 512).expect("less than a block");
        self.0.write_all(&[0; 512][..padding]).map_err(output)
    }

    fn end(&mut self) -> Result<()> {
        self.0
            .write_all(&[0; 1024])
            .and_then(|()| self.0.flush())
            .map_err(output)
    }
}

fn output(source: io::Error) -> Error {
    Error::Io {
        path: "image archive".into(),
        source,
    }
}
