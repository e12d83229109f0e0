//! Run-time directories of build steps: `<exec-root>/build-<id>/` with the files that are bound into the sandbox.
//!
//! Its owner holds a flock on the directory, which the kernel drops with the process; directories whose lock is free are
//! removed by whoever next prepares the exec root. The supervisor of a step cannot be relied on for that: its caller may be
//! killed before it knows of the step, or after it has finished it. A creator holds a shared lock on the exec root until it
//! has locked its own directory, so that a sweep, which holds it exclusively, never meets one in between.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::container::{Error, flock, host_resolv_conf, hosts_file};
use crate::spec::ContainerSpec;

const PREFIX: &str = "build-";

/// Files bound into the sandbox; removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    /// Held for life.
    _lock: File,
}

impl Scratch {
    /// `hosts` are added to `/etc/hosts`: name and address.
    pub(crate) fn new(
        exec_root: &Path,
        spec: &ContainerSpec,
        hosts: &[(String, String)],
    ) -> Result<Self, Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Error::Supervisor(format!("get random bytes: {error}")))?;
        let dir = exec_root.join(format!("{PREFIX}{:016x}", u64::from_ne_bytes(random)));
        let failed = |source: io::Error| Error::Io {
            action: "write",
            path: dir.clone(),
            source,
        };
        let scratch = Self::create(exec_root, &dir).map_err(failed)?;
        let mut known = hosts_file(&spec.hostname);
        for (name, address) in hosts {
            known.push_str(&format!("{address}\t{name}\n"));
        }
        for (name, content) in [("hosts", known.into_bytes()), ("resolv.conf", host_resolv_conf())] {
            let path = dir.join(name);
            fs::write(&path, content).map_err(failed)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(failed)?;
        }
        Ok(scratch)
    }

    fn create(exec_root: &Path, dir: &Path) -> io::Result<Self> {
        let root = File::open(exec_root)?;
        flock(&root, FlockOperation::LockShared)?;
        fs::DirBuilder::new().mode(0o700).create(dir)?;
        let lock = File::open(dir)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn files(&self) -> Vec<(PathBuf, PathBuf)> {
        ["hosts", "resolv.conf"]
            .map(|name| (Path::new("/etc").join(name), self.dir.join(name)))
            .into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes the directories of owners that are gone. What cannot be removed now is left for the next one.
pub(crate) fn sweep(exec_root: &Path) {
    let is_scratch = |entry: &fs::DirEntry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
    };
    let entries = fs::read_dir(exec_root).into_iter().flatten().flatten();
    let found: Vec<PathBuf> = entries.filter(is_scratch).map(|entry| entry.path()).collect();
    if found.is_empty() {
        return;
    }
    // If somebody makes a directory just now, the next one sweeps.
    let Ok(root) = File::open(exec_root) else { return };
    if flock(&root, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    for path in found {
        if let Ok(dir) = File::open(&path)
            && flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_owns_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let owned = Scratch::create(root.path(), &path("build-owned")).unwrap();
        fs::create_dir(path("build-dead")).unwrap();
        fs::write(path("build-dead/hosts"), "").unwrap();
        fs::create_dir(path("other")).unwrap();
        sweep(root.path());
        let left = || {
            let mut names: Vec<_> = fs::read_dir(root.path())
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(left(), ["build-owned", "other"]);
        drop(owned);
        assert_eq!(left(), ["other"]);
    }
}
