//! Paths below the store directory, and making and recognising one.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::confined;
use super::error::{Error, IoContext, Result};
use crate::digest::{Algorithm, ChainId, DiffId, Digest};

/// Content of the `format` file.
pub(super) const FORMAT: &str = "cooper-store 1\n";

/// How a layer directory is addressed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum LayerKey {
    /// Independent of what lies below it.
    Diff(DiffId),
    /// Only right on top of its parents.
    Chain(ChainId),
}

impl LayerKey {
    fn parts(&self) -> (&'static str, &Digest) {
        match self {
            Self::Diff(id) => (id.0.algorithm().as_str(), &id.0),
            Self::Chain(id) => match id.0.algorithm() {
                Algorithm::Sha256 => ("chain-sha256", &id.0),
                Algorithm::Sha512 => ("chain-sha512", &id.0),
            },
        }
    }

    /// The key of the directory `kind`/`hex`.
    pub(super) fn parse(kind: &str, hex: &str) -> Option<Self> {
        match kind.strip_prefix("chain-") {
            Some(algorithm) => format!("{algorithm}:{hex}").parse().ok().map(Self::Chain),
            None => format!("{kind}:{hex}").parse().ok().map(Self::Diff),
        }
    }

    /// File name of its unpack lock.
    pub(super) fn lock_name(&self) -> String {
        let (kind, digest) = self.parts();
        format!("{kind}-{}", digest.hex())
    }
}

/// Directories of layers, by how they are addressed.
pub(super) const LAYER_KINDS: [&str; 4] = ["sha256", "sha512", "chain-sha256", "chain-sha512"];
/// Algorithms of blobs.
pub(super) const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// Paths of one store.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    /// Opens the store at `root`, making one if there is none.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let layout = Self {
            root: root.to_owned(),
        };
        match read_format(&layout.root.join("format"))? {
            Some(found) if found == FORMAT => {
                layout.check_ids()?;
                Ok(layout)
            }
            Some(found) => Err(Error::Format {
                root: layout.root,
                found: found.trim_end().to_owned(),
                expected: FORMAT.trim_ascii_end(),
            }),
            None => {
                layout.create()?;
                Ok(layout)
            }
        }
    }

    /// Idempotent, and safe when several processes do it at once: the format file comes last and whole.
    fn create(&self) -> Result<()> {
        if let Some(parent) = self.root.parent() {
            fs::create_dir_all(parent).at(parent)?;
        }
        make_dir(&self.root, 0o710)?;
        for name in [
            "blobs",
            "layers",
            "ingest",
            "snapshots",
            "leases",
            "locks",
            "trash",
        ] {
            make_dir(&self.root.join(name), 0o700)?;
        }
        for algorithm in ALGORITHMS {
            make_dir(&self.root.join("blobs").join(algorithm.as_str()), 0o700)?;
        }
        for kind in LAYER_KINDS {
            make_dir(&self.root.join("layers").join(kind), 0o700)?;
        }
        super::reserve::renew(self);
        self.write_ids(&confined::ids())?;
        let temporary = self.root.join(format!(".format-{}", random_id()?));
        write_file(&temporary, FORMAT.as_bytes(), true)?;
        let path = self.root.join("format");
        fs::rename(&temporary, &path).at(&path)?;
        sync_dir(&self.root)
    }

    /// A layer means something only with the ids it was made with, and only where overlayfs looks for the same marks. More
    /// ids than there were are fine: an administrator has added some.
    fn check_ids(&self) -> Result<()> {
        let path = self.root.join("ids");
        let found = match fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => {
                let mut text = String::new();
                other
                    .at(&path)?
                    .take(1 << 16)
                    .read_to_string(&mut text)
                    .at(&path)?;
                text
            }
        };
        let here = confined::ids();
        if found == here {
            return Ok(());
        }
        let extended = !found.is_empty()
            && found
                .split(", ")
                .all(|range| here.split(", ").any(|own| own == range));
        if extended {
            return self.write_ids(&here);
        }
        Err(Error::Ids {
            root: self.root.clone(),
            found,
            here,
        })
    }

    /// Nothing for root's.
    fn write_ids(&self, ids: &str) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let temporary = self.root.join(format!(".ids-{}", random_id()?));
        write_file(&temporary, ids.as_bytes(), true)?;
        let path = self.root.join("ids");
        fs::rename(&temporary, &path).at(&path)
    }

    pub(super) fn blob_dir(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest.algorithm()).join(digest.hex())
    }

    pub(super) fn layer_kind(&self, kind: &str) -> PathBuf {
        self.root.join("layers").join(kind)
    }

    pub(super) fn layer(&self, key: &LayerKey) -> PathBuf {
        let (kind, digest) = key.parts();
        self.layer_kind(kind).join(digest.hex())
    }

    pub(super) fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.db")
    }

    pub(super) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    pub(super) fn gc_lock(&self) -> PathBuf {
        self.root.join("locks").join("gc")
    }

    pub(super) fn layer_lock(&self, key: &LayerKey) -> PathBuf {
        self.root.join("locks").join(key.lock_name())
    }
}

fn read_format(path: &Path) -> Result<Option<String>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.at(path)?,
    };
    let mut bytes = Vec::new();
    file.take(64).read_to_end(&mut bytes).at(path)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Makes a directory with exactly `mode`; an existing one is left alone.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io(path, error)),
        // The umask must not decide.
        Ok(()) => fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).at(path),
    }
}

/// Writes a new file of mode 0600, durably if `sync`.
pub(super) fn write_file(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .at(path)?;
    file.write_all(bytes).at(path)?;
    if sync { file.sync_all().at(path) } else { Ok(()) }
}

/// Makes renames and new names in `path` durable.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|dir| dir.sync_all()).at(path)
}

/// 128 random bits in hex; unguessable, because upload sessions are named by it.
pub(super) fn random_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::io("random", std::io::Error::other(error.to_string())))?;
    Ok(crate::digest::to_hex(&bytes))
}

/// Unix seconds now.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
