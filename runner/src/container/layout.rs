//! Where a container's files are, and reading and writing them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Context, Error};
use super::overrides::Overrides;
use super::types::{STATE_VERSION, State};
use crate::init::FileMount;
use crate::spec::{ContainerSpec, SPEC_VERSION};

/// Version in a container's `format` file.
pub(super) const DIR_FORMAT: &str = "1\n";
/// Largest JSON file that is read back.
const MAX_JSON: u64 = 64 << 20;

/// The files of one container.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(super) dir: PathBuf,
}

impl Layout {
    pub(crate) const SOCKET: &'static str = "supervisor.sock";

    pub(crate) fn of_dir(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
        }
    }

    pub(crate) fn removed_dir(data: &Path, id: &str) -> PathBuf {
        data.join(format!(".rm-{id}"))
    }

    pub(super) fn temporary_dir(data: &Path, id: &str) -> PathBuf {
        data.join(format!(".tmp-{id}"))
    }

    pub(crate) fn empty_dir(exec: &Path) -> PathBuf {
        exec.join("empty")
    }

    pub(crate) fn exec_dir(exec: &Path, id: &str) -> PathBuf {
        exec.join(id)
    }

    pub(super) fn exec_index(exec: &Path) -> PathBuf {
        exec.join("execs")
    }

    /// Drops the index entries of the container's execs.
    pub(crate) fn forget_execs(exec: &Path, dir: &Path) {
        for entry in fs::read_dir(dir.join("execs")).into_iter().flatten().flatten() {
            if let Some(id) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
            {
                let _ = fs::remove_file(Self::exec_index(exec).join(id));
            }
        }
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("supervisor.lock")
    }

    pub(super) fn spec(&self) -> PathBuf {
        self.dir.join("spec.json")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    pub(super) fn overrides(&self) -> PathBuf {
        self.dir.join("overrides.json")
    }

    pub(super) fn name(&self) -> PathBuf {
        self.dir.join("name")
    }

    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}-json.log"))
    }

    pub(super) fn exec_record(&self, exec: &str) -> PathBuf {
        self.dir.join("execs").join(format!("{exec}.json"))
    }

    /// The spec with what was changed since.
    pub(crate) fn read_spec(&self) -> Result<ContainerSpec, Error> {
        let mut spec: ContainerSpec = read_json(&self.spec())?;
        check_version(&self.spec(), spec.version, SPEC_VERSION)?;
        Overrides::read(self)?.apply(&mut spec);
        Ok(spec)
    }

    pub(crate) fn read_state(&self) -> Result<State, Error> {
        let state: State = read_json(&self.state())?;
        check_version(&self.state(), state.version, STATE_VERSION)?;
        Ok(state)
    }

    pub(crate) fn write_state(&self, state: &State, durable: bool) -> Result<(), Error> {
        write_json(&self.state(), state, durable)
    }

    pub(crate) fn read_name(&self) -> Result<String, Error> {
        fs::read_to_string(self.name()).context("read", self.name())
    }
}

pub(super) fn check_version(path: &Path, found: u32, known: u32) -> Result<(), Error> {
    if found <= known {
        return Ok(());
    }
    let message = format!("version {found} is newer than {known}");
    Err(Error::Format {
        path: path.to_path_buf(),
        message,
    })
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = File::open(path).context("open", path)?;
    file.take(MAX_JSON)
        .read_to_end(&mut bytes)
        .context("read", path)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Format {
        path: path.to_path_buf(),
        message: error.to_string(),
    })
}

/// Replaces `path` by rename. With `durable` the content is on disk before it becomes visible.
pub(super) fn write_json(path: &Path, value: &impl Serialize, durable: bool) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let mut file = new_file(Path::new(&name), 0o600)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        if durable {
            file.sync_data()?;
        }
        fs::rename(&name, path)
    };
    write().context("write", path)
}

pub(super) fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
}

/// The files that are bound over the container's own.
pub(crate) fn file_mounts(layout: &Layout) -> Vec<FileMount> {
    ["hosts", "hostname", "resolv.conf"]
        .iter()
        .map(|name| FileMount {
            target: Path::new("/etc").join(name),
            source: layout.dir.join(name),
        })
        .filter(|file| file.source.exists())
        .collect()
}

/// A new `/etc/hosts`: the loopback names, and the container's host name on them.
pub(crate) fn hosts_file(hostname: &str) -> String {
    let mut hosts = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    if !hostname.is_empty() {
        hosts.push_str(&format!("127.0.0.1\t{hostname}\n"));
    }
    hosts
}

/// A new `/etc/resolv.conf`: the host's for its own network; without a network there is nothing to resolve with, and
/// Docker gives the host's too.
pub(crate) fn host_resolv_conf() -> Vec<u8> {
    use std::io::Read as _;
    const MAX: u64 = 1 << 20;
    let mut bytes = Vec::new();
    if let Ok(file) = File::open("/etc/resolv.conf") {
        let _ = file.take(MAX).read_to_end(&mut bytes);
    }
    bytes
}
