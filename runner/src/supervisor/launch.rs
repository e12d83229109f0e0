//! Executing a supervisor from a (threaded) engine.
//!
//! `std::process::Command` uses posix_spawn here, which is safe with threads. What is executed is not the binary's file
//! but a read-only detached mount of it, or else a sealed copy in memory, so that nothing that ever gets hold of
//! `/proc/<pid>/exe` can write to the binary (CVE-2019-5736).

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use super::ARGV0;
use crate::rootless;
use crate::sys::{MountAttr, set_mount_attr};

/// Protected handle on the running binary, made once per engine process.
fn executable() -> io::Result<&'static OwnedFd> {
    static EXECUTABLE: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = EXECUTABLE.get() {
        return Ok(fd);
    }
    let fd = read_only_mount().or_else(|_| sealed_copy())?;
    Ok(EXECUTABLE.get_or_init(|| fd))
}

fn read_only_mount() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = match rustix::mount::open_tree(CWD, "/proc/self/exe", flags) {
        // It is on a mount of the namespace that this process has left (see `rootless`), and the same file is on one here.
        Err(Errno::INVAL) => {
            let file = same_file_here()?;
            rustix::mount::open_tree(&file, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?
        }
        result => result?,
    };
    let mut attr = MountAttr::set(MountAttr::RDONLY);
    attr.propagation = libc::MS_PRIVATE;
    set_mount_attr(&tree, false, attr)?;
    Ok(tree)
}

/// The running binary by its path, if that still leads to it.
fn same_file_here() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let exe = rustix::fs::fstat(rustix::fs::open("/proc/self/exe", flags, Mode::empty())?)?;
    let path = rustix::fs::readlink("/proc/self/exe", Vec::new())?;
    let file = rustix::fs::open(&path, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&file)?;
    if (found.st_dev, found.st_ino) == (exe.st_dev, exe.st_ino) {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let mut copy = File::from(rustix::fs::memfd_create(
        "cooper",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    copy.rewind()?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    // Executing a file that is open for writing fails (ETXTBSY): keep only a read-only description.
    let read_only = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
    Ok(read_only.into())
}

fn command() -> io::Result<Command> {
    let executable = executable()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", executable.as_raw_fd()));
    command.arg0(ARGV0).env_clear();
    rootless::inherit(&mut command);
    Ok(command)
}

/// Starts the supervisor of container `id` with its listening socket and its lock, which it inherits. Returns when the
/// intermediate process has ended: the supervisor is nobody's child then.
pub(crate) fn spawn_for_container(
    data: &Path,
    exec: &Path,
    id: &str,
    listener: OwnedFd,
    lock: OwnedFd,
) -> io::Result<()> {
    let mut command = command()?;
    command.arg("container").arg(data).arg(exec).arg(id);
    command
        .stdin(Stdio::from(listener))
        .stdout(Stdio::from(lock))
        .stderr(Stdio::null());
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("the supervisor ended with {status}")))
    }
}

/// Starts the supervisor of one build step at the other end of `socket`.
pub(crate) fn spawn_for_build(socket: &UnixStream) -> io::Result<Child> {
    let socket = socket.as_fd().try_clone_to_owned()?;
    let mut command = command()?;
    command.arg("build");
    command
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn()
}
