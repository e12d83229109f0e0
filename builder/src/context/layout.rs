//! Images out of an OCI layout directory (image-spec `image-layout.md`), into the store.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Index, Manifest, Platform, media_type};
use cooper_registry::store::{Image, Lease, Store};
use rustix::io::Errno;

use crate::build::{Error, reason};
use crate::tree::{RootHandle, resolve};

/// Longer manifests and indexes are refused.
const MAX_DOCUMENT: u64 = 4 << 20;
/// A longer config is refused.
const MAX_CONFIG: u64 = 8 << 20;
/// Indexes nested deeper are refused.
const MAX_DEPTH: usize = 4;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";
const BUFFER: usize = 256 << 10;

/// Copies an image with its layers from the layout at `path` into the store, where `lease` keeps it, and gives it.
///
/// `reference` is a tag, a digest, or `tag@digest`, of which the digest counts; without one the manifest tagged `latest`
/// or the only one is taken. Of an index the child for `platform` is taken. Every file is opened inside the directory,
/// read no further than its descriptor says, and must have its digest.
pub(crate) fn load_layout(
    store: &Store,
    lease: &Lease,
    path: &Path,
    reference: Option<&str>,
    platform: &Platform,
    cancelled: &AtomicBool,
) -> Result<Image, Error> {
    let layout = Layout {
        root: RootHandle::open_host(path)?,
        store,
        lease,
        cancelled,
    };
    let index: Index = layout.json("index.json".as_ref(), MAX_DOCUMENT)?.0;
    let mut found = choose(&index, reference)?;
    for _ in 0..MAX_DEPTH {
        if !is_index(&found) {
            return layout.image(&found, platform);
        }
        let (index, _): (Index, _) = layout.document(&found)?;
        found = child(&index, platform)?;
    }
    Err(problem("its indexes are nested too deeply"))
}

fn problem(text: impl std::fmt::Display) -> Error {
    Error::Source(format!("OCI layout: {text}"))
}

fn is_index(descriptor: &Descriptor) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&descriptor.media_type.as_str())
}

fn choose(index: &Index, reference: Option<&str>) -> Result<Descriptor, Error> {
    let tagged = |tag: &str| {
        let has = |descriptor: &&Descriptor| {
            let name = |key: &str| descriptor.annotations.get(key).map(String::as_str);
            name(REF_NAME) == Some(tag)
                || [name(REF_NAME), name(IMAGE_NAME)]
                    .into_iter()
                    .flatten()
                    .any(|name| name.rsplit_once(':').is_some_and(|(_, end)| end == tag))
        };
        index.manifests.iter().find(has)
    };
    let found = match reference.map(|text| (text, text.rsplit_once('@').map_or(text, |(_, digest)| digest))) {
        None => tagged("latest").or(match index.manifests.as_slice() {
            [only] => Some(only),
            _ => None,
        }),
        Some((text, digest)) => match digest.parse::<Digest>() {
            Ok(digest) => index
                .manifests
                .iter()
                .find(|descriptor| descriptor.digest == digest),
            Err(_) => tagged(text),
        },
    };
    found.cloned().ok_or_else(|| match reference {
        Some(reference) => problem(format_args!("index.json has no manifest {reference:?}")),
        None => problem("index.json has several manifests, and none is tagged \"latest\""),
    })
}

/// An exact variant before any other.
fn child(index: &Index, wanted: &Platform) -> Result<Descriptor, Error> {
    let wanted = wanted.normalized();
    let rank = |descriptor: &&Descriptor| match &descriptor.platform {
        Some(platform) if platform.normalized() == wanted => Some(0),
        Some(platform) if platform.same_machine(&wanted) => Some(1),
        None => Some(2),
        Some(_) => None,
    };
    let children = index.manifests.iter().filter(|child| rank(child).is_some());
    let best = children.min_by_key(rank);
    best.cloned()
        .ok_or_else(|| problem(format_args!("no image for platform {wanted}")))
}

struct Layout<'a> {
    root: RootHandle,
    store: &'a Store,
    lease: &'a Lease,
    cancelled: &'a AtomicBool,
}

impl Layout<'_> {
    fn image(&self, descriptor: &Descriptor, platform: &Platform) -> Result<Image, Error> {
        let (manifest, bytes): (Manifest, _) = self.document(descriptor)?;
        if manifest.config.size > MAX_CONFIG {
            let size = manifest.config.size;
            return Err(problem(format_args!(
                "its config has {size} bytes, more than {MAX_CONFIG}"
            )));
        }
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.blob(blob)?;
        }
        // Leased before it is there, so that a collection in between keeps it.
        self.lease.manifest(&descriptor.digest)?;
        self.store
            .put_hidden_manifest(&descriptor.media_type, &bytes, Some(&descriptor.digest))?;
        Ok(self.store.manifest_image(&descriptor.digest, platform)?)
    }

    /// Copies a blob that the store lacks.
    fn blob(&self, descriptor: &Descriptor) -> Result<(), Error> {
        let digest = &descriptor.digest;
        self.lease.blob(digest)?;
        if self.store.blob_info(digest)?.is_some() {
            return Ok(());
        }
        let mut file = self
            .open(&blob_path(digest))?
            .take(descriptor.size.saturating_add(1));
        let mut ingest = self.store.ingest()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let read = file.read(&mut buffer);
            match read.map_err(|error| Error::io(&blob_path(digest), &error))? {
                0 => break,
                length => ingest.write(&buffer[..length])?,
            }
        }
        if ingest.len() != descriptor.size {
            let expected = descriptor.size;
            return Err(problem(format_args!(
                "blob {digest} does not have the {expected} bytes that its manifest says"
            )));
        }
        ingest.commit(Some(digest))?;
        Ok(())
    }

    /// A manifest or index, which must have the digest that leads to it.
    fn document<T: serde::de::DeserializeOwned>(
        &self,
        descriptor: &Descriptor,
    ) -> Result<(T, Vec<u8>), Error> {
        let (value, bytes) = self.json(&blob_path(&descriptor.digest), MAX_DOCUMENT)?;
        let mut hasher = descriptor.digest.algorithm().hasher();
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != descriptor.digest {
            let expected = &descriptor.digest;
            return Err(problem(format_args!("blob {expected} has digest {found}")));
        }
        Ok((value, bytes))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &Path, limit: u64) -> Result<(T, Vec<u8>), Error> {
        let mut bytes = Vec::new();
        let read = self.open(path)?.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::io(path, &error))?;
        let name = path.display();
        if bytes.len() as u64 > limit {
            return Err(problem(format_args!("{name} is longer than {limit} bytes")));
        }
        let value =
            serde_json::from_slice(&bytes).map_err(|error| problem(format_args!("{name}: {error}")))?;
        Ok((value, bytes))
    }

    fn open(&self, path: &Path) -> Result<std::fs::File, Error> {
        let failed = |errno: Errno| problem(format_args!("open {}: {}", path.display(), reason(errno)));
        let found = resolve(&self.root, path).map_err(failed)?;
        self.root.open_file(&found.real).map_err(|errno| match errno {
            Errno::INVAL => problem(format_args!("{} is not a regular file", path.display())),
            errno => failed(errno),
        })
    }
}

fn blob_path(digest: &Digest) -> PathBuf {
    Path::new("blobs")
        .join(digest.algorithm().as_str())
        .join(digest.hex())
}
