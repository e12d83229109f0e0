//! Who the process is: user, groups, capabilities, limits.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::devices::is_null;
use super::error::{Doing, Result, SetupError};
use super::paths::Root;
use super::sysctl::Proc;
use crate::caps::CapSet;
use crate::rootless::{IdMap, in_user_namespace};
use crate::spec::ProcessSpec;
use crate::sys;
use crate::user::{self, UserIds};

/// Largest passwd or group file that is read from an image.
const MAX_ACCOUNT_FILE: u64 = 16 << 20;

/// Protects a process that is about to enter a container: the container cannot attach to it or open its memory,
/// executable or descriptors (CVE-2016-9962, CVE-2019-5736), and it dies with its supervisor.
pub(super) fn shield() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("clear the dumpable flag")?;
    die_with_parent()
}

fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing("set the parent-death signal")
}

/// Looks the user up in the container's own account files.
pub(super) fn look_up(root: &Root, process: &ProcessSpec) -> Result<UserIds> {
    // Numbers need no files, except for the home directory and supplementary groups.
    let passwd = root.read_file(Path::new("/etc/passwd"), MAX_ACCOUNT_FILE)?;
    let group = root.read_file(Path::new("/etc/group"), MAX_ACCOUNT_FILE)?;
    user::resolve(
        &process.user,
        &process.group_add,
        passwd.as_deref(),
        group.as_deref(),
    )
    .map_err(|error| SetupError::other(error.to_string()))
}

/// Sets resource limits and the OOM score. What the machine forbids is returned as warnings.
pub(super) fn apply_limits(process: &ProcessSpec, proc: &Proc) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for (name, soft, hard) in &process.rlimits {
        let Some(number) = rlimit_number(name) else {
            return Err(SetupError::other(format!("set rlimit {name}: unknown limit")));
        };
        match sys::set_rlimit(number, *soft, *hard) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                warnings.push(format!("rlimit {name} left as it is: operation not permitted"));
            }
            Err(error) => return Err(error).doing(format_args!("set rlimit {name}")),
        }
    }
    if let Some(score) = process.oom_score_adj {
        let path = format!("{}/oom_score_adj", rustix::process::getpid());
        match proc.write(&path, &score.to_string()) {
            Err(Errno::ACCESS | Errno::PERM) => warnings.push(format!("oom_score_adj {score} not permitted")),
            result => result.doing("set oom_score_adj")?,
        }
    }
    Ok(warnings)
}

fn rlimit_number(name: &str) -> Option<u32> {
    Some(
        match name.trim_start_matches("RLIMIT_").to_ascii_lowercase().as_str() {
            "as" => libc::RLIMIT_AS,
            "core" => libc::RLIMIT_CORE,
            "cpu" => libc::RLIMIT_CPU,
            "data" => libc::RLIMIT_DATA,
            "fsize" => libc::RLIMIT_FSIZE,
            "locks" => libc::RLIMIT_LOCKS,
            "memlock" => libc::RLIMIT_MEMLOCK,
            "msgqueue" => libc::RLIMIT_MSGQUEUE,
            "nice" => libc::RLIMIT_NICE,
            "nofile" => libc::RLIMIT_NOFILE,
            "nproc" => libc::RLIMIT_NPROC,
            "rss" => libc::RLIMIT_RSS,
            "rtprio" => libc::RLIMIT_RTPRIO,
            "rttime" => libc::RLIMIT_RTTIME,
            "sigpending" => libc::RLIMIT_SIGPENDING,
            "stack" => libc::RLIMIT_STACK,
            _ => return None,
        },
    )
}

/// Lets the user reopen its own streams through `/dev/stdout`.
pub(super) fn own_streams(user: &UserIds) {
    let streams: [BorrowedFd<'_>; 3] = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for stream in streams {
        let foreign = rustix::fs::fstat(stream).is_ok_and(|stat| stat.st_uid != user.uid);
        if foreign && !is_null(stream.as_fd()) {
            // A stream on a read-only or foreign file system keeps its owner.
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(user.uid)), None);
        }
    }
}

/// The kernel says only that an argument is invalid.
fn check_mapped(user: &UserIds) -> Result<()> {
    if !in_user_namespace() {
        return Ok(());
    }
    let check =
        |kind: &str, file: &str, map: IdMap, ids: &[u32]| match ids.iter().find(|id| !map.contains(**id)) {
            Some(id) => Err(SetupError::other(format!(
                "run as {kind} {id}: not one of the ids of this user namespace, {map} ({file} gives more)"
            ))),
            None => Ok(()),
        };
    check("user", "/etc/subuid", IdMap::of_users(), &[user.uid])?;
    check("group", "/etc/subgid", IdMap::of_groups(), &user.groups)?;
    check("group", "/etc/subgid", IdMap::of_groups(), &[user.gid])
}

/// Becomes `user` with exactly `caps` in the bounding, permitted and effective sets and nothing in the inheritable and
/// ambient ones (CVE-2022-24769, CVE-2022-29162). A user other than root loses the effective set again at execve.
pub(super) fn become_user(user: &UserIds, caps: CapSet) -> Result<()> {
    for capability in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << capability);
        match rustix::thread::capability_is_in_bounding_set(one) {
            Ok(true) if !caps.contains(capability) => {
                rustix::thread::remove_capability_from_bounding_set(one).doing("drop bounding capability")?;
            }
            Ok(_) => {}
            // Past the kernel's last capability.
            Err(_) => break,
        }
    }
    rustix::thread::set_keep_capabilities(true).doing("keep capabilities")?;
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    check_mapped(user)?;
    match rustix::thread::set_thread_groups(&groups) {
        // A user namespace without /etc/subgid: its groups are frozen.
        Err(Errno::PERM) if in_user_namespace() => {}
        result => result.doing("set supplementary groups")?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing("set gid")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing("set uid")?;
    rustix::thread::set_keep_capabilities(false).doing("drop keep-capabilities")?;

    let held = rustix::thread::capabilities(None)
        .doing("read capabilities")?
        .permitted;
    let wanted = CapabilitySet::from_bits_retain(caps.bits()) & held;
    let sets = CapabilitySets {
        effective: wanted,
        permitted: wanted,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).doing("set capabilities")?;
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno).doing("clear ambient capabilities"),
    }
    // Changing credentials has cleared it.
    die_with_parent()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("clear the dumpable flag")
}
