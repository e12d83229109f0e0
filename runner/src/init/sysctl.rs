//! Namespaced sysctls, written through a procfs of our own.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::error::{Doing, Result, SetupError};
use super::mounts::{covered, new_fs};
use crate::rootless::in_user_namespace;
use crate::spec::NetworkMode;

/// A procfs that only this process knows: the container cannot put anything over its files (CVE-2025-52881).
#[derive(Debug)]
pub(super) struct Proc(OwnedFd);

impl Proc {
    /// Of the current PID namespace.
    pub(super) fn new() -> Result<Self> {
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        new_fs("proc", &[], attributes)
            .doing("mount a private procfs")
            .map_err(covered)
            .map(Self)
    }

    /// Writes `value` to a file named relative to the procfs root.
    pub(super) fn write(&self, path: &str, value: &str) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        rustix::io::write(file, value.as_bytes()).map(|_| ())
    }
}

/// What moby sets for containers with a network namespace of their own; the second not in a user namespace, where the
/// range would hold groups that do not exist.
const NETWORK_DEFAULTS: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

/// Writes Docker's defaults and the spec's sysctls, which have passed [`validate`].
pub(super) fn apply(proc: &Proc, sysctls: &BTreeMap<String, String>, network: NetworkMode) -> Result<()> {
    if network != NetworkMode::Host {
        let defaults = if in_user_namespace() {
            &NETWORK_DEFAULTS[..1]
        } else {
            &NETWORK_DEFAULTS[..]
        };
        for (key, value) in defaults.iter().filter(|(key, _)| !sysctls.contains_key(*key)) {
            match write(proc, key, value) {
                // IPv4 may be compiled out.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).doing(format_args!("set sysctl {key}")),
            }
        }
    }
    for (key, value) in sysctls {
        write(proc, key, value).doing(format_args!("set sysctl {key}"))?;
    }
    Ok(())
}

fn write(proc: &Proc, key: &str, value: &str) -> rustix::io::Result<()> {
    proc.write(&format!("sys/{}", key.replace('.', "/")), value)
}

/// Allows only sysctls that belong to a namespace of the container, and no character that could mean more than one
/// setting (CVE-2022-0811).
pub(crate) fn validate(sysctls: &BTreeMap<String, String>, network: NetworkMode) -> Result<()> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.domainname",
    ];
    for (key, value) in sysctls {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let well_formed =
            key.chars().all(plain) && !key.contains("..") && !key.contains("//") && !key.starts_with('/');
        let namespaced = IPC.contains(&key.as_str())
            || key.starts_with("fs.mqueue.")
            || (key.starts_with("net.") && network != NetworkMode::Host);
        if !well_formed || !namespaced {
            return Err(SetupError::other(format!(
                "sysctl {key:?} is not in a separate namespace"
            )));
        }
        if value.chars().any(|c| c.is_control() && c != '\t') || value.contains('+') {
            return Err(SetupError::other(format!(
                "sysctl {key}: invalid value {value:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaced_sysctls_with_plain_values_pass() {
        let check = |key: &str, value: &str, network, expected: bool| {
            let sysctls = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(validate(&sysctls, network).is_ok(), expected, "{key}={value}");
        };
        use NetworkMode::{Host, None};
        check("net.core.somaxconn", "1024", None, true);
        check("net.core.somaxconn", "1024", Host, false);
        check("kernel.shmmax", "1", Host, true);
        check("kernel.core_pattern", "|/bin/x", None, false);
        check("kernel.shmmax", "1+kernel.core_pattern=|/x", None, false);
        check("net.ipv4.ping_group_range", "0\n1", None, false);
        check("net.../../kernel.core_pattern", "x", None, false);
        check("fs.mqueue.msg_max", "10", None, true);
    }
}
