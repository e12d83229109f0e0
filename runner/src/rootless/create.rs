//! Making a user namespace with a mapping.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::fs::{Mode, OFlags};

use super::error::RootlessError;
use super::idmap::IdMap;
use super::subid;
use super::user::User;
use crate::sys;

/// `argv[0]` under which `cooper` executes itself to make a user namespace; `main` must test it before anything else.
pub const ARGV0: &str = "cooper-namespace";

/// Entry point for a process whose `argv[0]` is [`ARGV0`]; returns its exit code. Makes a user namespace, says so in one
/// line on stdout (`0`, or the number of the error), and lives until its stdin ends.
pub fn helper_main() -> i32 {
    let errno = match sys::unshare_user_namespace() {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    if rustix::io::write(rustix::stdio::stdout(), format!("{errno}\n").as_bytes()).is_err() {
        return 1;
    }
    // The caller is done, or dead.
    let _ = io::stdin().read(&mut [0]);
    i32::from(errno != 0)
}

/// A process that keeps a namespace alive until somebody is in it.
struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// Makes a namespace for `user` and gives a handle on it.
pub(super) fn create(user: &User) -> Result<OwnedFd, RootlessError> {
    let action = "start a process for a user namespace";
    let mut child = Command::new("/proc/self/exe")
        .arg0(ARGV0)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(RootlessError::system(action))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let helper = Helper { child, stdin };
    let mut answer = [0; 16];
    let length = match stdout {
        Some(mut stdout) => stdout.read(&mut answer).map_err(RootlessError::system(action))?,
        None => 0,
    };
    let errno = String::from_utf8_lossy(&answer[..length])
        .trim()
        .parse()
        .unwrap_or(libc::EIO);
    if errno != 0 {
        return Err(forbidden(io::Error::from_raw_os_error(errno)));
    }
    let proc = PathBuf::from(format!("/proc/{}", helper.child.id()));
    let namespace = rustix::fs::open(
        proc.join("ns/user"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(RootlessError::system("open a user namespace"))?;
    map(user, helper.child.id(), &proc)?;
    // The handle keeps it alive from here on.
    drop(helper);
    Ok(namespace)
}

fn map(user: &User, pid: u32, proc: &Path) -> Result<(), RootlessError> {
    let name = user.name.as_deref();
    let ranges = |file: &str, own: u32| subid::ranges(&subid::read(Path::new(file)), name, user.uid, own);
    let users = ranges("/etc/subuid", user.uid);
    let groups = ranges("/etc/subgid", user.gid);
    if users.is_empty() || groups.is_empty() {
        return map_own_id(user, proc);
    }
    run_mapper("newuidmap", pid, &IdMap::of_user(user.uid, &users))?;
    run_mapper("newgidmap", pid, &IdMap::of_user(user.gid, &groups))
}

/// The user's own ids alone, which needs no program. The kernel allows it only if supplementary groups are frozen: a user
/// could drop one that takes rights away otherwise (user_namespaces(7)).
fn map_own_id(user: &User, proc: &Path) -> Result<(), RootlessError> {
    let write = |file: &str, text: &str| {
        let path = proc.join(file);
        fs::write(&path, text).map_err(RootlessError::system(format!("write {}", path.display())))
    };
    let line = |id: u32| {
        let [inside, outside, count] = IdMap::of_user(id, &[]).numbers()[0];
        format!("{inside} {outside} {count}\n")
    };
    write("setgroups", "deny")?;
    write("uid_map", &line(user.uid))?;
    write("gid_map", &line(user.gid))
}

/// newuidmap(1) is set-user-ID root and checks itself what the user may have.
fn run_mapper(program: &'static str, pid: u32, map: &IdMap) -> Result<(), RootlessError> {
    let path = find(program).ok_or(RootlessError::NoMapper { program })?;
    let mut arguments = vec![pid.to_string()];
    arguments.extend(map.numbers().concat().iter().map(u32::to_string));
    let output = Command::new(path)
        .args(&arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(RootlessError::system(format!("run {program}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RootlessError::Mapper {
        command: format!("{program} {}", arguments.join(" ")),
        message: if said.is_empty() {
            output.status.to_string()
        } else {
            said
        },
    })
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin:/usr/sbin:/sbin".into());
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Says which setting forbids it, as far as the kernel tells.
pub(super) fn forbidden(source: io::Error) -> RootlessError {
    let setting = |path: &str, value: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(path)).is_ok_and(|found| found.trim() == value)
    };
    let reason = match source.raw_os_error() {
        _ if setting("user/max_user_namespaces", "0") => "the sysctl user.max_user_namespaces is 0",
        _ if setting("kernel/unprivileged_userns_clone", "0") => {
            "the sysctl kernel.unprivileged_userns_clone is 0"
        }
        _ if setting("kernel/apparmor_restrict_unprivileged_userns", "1") => {
            "the sysctl kernel.apparmor_restrict_unprivileged_userns is 1 and no AppArmor profile allows it to this program"
        }
        Some(libc::ENOSPC) => "the limit of the sysctl user.max_user_namespaces is reached",
        Some(libc::EINVAL) => "the kernel has no user namespaces",
        _ => "a chroot, a seccomp filter or a security module forbids it",
    };
    RootlessError::Forbidden {
        reason: reason.to_owned(),
        source,
    }
}
