//! The set of containers of one data root.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::delete::delete_tree;
use super::error::{Context, Error};
use super::layout::Layout;
use super::names::{Names, is_id};
use crate::spec::ContainerSpec;

/// All containers of one data root. Cheap to clone; keeps nothing in memory.
#[derive(Debug, Clone)]
pub struct Containers {
    pub(super) data: PathBuf,
    pub(super) exec: PathBuf,
}

impl Containers {
    /// Opens (and makes, when missing) `data`, usually `<data-root>/containers`, and `exec`, the `<exec-root>` for
    /// sockets. Clears what crashed engines and supervisors left half-made or half-deleted.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(data: &Path, exec: &Path) -> Result<Self, Error> {
        make_dir(data, 0o710)?;
        make_dir(&data.join("names"), 0o700)?;
        prepare_exec_root(exec)?;
        make_dir(&Layout::exec_index(exec), 0o700)?;
        let containers = Self {
            data: data.to_path_buf(),
            exec: exec.to_path_buf(),
        };
        containers.sweep();
        Ok(containers)
    }

    /// Directory of one container: the engine may keep own files there (`config.json`).
    pub fn dir(&self, id: &str) -> PathBuf {
        self.data.join(id)
    }

    /// Ids of all visible containers, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.data).context("read", &self.data)?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter(|name| is_id(name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Name of a container.
    ///
    /// # Errors
    /// [`Error::NotFound`], or its directory cannot be read.
    pub fn name(&self, id: &str) -> Result<String, Error> {
        self.layout(id)?.read_name()
    }

    /// Id for a full id, a name (with or without Docker's leading slash) or a unique prefix of an id, in this order.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Ambiguous`].
    pub fn resolve(&self, name_or_prefix: &str) -> Result<String, Error> {
        let wanted = name_or_prefix.strip_prefix('/').unwrap_or(name_or_prefix);
        if is_id(wanted) && self.dir(wanted).is_dir() {
            return Ok(wanted.to_owned());
        }
        if let Some(id) = Names::new(&self.data)
            .holder(wanted)
            .filter(|id| self.dir(id).is_dir())
        {
            return Ok(id);
        }
        if wanted.is_empty() {
            return Err(Error::NotFound(name_or_prefix.to_owned()));
        }
        let mut matches = self.list()?.into_iter().filter(|id| id.starts_with(wanted));
        match (matches.next(), matches.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(Error::Ambiguous(wanted.to_owned())),
            (None, _) => Err(Error::NotFound(name_or_prefix.to_owned())),
        }
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::InvalidName`], [`Error::NotFound`].
    pub fn rename(&self, id: &str, name: &str) -> Result<(), Error> {
        let layout = self.layout(id)?;
        let _lock = self.lock_dir(id)?;
        let old = layout.read_name()?;
        let names = Names::new(&self.data);
        names.reserve(name, id)?;
        let temporary = layout.dir.join("name.tmp");
        let written = fs::write(&temporary, name).and_then(|()| fs::rename(&temporary, layout.name()));
        if let Err(error) = written {
            names.release(name, id);
            return Err(error).context("write", layout.name());
        }
        names.release(&old, id);
        self.tell(id, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// What the container was created with, and what was changed since ([`Containers::update`]).
    ///
    /// # Errors
    /// [`Error::NotFound`], or the file is damaged or from a newer version.
    pub fn spec(&self, id: &str) -> Result<ContainerSpec, Error> {
        self.layout(id)?.read_spec()
    }

    /// Log path (json-file format as dockerd writes it, rotated files `.1`, `.2`).
    pub fn log_path(&self, id: &str) -> PathBuf {
        Layout::of_dir(&self.dir(id)).log(id)
    }

    /// The files of an existing container.
    pub(super) fn layout(&self, id: &str) -> Result<Layout, Error> {
        if is_id(id) && self.dir(id).is_dir() {
            Ok(Layout::of_dir(&self.dir(id)))
        } else {
            Err(Error::NotFound(id.to_owned()))
        }
    }

    /// The right to start, rename or remove the container; held for milliseconds.
    pub(super) fn lock_dir(&self, id: &str) -> Result<File, Error> {
        let path = self.dir(id);
        let dir = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(id.to_owned()));
            }
            result => result.context("open", &path)?,
        };
        flock(&dir, FlockOperation::LockExclusive).context("lock", &path)?;
        // It may have been removed while we waited.
        if path.is_dir() {
            Ok(dir)
        } else {
            Err(Error::NotFound(id.to_owned()))
        }
    }

    /// Deletes `.tmp-*` and `.rm-*` directories that nobody works on: their owner holds a lock on them.
    fn sweep(&self) {
        // A creator holds this lock until it has locked its own directory; if one is at it now, the next engine sweeps.
        let Ok(data) = File::open(&self.data) else { return };
        if flock(&data, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(&self.data).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let leftover = name
                .to_str()
                .is_some_and(|name| name.starts_with(".tmp-") || name.starts_with(".rm-"));
            let Some(dir) = leftover.then(|| File::open(entry.path()).ok()).flatten() else {
                continue;
            };
            if flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()
                && !supervisor_lives(&entry.path())
            {
                leftovers.push((entry.path(), dir));
            }
        }
        drop(data);
        for (path, _lock) in leftovers {
            let _ = delete_tree(&path);
        }
    }
}

/// Whether the supervisor that renamed this directory away is still deleting it.
fn supervisor_lives(dir: &Path) -> bool {
    File::open(Layout::of_dir(dir).lock())
        .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// flock(2), not disturbed by signals.
pub(crate) fn flock(file: &File, operation: FlockOperation) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation))
}

/// Makes the exec root and its empty directory, and clears what killed build steps left.
pub(crate) fn prepare_exec_root(exec: &Path) -> Result<(), Error> {
    make_dir(exec, 0o700)?;
    crate::scratch::sweep(exec);
    make_dir(&Layout::empty_dir(exec), 0o755)
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).context("create", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("set the mode of", path)
}
