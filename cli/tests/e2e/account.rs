//! An unprivileged user for the tests that need one, with ids of its own in /etc/subuid and /etc/subgid.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::world::{Ended, binary, required};

/// Accounts are named by the process that made them, so that those of one that was killed can be told.
const PREFIX: &str = "cooper-test-";

/// First id of the ranges given to test users: above what useradd(8) hands out.
const FIRST_SUBORDINATE: u32 = 1_500_000_000;

/// The account of this test process, once a test has asked for it.
static MADE: Mutex<Option<(u32, u32)>> = Mutex::new(None);

/// Whether this machine gives user namespaces to everybody; says so if not, or fails if nothing may be skipped.
fn has_namespaces() -> bool {
    let made = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "unshare",
            "--user",
            "true",
        ])
        .output();
    let has = made.as_ref().is_ok_and(|output| output.status.success());
    assert!(
        has || !required(),
        "an unprivileged user may make no user namespace: {made:?}"
    );
    if !has {
        println!("skipped: an unprivileged user may make no user namespace here");
    }
    has
}

/// Ids of an account with 65536 subordinate users and groups; made at the first call. `None`, saying why, where there is no
/// way to make one.
fn account() -> Option<(u32, u32)> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if made.is_some() {
        return *made;
    }
    for program in [
        "useradd",
        "usermod",
        "userdel",
        "newuidmap",
        "newgidmap",
        "setpriv",
    ] {
        if !in_path(program) {
            assert!(!required(), "no {program}");
            println!("skipped: no {program} (packages passwd, uidmap, util-linux)");
            return None;
        }
    }
    remove_stale();
    let name = format!("{PREFIX}{}", std::process::id());
    run(
        "useradd",
        &[
            "--system",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            &name,
        ],
    );
    let range = format!("{FIRST_SUBORDINATE}-{}", FIRST_SUBORDINATE + 65_535);
    run(
        "usermod",
        &["--add-subuids", &range, "--add-subgids", &range, &name],
    );
    let id = |flag: &str| -> u32 {
        let output = Command::new("id").args([flag, &name]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    };
    *made = Some((id("-u"), id("-g")));
    *made
}

/// Removes the account again; to be called when no test runs any more.
pub(crate) fn remove() {
    let made = MADE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if made.is_some() {
        delete(std::process::id());
    }
}

/// Removes accounts of test processes that did not come to their end.
fn remove_stale() {
    let subuid = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let pids = subuid
        .lines()
        .filter_map(|line| line.split(':').next()?.strip_prefix(PREFIX)?.parse::<u32>().ok());
    for pid in pids.filter(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
        delete(pid);
    }
}

fn delete(pid: u32) {
    // Also ends up without the lines in /etc/subuid and /etc/subgid.
    let _ = Command::new("userdel")
        .arg(format!("{PREFIX}{pid}"))
        .stderr(Stdio::null())
        .status();
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// A home and a run-time directory of an unprivileged user; both are removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Unprivileged {
    directory: TempDir,
    pub(crate) uid: u32,
    gid: u32,
}

impl Unprivileged {
    /// With subordinate ids. `None`, having said why, where that cannot be.
    pub(crate) fn new() -> Option<Self> {
        let (uid, gid) = account()?;
        Self::of(uid, gid)
    }

    /// Without an account, so with no other ids than these. `None` as for [`Unprivileged::new`].
    pub(crate) fn of(uid: u32, gid: u32) -> Option<Self> {
        if !has_namespaces() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let user = Self { directory, uid, gid };
        mode(user.directory.path(), 0o755);
        for name in ["home", "run"] {
            std::fs::create_dir(user.path(name)).unwrap();
            mode(&user.path(name), 0o700);
            std::os::unix::fs::chown(user.path(name), Some(uid), Some(gid)).unwrap();
        }
        // The one under test may be where the user cannot go.
        std::fs::copy(binary(), user.path("cooper")).unwrap();
        mode(&user.path("cooper"), 0o755);
        Some(user)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that the user can read, with its directories.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `program` as the user.
    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", self.uid))
            .arg(format!("--regid={}", self.gid))
            .arg("--clear-groups")
            .arg(program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// `cooper` as the user, on the default store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&self.path("cooper"));
        command.args(arguments);
        command
    }

    /// Runs `cooper` to its end.
    pub(crate) fn cooper(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    /// Runs `cooper`, which must succeed; gives its stdout without the last newline.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        ended_well(self.cooper(arguments), arguments)
    }
}

/// What the command printed, without the last newline.
pub(crate) fn ended_well(ended: Ended, arguments: &[&str]) -> String {
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    ended.stdout.trim_end_matches('\n').to_owned()
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        let ids = self.cooper(&["ps", "-aq"]).stdout;
        let ids: Vec<&str> = ids.lines().collect();
        if !ids.is_empty() {
            self.cooper(&[&["rm", "-f"], &ids[..]].concat());
        }
        // The rest goes with the directory: root may delete it all.
    }
}

pub(crate) fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}
