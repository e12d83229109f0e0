//! The pty of a process with a terminal.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::error::{Doing, Result, SetupError};
use super::mounts::clone_tree;
use super::paths::Root;
use super::rootfs::attach;

const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Both sides of a pty.
#[derive(Debug)]
pub(super) struct Pty {
    /// The side the supervisor keeps.
    pub(super) controller: OwnedFd,
    /// The side that becomes the process's terminal.
    pub(super) terminal: OwnedFd,
}

/// Opens a new pty on the devpts mounted at `devpts`. Its terminal is opened through the controlling side (TIOCGPTPEER),
/// not by a path that the container could replace (CVE-2025-52565).
pub(super) fn open(devpts: impl AsFd, size: Option<(u16, u16)>) -> Result<Pty> {
    let stat = rustix::fs::fstatfs(&devpts).doing("open a pty")?;
    if stat.f_type != DEVPTS_SUPER_MAGIC {
        return Err(SetupError::other(
            "open a pty: /dev/pts is not a devpts file system",
        ));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let controller =
        rustix::fs::openat2(devpts, "ptmx", flags, Mode::empty(), resolve).doing("open a pty")?;
    rustix::pty::unlockpt(&controller).doing("unlock a pty")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&controller, flags).doing("open the terminal of a pty")?;
    if let Some((rows, columns)) = size {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&terminal, size).doing("set the terminal's size")?;
    }
    Ok(Pty { controller, terminal })
}

/// Opens a pty for an exec, on the running container's devpts.
pub(super) fn open_in(root: &Root, size: Option<(u16, u16)>) -> Result<Pty> {
    let devpts = root
        .open_no_links(Path::new("/dev/pts"), OFlags::PATH | OFlags::DIRECTORY)
        .doing("open /dev/pts")?;
    open(devpts, size)
}

/// Makes `terminal` appear as `/dev/console`.
pub(super) fn mount_console(dev: &OwnedFd, terminal: &OwnedFd) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    rustix::fs::openat(dev, "console", flags, Mode::from_raw_mode(0o620)).doing("create /dev/console")?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(dev, "console", flags, Mode::empty()).doing("open /dev/console")?;
    let tree = clone_tree(terminal, false).doing("mount /dev/console")?;
    attach(tree, target).doing("mount /dev/console")
}
