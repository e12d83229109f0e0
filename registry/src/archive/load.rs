//! Reading archives.

use std::io::Read;

use super::compression::{self, Compression, read_error};
use super::layout::{Entry, IMAGE_NAME, INDEX, MANIFEST, OCI_LAYOUT, REF_NAME};
use super::reader::Files;
use crate::digest::{Algorithm, DiffId, Digest};
use crate::oci::{Descriptor, ImageConfig, Index, Manifest, media_type};
use crate::reference::{ImageRef, RepoName, Tag};
use crate::store::{Error, Result, Store};

const MAX_MANIFEST_BYTES: u64 = 4 << 20;
const MAX_CONFIG_BYTES: u64 = 8 << 20;
const MAX_DEPTH: usize = 4;

/// One loaded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// A name that now points to it.
    Name(ImageRef),
    /// It came without a name: its id.
    Id(Digest),
}

/// Reads a docker-archive or OCI layout tar (plain, gzip or zstd), streaming; returns what was loaded, a name or an id
/// for each. An archive that is both is read as OCI layout, which keeps the manifests byte-exact; images of a
/// docker-archive get the manifest that Docker gives them.
///
/// # Errors
/// A broken or hostile archive, missing parts, contents that do not have their digests. Nothing is named then, except
/// images that came before in the archive's own list.
pub fn load(store: &Store, tar: &mut dyn Read) -> Result<Vec<Loaded>> {
    let files = Files::read(store, tar)?;
    let entries = match files.json(MANIFEST) {
        Some(bytes) => parse::<Vec<Entry>>(MANIFEST, bytes)?,
        None => Vec::new(),
    };
    let loader = Loader {
        store,
        files: &files,
        entries: &entries,
    };
    let loaded = match files.json(INDEX) {
        Some(index) if files.json(OCI_LAYOUT).is_some() => loader.layout(&parse(INDEX, index)?)?,
        _ if files.json(MANIFEST).is_some() => loader.docker()?,
        _ => {
            let message =
                "neither manifest.json (docker-archive) nor oci-layout and index.json (OCI layout) in it";
            return Err(Error::Archive(message.into()));
        }
    };
    Ok(loaded)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Archive(format!("{name}: {error}")))
}

fn named(tag: &str) -> Result<ImageRef> {
    let name: ImageRef = tag.parse()?;
    match name.tag_or_latest() {
        Some(tag) => Ok(ImageRef {
            repo: name.repo,
            tag: Some(tag),
            digest: None,
        }),
        None => Err(Error::Archive(format!("name {tag:?} has no tag"))),
    }
}

struct Loader<'a> {
    store: &'a Store,
    files: &'a Files,
    entries: &'a [Entry],
}

impl Loader<'_> {
    fn layout(&self, index: &Index) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        for descriptor in &index.manifests {
            let names = self.names(descriptor)?;
            if names.is_empty() {
                self.document(descriptor, None, &[], 0)?;
                loaded.push(Loaded::Id(descriptor.digest.clone()));
            }
            for name in names {
                self.document(descriptor, Some(&name.repo), name.tag.as_slice(), 0)?;
                loaded.push(Loaded::Name(name));
            }
        }
        loaded.dedup();
        Ok(loaded)
    }

    /// The names of an image of an OCI layout: containerd's annotation, the specification's if it is a whole name (a
    /// tag alone names nothing), or those that manifest.json has for the same config.
    fn names(&self, descriptor: &Descriptor) -> Result<Vec<ImageRef>> {
        if let Some(name) = descriptor.annotations.get(IMAGE_NAME) {
            return Ok(vec![named(name)?]);
        }
        if let Some(name) = descriptor
            .annotations
            .get(REF_NAME)
            .filter(|name| name.contains([':', '/']))
        {
            return Ok(vec![named(name)?]);
        }
        if is_index(descriptor) || self.entries.is_empty() {
            return Ok(Vec::new());
        }
        let manifest: Manifest = self.manifest(descriptor)?.1;
        let mut names = Vec::new();
        for entry in self.entries {
            if *self.files.blob(&entry.config)? == manifest.config.digest {
                for tag in entry.repo_tags.iter().flatten() {
                    names.push(named(tag)?);
                }
            }
        }
        Ok(names)
    }

    fn manifest<T: serde::de::DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, T)> {
        let Descriptor { digest, .. } = descriptor;
        let bytes = match self.store.read_blob(digest, MAX_MANIFEST_BYTES) {
            Err(Error::NoSuchBlob(_)) => return Err(Error::Archive(format!("manifest {digest} is missing"))),
            read => read?,
        };
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::InvalidManifest(format!("{digest}: {error}")))?;
        Ok((bytes, value))
    }

    /// Puts a document after what it consists of.
    fn document(
        &self,
        descriptor: &Descriptor,
        repo: Option<&RepoName>,
        tags: &[Tag],
        depth: usize,
    ) -> Result<()> {
        let bytes = if is_index(descriptor) {
            let (bytes, index) = self.manifest::<Index>(descriptor)?;
            if depth >= MAX_DEPTH {
                return Err(Error::Archive(format!(
                    "indexes are nested more than {MAX_DEPTH} deep"
                )));
            }
            let mut present = 0;
            for child in &index.manifests {
                if self.store.blob_info(&child.digest)?.is_some() {
                    self.document(child, repo, &[], depth + 1)?;
                    present += 1;
                }
            }
            if present == 0 && !index.manifests.is_empty() {
                return Err(Error::Archive(format!(
                    "none of the images of index {} is in it",
                    descriptor.digest
                )));
            }
            bytes
        } else {
            let (bytes, manifest) = self.manifest::<Manifest>(descriptor)?;
            self.check(&descriptor.digest, &manifest)?;
            bytes
        };
        self.store.put_manifest(
            repo,
            &descriptor.media_type,
            &bytes,
            Some(&descriptor.digest),
            tags,
        )?;
        Ok(())
    }

    /// Whether all blobs of an image are there, and the config is of these layers.
    fn check(&self, digest: &Digest, manifest: &Manifest) -> Result<()> {
        let layers = manifest.layers.iter().filter(|layer| layer.urls.is_empty());
        for blob in std::iter::once(&manifest.config).chain(layers) {
            self.files.lease.blob(&blob.digest)?;
            let Some(info) = self.store.blob_info(&blob.digest)? else {
                return Err(Error::Archive(format!(
                    "blob {} of image {digest} is missing",
                    blob.digest
                )));
            };
            if info.size != blob.size {
                let (got, expected) = (info.size, blob.size);
                let message = format!(
                    "{digest}: blob {} has {got} bytes, expected {expected}",
                    blob.digest
                );
                return Err(Error::InvalidManifest(message));
            }
        }
        if [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG].contains(&manifest.config.media_type.as_str())
        {
            let config = self.config(&manifest.config.digest)?;
            same_count(digest, config.rootfs.diff_ids.len(), manifest.layers.len())?;
        }
        Ok(())
    }

    fn config(&self, digest: &Digest) -> Result<ImageConfig> {
        let bytes = self.store.read_blob(digest, MAX_CONFIG_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::InvalidManifest(format!("config {digest}: {error}")))
    }

    fn docker(&self) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        for entry in self.entries {
            let names = entry.repo_tags.iter().flatten().map(|tag| named(tag));
            let names = names.collect::<Result<Vec<_>>>()?;
            let (media_type, bytes) = self.assemble(entry)?;
            if names.is_empty() {
                let stored = self.store.put_manifest(None, media_type, &bytes, None, &[])?;
                loaded.push(Loaded::Id(stored.digest));
            }
            for name in names {
                self.store
                    .put_manifest(Some(&name.repo), media_type, &bytes, None, name.tag.as_slice())?;
                loaded.push(Loaded::Name(name));
            }
        }
        Ok(loaded)
    }

    /// The manifest of a docker-archive image, as containerd's import and so Docker make it.
    fn assemble(&self, entry: &Entry) -> Result<(&'static str, Vec<u8>)> {
        let digest = self.files.blob(&entry.config)?;
        let config = self.config(digest)?;
        let paths = entry.layers.as_deref().unwrap_or_default();
        same_count(digest, config.rootfs.diff_ids.len(), paths.len())?;
        let mut layers = Vec::with_capacity(paths.len());
        for (path, expected) in paths.iter().zip(&config.rootfs.diff_ids) {
            layers.push(self.layer(path, expected)?);
        }
        // Docker's types have no zstd: such an image is OCI throughout.
        let zstd = layers
            .iter()
            .any(|layer| layer.media_type == media_type::OCI_LAYER_ZSTD);
        let (kind, config_kind) = if zstd {
            for layer in &mut layers {
                layer.media_type = match layer.media_type.as_str() {
                    media_type::DOCKER_LAYER => media_type::OCI_LAYER,
                    media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
                    _ => media_type::OCI_LAYER_ZSTD,
                }
                .to_owned();
            }
            (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
        } else {
            (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(kind.to_owned()),
            artifact_type: None,
            config: Descriptor::new(config_kind, digest.clone(), self.size(digest)?),
            layers,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let bytes =
            serde_json::to_vec(&manifest).map_err(|error| Error::InvalidManifest(error.to_string()))?;
        Ok((kind, bytes))
    }

    /// A layer of a docker-archive: its DiffID must be the config's.
    fn layer(&self, path: &str, expected: &DiffId) -> Result<Descriptor> {
        let digest = self.files.blob(path)?;
        let (kind, mut plain) = compression::open(self.store.open_blob(digest, 0)?)?;
        // A plain blob was hashed when it came in.
        let got = if kind == Compression::Plain && digest.algorithm() == expected.digest().algorithm() {
            digest.clone()
        } else {
            hash(&mut plain, expected.digest().algorithm())?
        };
        if got != *expected.digest() {
            return Err(Error::DigestMismatch {
                expected: expected.digest().clone(),
                got,
            });
        }
        Ok(Descriptor::new(
            kind.layer_type(),
            digest.clone(),
            self.size(digest)?,
        ))
    }

    fn size(&self, digest: &Digest) -> Result<u64> {
        Ok(self
            .store
            .blob_info(digest)?
            .ok_or_else(|| Error::NoSuchBlob(digest.clone()))?
            .size)
    }
}

fn is_index(descriptor: &Descriptor) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&descriptor.media_type.as_str())
}

fn same_count(digest: &Digest, diff_ids: usize, layers: usize) -> Result<()> {
    if diff_ids == layers {
        return Ok(());
    }
    Err(Error::InvalidManifest(format!(
        "{digest}: the config lists {diff_ids} layers, the image has {layers}"
    )))
}

fn hash(stream: &mut dyn Read, algorithm: Algorithm) -> Result<Digest> {
    let mut hasher = algorithm.hasher();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(got) => hasher.update(&buffer[..got]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(error)),
        }
    }
}
