//! Who the unprivileged user is, and where the user's things are.

use std::env;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::error::RootlessError;
use super::idmap::IdMap;
use super::in_user_namespace;

/// Environment variable that `cooper unshare` sets for its command: the user's id outside. With it root inside is known to
/// be that user and not the root of some container.
pub const ENTERED: &str = "COOPER_ROOTLESS_UID";

/// An unprivileged user.
#[derive(Debug, Clone)]
pub struct User {
    /// Ids outside.
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) name: Option<String>,
    home: PathBuf,
    runtime: Runtime,
}

/// Directory for what does not outlive a reboot.
#[derive(Debug, Clone)]
struct Runtime {
    dir: PathBuf,
    /// It holds the things of other programs too.
    shared: bool,
}

impl User {
    /// The user that this process belongs to; `None` for root. Makes the run-time directory when it is a temporary one.
    ///
    /// # Errors
    /// [`RootlessError::RuntimeDir`] when somebody else has made it, [`RootlessError::NoHome`].
    pub fn detect() -> Result<Option<Self>, RootlessError> {
        let (euid, egid) = (rustix::process::geteuid(), rustix::process::getegid());
        let (uid, gid) = if !euid.is_root() {
            (euid.as_raw(), egid.as_raw())
        } else {
            let entered = env::var(ENTERED).ok().and_then(|uid| uid.parse::<u32>().ok());
            let outside = (IdMap::of_users().outside(0), IdMap::of_groups().outside(0));
            match (entered, outside) {
                (Some(entered), (Some(uid), Some(gid))) if in_user_namespace() && uid == entered => {
                    (uid, gid)
                }
                _ => return Ok(None),
            }
        };
        let account = account(uid);
        let home = env::var_os("HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_absolute())
            .or_else(|| account.as_ref().map(|account| account.home.clone()))
            .ok_or(RootlessError::NoHome(uid))?;
        let name = account
            .map(|account| account.name)
            .or_else(|| env::var("USER").ok());
        Ok(Some(Self {
            uid,
            gid,
            name,
            home,
            runtime: Runtime::find(uid)?,
        }))
    }

    /// The user's id outside.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Where images and containers are: `$XDG_DATA_HOME/cooper`, or `~/.local/share/cooper`.
    pub fn data_root(&self) -> PathBuf {
        env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| self.home.join(".local/share"))
            .join("cooper")
    }

    /// Where sockets and mount points of running containers are: `$XDG_RUNTIME_DIR/cooper`, or `/tmp/cooper-<uid>`.
    pub fn exec_root(&self) -> PathBuf {
        if self.runtime.shared {
            self.runtime.dir.join("cooper")
        } else {
            self.runtime.dir.clone()
        }
    }

    /// The daemon's socket: `cooper.sock` in the run-time directory.
    pub fn socket(&self) -> PathBuf {
        self.runtime.dir.join("cooper.sock")
    }

    /// The file that leads to the namespace; see the module.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.runtime.dir.join("cooper.namespace")
    }
}

impl Runtime {
    /// `$XDG_RUNTIME_DIR`; what logind would have put there, for processes that it has not started; or a directory in
    /// `/tmp`, which must be the user's alone. One that belongs to somebody else (after `sudo -E`) is not used.
    fn find(uid: u32) -> Result<Self, RootlessError> {
        let own = |dir: &Path| {
            fs::metadata(dir).is_ok_and(|found| {
                found.is_dir()
                    && found.uid() == rustix::process::geteuid().as_raw()
                    && found.mode() & 0o022 == 0
            })
        };
        let given = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let standard = Some(PathBuf::from(format!("/run/user/{uid}")));
        let found = [given, standard]
            .into_iter()
            .flatten()
            .find(|dir| dir.is_absolute() && own(dir));
        if let Some(dir) = found {
            return Ok(Self { dir, shared: true });
        }
        let dir = PathBuf::from(format!("/tmp/cooper-{uid}"));
        make_private(&dir)?;
        Ok(Self { dir, shared: false })
    }
}

/// Makes the directory if it is missing, and refuses one that others own or may write to.
fn make_private(dir: &Path) -> Result<(), RootlessError> {
    let refuse = |problem: String| RootlessError::RuntimeDir {
        path: dir.to_owned(),
        problem,
    };
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(RootlessError::System {
                action: format!("create {}", dir.display()),
                source: error,
            });
        }
        _ => {}
    }
    let found = fs::symlink_metadata(dir).map_err(|error| refuse(error.to_string()))?;
    let owner = rustix::process::geteuid().as_raw();
    if !found.is_dir() {
        return Err(refuse("it is not a directory".to_owned()));
    }
    if found.uid() != owner {
        return Err(refuse(format!(
            "it belongs to user {}, not to {owner}",
            found.uid()
        )));
    }
    if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o7777;
        return Err(refuse(format!("its mode is {mode:o}, expected 700")));
    }
    Ok(())
}

struct Account {
    name: String,
    home: PathBuf,
}

/// The user's line in /etc/passwd.
fn account(uid: u32) -> Option<Account> {
    let passwd = super::subid::read(Path::new("/etc/passwd"));
    let number = uid.to_string();
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() >= 6 && fields[2] == number).then(|| Account {
            name: fields[0].to_owned(),
            home: PathBuf::from(fields[5]),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn temporary_directories_must_be_private() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &str, expected: Option<&str>| {
            let problem = make_private(&dir.path().join(name))
                .err()
                .map(|error| error.to_string());
            match expected {
                None => assert_eq!(problem, None),
                Some(part) => assert!(
                    problem.as_ref().is_some_and(|text| text.contains(part)),
                    "{problem:?}"
                ),
            }
        };
        check("new", None);
        check("new", None);
        fs::create_dir(dir.path().join("open")).unwrap();
        fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o755)).unwrap();
        check("open", Some("mode is 755"));
        std::os::unix::fs::symlink("new", dir.path().join("link")).unwrap();
        check("link", Some("not a directory"));
        if rustix::process::geteuid().is_root() {
            fs::create_dir(dir.path().join("foreign")).unwrap();
            std::os::unix::fs::chown(dir.path().join("foreign"), Some(12345), None).unwrap();
            check("foreign", Some("belongs to user 12345"));
        }
    }
}
