//! Process creation, execution and the process-wide state around them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// New mount namespace.
pub const CLONE_NEWNS: u64 = 0x0002_0000;
/// New UTS namespace.
pub const CLONE_NEWUTS: u64 = 0x0400_0000;
/// New IPC namespace.
pub const CLONE_NEWIPC: u64 = 0x0800_0000;
/// New PID namespace.
pub const CLONE_NEWPID: u64 = 0x2000_0000;
/// New network namespace.
pub const CLONE_NEWNET: u64 = 0x4000_0000;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`clone_process`] the caller is on.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller, with the child's pid in its own namespace and a pidfd (close-on-exec).
    Parent {
        /// Pid of the child.
        pid: i32,
        /// Its pidfd.
        pidfd: OwnedFd,
    },
}

/// `struct clone_args` of clone3(2), version 2 (88 bytes).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks with new namespaces (`flags`, of the `CLONE_NEW*` constants), straight into a v2 `cgroup` if one is given.
///
/// # Errors
/// `EBUSY` when the calling process has more than one thread, since a forked child of a threaded process may hold
/// locks nobody releases; else what clone3(2) says.
pub fn clone_process(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    // A directory's link count is 2 plus its subdirectories: one per thread.
    if rustix::fs::stat("/proc/self/task")?.st_nlink != 3 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().unsigned_abs());
    }
    // SAFETY: without CLONE_VM and with no stack given this is fork(2): the child runs on a copy of our memory. The
    // check above made sure that no other thread's lock is copied in its held state. `args` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            // SAFETY: the kernel stored a fresh descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Replaces the program; returns only when that failed.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let terminated = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|item| item.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (args, env) = (terminated(args), terminated(env));
    // SAFETY: both arrays end with a null pointer and their strings live until the call returns.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process at once: no destructors, no flushing of buffers shared with a parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

fn raw_close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the callers' contracts say whose descriptors are touched; the call reads no memory.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor from 3 on except `keep`.
///
/// Only at the start of a program, or in a freshly cloned child: values that own one of the closed descriptors must never
/// be dropped or used again, which holds because such a child ends in [`execve`] or [`exit_now`].
///
/// # Errors
/// What close_range(2) says.
pub fn close_range(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            raw_close_range(first, fd - 1, 0)?;
        }
        first = first.max(fd + 1);
    }
    raw_close_range(first, u32::MAX, 0)
}

/// Marks every descriptor from 3 on close-on-exec.
///
/// # Errors
/// What close_range(2) says.
pub fn close_range_cloexec() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    raw_close_range(3, u32::MAX, CLOSE_RANGE_CLOEXEC)
}

/// Restores every signal's default disposition and unblocks all.
pub fn reset_signals() {
    // struct kernel_sigaction: handler (0 is SIG_DFL), flags, restorer, mask.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // By system call, since the C library keeps two real-time signals to itself, which may be inherited ignored.
        // SAFETY: the structure has the kernel's size and outlives the call; SIGKILL and SIGSTOP give EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                8,
            )
        };
    }
    // SAFETY: `set` is initialised by sigemptyset before sigprocmask reads it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Sends any signal number, real-time ones included, through a pidfd.
///
/// # Errors
/// What pidfd_send_signal(2) says.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a null siginfo is allowed.
    match unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd,
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets a resource limit by its number (`RLIMIT_*`); `u64::MAX` is infinity.
///
/// # Errors
/// What setrlimit(2) says.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` outlives the call; no old value is asked for; pid 0 is the caller.
    match unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            ptr::null_mut::<libc::rlimit64>(),
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the UTS namespace's host name.
///
/// # Errors
/// What sethostname(2) says.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe `name`.
    match unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the current cgroup the root of a new cgroup namespace.
///
/// # Errors
/// What unshare(2) says.
pub fn unshare_cgroup_namespace() -> io::Result<()> {
    // SAFETY: CLONE_NEWCGROUP changes only what cgroup paths look like; it shares or unshares no memory or descriptor.
    match unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the calling process, which must be single-threaded, a member of a new user namespace without any mapping.
///
/// # Errors
/// What unshare(2) says.
pub fn unshare_user_namespace() -> io::Result<()> {
    // SAFETY: CLONE_NEWUSER changes credentials only; it shares or unshares no memory or descriptor.
    match unsafe { libc::unshare(libc::CLONE_NEWUSER) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread alone a mount namespace, a root and a working directory of its own.
///
/// # Errors
/// What unshare(2) says.
pub fn unshare_mount_namespace() -> io::Result<()> {
    // SAFETY: neither flag touches memory or descriptors; other threads keep the namespace and the directories they share.
    match unsafe { libc::unshare(libc::CLONE_FS | libc::CLONE_NEWNS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
