//! Creating a container.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

use super::containers::{Containers, flock};
use super::delete::delete_tree;
use super::error::{Context, Error};
use super::layout::{DIR_FORMAT, Layout, host_resolv_conf, hosts_file, write_json};
use super::names::{Names, is_id};
use super::types::State;
use crate::spec::ContainerSpec;

impl Containers {
    /// Reserves the name, makes the directory with `upper` and `work`, writes `spec.json`, state Created. Atomic: a
    /// crash leaves nothing visible. `engine_files`: (file name, bytes) written into the directory before it becomes
    /// visible (e.g. `config.json`); among them `hosts`, `hostname` and `resolv.conf` replace the default ones.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::InvalidName`], [`Error::InvalidId`], or a file cannot be written.
    pub fn create(
        &self,
        name: &str,
        spec: &ContainerSpec,
        engine_files: &[(&str, Vec<u8>)],
    ) -> Result<(), Error> {
        if !is_id(&spec.id) {
            return Err(Error::InvalidId(spec.id.clone()));
        }
        let temporary = Layout::temporary_dir(&self.data, &spec.id);
        let lock = self.make_locked(&temporary)?;
        let names = Names::new(&self.data);
        let result = self.fill(&temporary, name, spec, engine_files, &names);
        if result.is_err() {
            names.release(name, &spec.id);
            let _ = delete_tree(&temporary);
        } else {
            self.tell(&spec.id, "create", &[]);
        }
        drop(lock);
        result
    }

    /// Makes the directory and locks it, which tells sweeping engines that its writer lives. The lock on the parent
    /// covers the moment between the two.
    fn make_locked(&self, temporary: &Path) -> Result<File, Error> {
        let data = File::open(&self.data).context("open", &self.data)?;
        flock(&data, FlockOperation::LockShared).context("lock", &self.data)?;
        make(temporary, 0o710)?;
        let handle = File::open(temporary).context("open", temporary)?;
        flock(&handle, FlockOperation::LockExclusive).context("lock", temporary)?;
        Ok(handle)
    }

    fn fill(
        &self,
        temporary: &Path,
        name: &str,
        spec: &ContainerSpec,
        engine_files: &[(&str, Vec<u8>)],
        names: &Names,
    ) -> Result<(), Error> {
        names.reserve(name, &spec.id)?;
        let layout = Layout::of_dir(temporary);
        let write = |name: &str, bytes: &[u8], mode: u32| {
            let path = temporary.join(name);
            fs::write(&path, bytes)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
                .context("write", &path)
        };
        let given = |name: &str| engine_files.iter().any(|(given, _)| *given == name);
        for (name, bytes) in engine_files {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(Error::Format {
                    path: temporary.join(name),
                    message: "not a plain file name".into(),
                });
            }
            let mode = if matches!(*name, "hosts" | "hostname" | "resolv.conf") {
                0o644
            } else {
                0o600
            };
            write(name, bytes, mode)?;
        }
        if !given("hosts") {
            write("hosts", hosts_file(&spec.hostname).as_bytes(), 0o644)?;
        }
        if !given("hostname") {
            write("hostname", format!("{}\n", spec.hostname).as_bytes(), 0o644)?;
        }
        if !given("resolv.conf") {
            write("resolv.conf", &host_resolv_conf(), 0o644)?;
        }
        make(&layout.dir.join("execs"), 0o700)?;
        for dir in [&spec.rootfs.upper, &spec.rootfs.work] {
            // Paths of the spec are final ones; those inside the container's directory are made in its temporary one.
            let dir = dir
                .strip_prefix(self.dir(&spec.id))
                .map_or_else(|_| dir.clone(), |rest| temporary.join(rest));
            if !dir.is_dir() {
                make(&dir, 0o755)?;
            }
        }
        write("supervisor.lock", b"", 0o600)?;
        write("name", name.as_bytes(), 0o600)?;
        write_json(&layout.spec(), spec, false)?;
        write_json(&layout.state(), &State::created(), false)?;
        write("format", DIR_FORMAT.as_bytes(), 0o600)?;
        let dir = self.dir(&spec.id);
        fs::rename(temporary, &dir).context("create", &dir)
    }
}

fn make(path: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .context("create", path)?;
    // Whatever the umask is.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("set the mode of", path)
}
