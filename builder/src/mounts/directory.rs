//! The directory of all cache mounts.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cooper_registry::store::Store;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::identity::MountIdentity;
use super::lock::Lock;
use crate::build::Error;

const FORMAT: &str = "cooper-cache-mounts 1\n";
const VERSION: u32 = 1;
/// A longer `mount.json` is none of ours.
const MAX_RECORD: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    #[serde(flatten)]
    identity: MountIdentity,
}

/// Handle on the cache mounts of a store; any number of processes may have one.
#[derive(Debug, Clone)]
pub struct CacheMounts {
    pub(super) root: PathBuf,
}

impl CacheMounts {
    /// Opens the directory, making it if there is none, and removes what a crash left in its trash.
    ///
    /// # Errors
    /// Another format, or what the file system says.
    pub fn open(store: &Store) -> Result<Self, Error> {
        let mounts = Self {
            root: store.root().join("cache-mounts"),
        };
        for dir in [mounts.root.clone(), mounts.mounts(), mounts.trash()] {
            make_dir(&dir, 0o700)?;
        }
        let _lock = mounts.lock()?;
        let format = mounts.root.join("format");
        match read(&format, 64)? {
            None => write(&mounts.root, "format", FORMAT.as_bytes())?,
            Some(found) if found == FORMAT.as_bytes() => {}
            Some(found) => {
                let found = String::from_utf8_lossy(&found).trim_end().to_owned();
                return Err(Error::Source(format!(
                    "{}: format {found:?} is not known, expected {:?}",
                    format.display(),
                    FORMAT.trim_end()
                )));
            }
        }
        mounts.sweep()?;
        Ok(mounts)
    }

    /// Opens the directory if there is one, without writing anything: for those who make room.
    ///
    /// # Errors
    /// Those of [`CacheMounts::open`].
    pub fn open_existing(store: &Store) -> Result<Option<Self>, Error> {
        match read(&store.root().join("cache-mounts/format"), 64)? {
            None => Ok(None),
            Some(_) => Self::open(store).map(Some),
        }
    }

    pub(super) fn lock(&self) -> Result<Lock, Error> {
        Lock::wait(&self.root.join("lock"))
    }

    pub(super) fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(super) fn mount(&self, key: &str) -> PathBuf {
        self.mounts().join(key)
    }

    /// What `mount.json` says; none for a mount that is not there or cannot be read.
    pub(super) fn identity(&self, key: &str) -> Result<Option<MountIdentity>, Error> {
        let Some(bytes) = read(&self.mount(key).join("mount.json"), MAX_RECORD)? else {
            return Ok(None);
        };
        let record = serde_json::from_slice::<Record>(&bytes).ok();
        let known = record.filter(|record| record.version == VERSION && record.identity.key() == key);
        Ok(known.map(|record| record.identity))
    }

    /// Makes the directory of a mount, if there is none. The caller holds the lock.
    pub(super) fn make_mount(&self, identity: &MountIdentity) -> Result<PathBuf, Error> {
        let key = identity.key();
        let dir = self.mount(&key);
        make_dir(&dir, 0o700)?;
        if self.identity(&key)?.is_none() {
            let record = Record {
                version: VERSION,
                identity: identity.clone(),
            };
            let bytes = serde_json::to_vec(&record).map_err(|error| Error::internal(error.to_string()))?;
            write(&dir, "mount.json", &bytes)?;
        }
        Ok(dir)
    }

    /// Numbers of a mount's instances, ascending.
    pub(super) fn instances(&self, key: &str) -> Result<Vec<u32>, Error> {
        let names = names(&self.mount(key))?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A new directory in the trash, kept while its lock is held.
    pub(super) fn scratch(&self) -> Result<(PathBuf, Lock), Error> {
        let _lock = self.lock()?;
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("random bytes: {error}")))?;
        let dir = self.trash().join(cooper_registry::digest::to_hex(&bytes));
        make_dir(&dir, 0o700)?;
        let held = Lock::wait(&dir.join("lock"))?;
        Ok((dir, held))
    }

    /// Moves a directory with a `lock` that the caller holds to the trash.
    pub(super) fn set_aside(&self, dir: &Path) -> Result<PathBuf, Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("random bytes: {error}")))?;
        let aside = self.trash().join(cooper_registry::digest::to_hex(&bytes));
        fs::rename(dir, &aside).map_err(|error| Error::io(dir, &error))?;
        Ok(aside)
    }

    /// Removes what nobody holds. The caller holds the lock.
    fn sweep(&self) -> Result<(), Error> {
        for name in names(&self.trash())? {
            let dir = self.trash().join(&name);
            match Lock::attempt(&dir.join("lock"), false) {
                Ok(Some(_)) => remove(&dir)?,
                // Whoever held it has just removed it.
                Ok(None)
                | Err(Error::File {
                    errno: Errno::NOENT, ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        for key in names(&self.mounts())? {
            if self.identity(&key)?.is_none() {
                remove(&self.set_aside(&self.mount(&key))?)?;
            }
        }
        Ok(())
    }
}

/// Names in a directory, none if it is not there.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| Error::io(dir, &error))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(dir, &error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|error| Error::io(path, &error)),
    }
}

/// Removes a directory of the trash. Whoever sweeps at the same time may make its `lock` anew, so it may take some attempts.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    const ATTEMPTS: usize = 100;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && attempt < ATTEMPTS => {}
            other => return other.map_err(|error| Error::io(path, &error)),
        }
    }
}

fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        other => other.map_err(|error| Error::io(path, &error))?,
    };
    let mut bytes = Vec::new();
    let read = file.take(limit).read_to_end(&mut bytes);
    read.map_err(|error| Error::io(path, &error))?;
    Ok(Some(bytes))
}

/// Whole or not at all.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let temporary = dir.join(format!(".{name}"));
    let path = dir.join(name);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_data()
        })
        .and_then(|()| fs::rename(&temporary, &path));
    written.map_err(|error| Error::io(&path, &error))
}
