//! An OCI layout in a directory: `oci-layout`, `index.json`, `blobs/<alg>/<hex>` (image-spec `image-layout.md`).
//!
//! Lock rule: a writer holds `.cooper-lock` (flock) from reading `index.json` to replacing it. Crash rule: files appear by
//! rename and blobs before what names them, so a kill leaves at most files that nothing names; the next writer removes
//! them. Nothing in the directory is trusted: links are not followed, reads are bounded, blobs are verified.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cooper_registry::digest::{Algorithm, Digest};
use cooper_registry::oci::{Descriptor, Index, media_type};
use cooper_registry::store::{Lease, Store};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::build::reason;
use crate::tree::RootHandle;

const MAX_INDEX: u64 = 4 << 20;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const TEMPORARY: &str = ".cooper-tmp-";

/// A layout that can be read.
#[derive(Debug)]
pub(super) struct Layout {
    root: RootHandle,
}

/// A layout that nobody else writes to.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) layout: Layout,
    blobs: OwnedFd,
    _lock: OwnedFd,
}

fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: Vec::new(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    }
}

fn blob_path(digest: &Digest) -> PathBuf {
    ["blobs", digest.algorithm().as_str(), digest.hex()]
        .iter()
        .collect()
}

impl Layout {
    /// The layout at `path`; none if there is no such directory.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, String> {
        if !path.is_absolute() {
            return Err(format!("{} is not an absolute path", path.display()));
        }
        if !path.exists() {
            return Ok(None);
        }
        let root = RootHandle::open_host(path).map_err(|error| error.to_string())?;
        Ok(Some(Self { root }))
    }

    /// At most `limit` bytes of a file; none if it does not exist.
    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, String> {
        let fail = |errno| format!("{}: {}", path.display(), reason(errno));
        let file = match self.root.open_file(path) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(fail)?,
        };
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("{}: {error}", path.display()))?;
        if bytes.len() as u64 > limit {
            return Err(format!("{}: more than {limit} bytes", path.display()));
        }
        Ok(Some(bytes))
    }

    fn index(&self) -> Result<Index, String> {
        match self.read(Path::new("index.json"), MAX_INDEX)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("index.json: {error}")),
            None => Ok(empty_index()),
        }
    }

    /// The manifest that `tag` names, or the digest.
    pub(super) fn manifest(&self, reference: &str) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
        let index = self.index()?;
        let named = index.manifests.into_iter().find(|manifest| {
            manifest
                .annotations
                .get(REF_NAME)
                .is_some_and(|name| name == reference)
                || manifest.digest.to_string() == reference
        });
        let Some(descriptor) = named else {
            return Ok(None);
        };
        let bytes = self.verified(&descriptor, MAX_INDEX)?;
        Ok(bytes.map(|bytes| (descriptor, bytes)))
    }

    fn verified(&self, blob: &Descriptor, limit: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(bytes) = self.read(&blob_path(&blob.digest), limit)? else {
            return Ok(None);
        };
        let mut hasher = blob.digest.algorithm().hasher();
        hasher.update(&bytes);
        let got = hasher.finish();
        if got == blob.digest {
            Ok(Some(bytes))
        } else {
            Err(format!("blob {} hashes to {got}", blob.digest))
        }
    }

    /// Copies a blob into the store, verified, and has `lease` keep it.
    pub(super) fn fetch(&self, store: &Store, lease: &Lease, blob: &Descriptor) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| format!("blob {}: {error}", blob.digest);
        lease.blob(&blob.digest).map_err(|error| text(&error))?;
        if store
            .blob_info(&blob.digest)
            .map_err(|error| text(&error))?
            .is_some()
        {
            return Ok(());
        }
        let file = self
            .root
            .open_file(&blob_path(&blob.digest))
            .map_err(|errno| text(&reason(errno)))?;
        let mut file = file.take(blob.size.saturating_add(1));
        let mut ingest = store.ingest().map_err(|error| text(&error))?;
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            let got = file.read(&mut buffer).map_err(|error| text(&error))?;
            if got == 0 {
                break;
            }
            ingest.write(&buffer[..got]).map_err(|error| text(&error))?;
        }
        if ingest.len() != blob.size {
            return Err(text(&format!("{} bytes, expected {}", ingest.len(), blob.size)));
        }
        ingest
            .commit(Some(&blob.digest))
            .map(drop)
            .map_err(|error| text(&error))
    }
}

impl Writer {
    /// Makes the directory if need be and waits until no other process writes to it.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let at = |errno: Errno| format!("{}: {}", path.display(), reason(errno));
        std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let layout = Layout::open(path)?.ok_or_else(|| at(Errno::NOENT))?;
        let root = layout.root.open_dir(Path::new("")).map_err(at)?;
        for dir in ["blobs", "blobs/sha256"] {
            match mkdirat(&root, dir, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(at(errno)),
            }
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(&root, ".cooper-lock", flags, Mode::from_raw_mode(0o644)).map_err(at)?;
        loop {
            match flock(&lock, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                other => break other.map_err(at)?,
            }
        }
        let blobs = layout.root.open_dir(Path::new("blobs/sha256")).map_err(at)?;
        let writer = Self {
            layout,
            blobs,
            _lock: lock,
        };
        if writer.layout.root.stat(Path::new("oci-layout")).is_err() {
            writer.write(
                root.as_fd(),
                "oci-layout",
                &mut &br#"{"imageLayoutVersion":"1.0.0"}"#[..],
            )?;
        }
        Ok(writer)
    }

    /// Writes a file that is seen whole or not at all.
    fn write(&self, dir: impl AsFd, name: &str, source: &mut dyn Read) -> Result<(), String> {
        let at = |errno: Errno| format!("{name}: {}", reason(errno));
        let temporary = format!("{TEMPORARY}{name}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&dir, temporary.as_str(), flags, Mode::from_raw_mode(0o644)).map_err(at)?;
        let mut file = File::from(file);
        std::io::copy(source, &mut file)
            .and_then(|_| file.flush())
            .and_then(|()| file.sync_data())
            .map_err(|error| format!("{name}: {error}"))?;
        renameat(&dir, temporary.as_str(), &dir, name).map_err(at)
    }

    /// Whether the blob is here in its full size, and if it is `doubted`, with the right content.
    pub(super) fn has(&self, blob: &Descriptor, doubted: bool) -> bool {
        let path = blob_path(&blob.digest);
        let stat = self.layout.root.stat(&path);
        stat.is_ok_and(|stat| u64::try_from(stat.st_size) == Ok(blob.size))
            && (!doubted || self.hash(&path, blob.digest.algorithm()).as_ref() == Some(&blob.digest))
    }

    fn hash(&self, path: &Path, algorithm: Algorithm) -> Option<Digest> {
        let mut file = self.layout.root.open_file(path).ok()?;
        let mut hasher = algorithm.hasher();
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            match file.read(&mut buffer).ok()? {
                0 => return Some(hasher.finish()),
                got => hasher.update(&buffer[..got]),
            }
        }
    }

    /// Removes a blob whose content is wrong, so that it is written again.
    pub(super) fn drop_blob(&self, blob: &Descriptor) {
        let _ = unlinkat(&self.blobs, blob.digest.hex(), rustix::fs::AtFlags::empty());
    }

    /// Copies blobs of the store that are not here; those that are in neither place are an error.
    pub(super) fn put(&self, store: &Store, blobs: &[Descriptor]) -> Result<(), String> {
        for blob in blobs {
            if !self.has(blob, false) {
                let mut source = store
                    .open_blob(&blob.digest, 0)
                    .map_err(|error| error.to_string())?;
                self.write(&self.blobs, blob.digest.hex(), &mut *source)?;
            }
        }
        Ok(())
    }

    /// Has `tag` name the manifest, then removes blobs that nothing names.
    pub(super) fn publish(&self, tag: &str, manifest: &Descriptor, bytes: &[u8]) -> Result<(), String> {
        self.write(&self.blobs, manifest.digest.hex(), &mut &*bytes)?;
        // What cannot be read is replaced; `Job::merged` has said so.
        let mut index = self.layout.index().unwrap_or_else(|_| empty_index());
        index
            .manifests
            .retain(|other| other.annotations.get(REF_NAME).is_none_or(|name| name != tag));
        let mut manifest = manifest.clone();
        manifest.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        index.manifests.push(manifest);
        let text = serde_json::to_vec(&index).map_err(|error| error.to_string())?;
        let root = self.layout.root.open_dir(Path::new("")).map_err(reason)?;
        self.write(&root, "index.json", &mut &*text)?;
        self.sweep(&index);
        Ok(())
    }

    /// Removes what no manifest names. If a manifest cannot be understood, nothing is removed.
    fn sweep(&self, index: &Index) {
        let mut named = std::collections::BTreeSet::new();
        let mut queue: Vec<Descriptor> = index.manifests.clone();
        let mut count = 0;
        while let Some(descriptor) = queue.pop() {
            count += 1;
            named.insert(descriptor.digest.hex().to_owned());
            let Ok(Some(bytes)) = self.layout.verified(&descriptor, MAX_INDEX) else {
                return;
            };
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
                return;
            };
            let list = |key: &str| {
                let list = value
                    .get(key)
                    .cloned()
                    .unwrap_or(serde_json::Value::Array(Vec::new()));
                serde_json::from_value::<Vec<Descriptor>>(list)
            };
            let (Ok(layers), Ok(children)) = (list("layers"), list("manifests")) else {
                return;
            };
            named.extend(layers.iter().map(|layer| layer.digest.hex().to_owned()));
            let config = value.get("config").cloned();
            match config.map(serde_json::from_value::<Descriptor>) {
                Some(Ok(config)) => drop(named.insert(config.digest.hex().to_owned())),
                Some(Err(_)) => return,
                None => {}
            }
            if count > 1000 {
                return;
            }
            queue.extend(children);
        }
        for name in self
            .layout
            .root
            .list(Path::new("blobs/sha256"))
            .unwrap_or_default()
        {
            let plain = name.to_string_lossy();
            if !named.contains(&*plain)
                && let Err(errno) = unlinkat(&self.blobs, &name, rustix::fs::AtFlags::empty())
            {
                tracing::debug!(blob = %plain, %errno, "cannot remove a blob of a cache");
            }
        }
    }
}
