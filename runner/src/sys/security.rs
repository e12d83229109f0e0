//! Seccomp, keyrings and the loopback interface.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

use crate::seccomp::Insn;

/// Loads a classic BPF filter for the calling thread, leaving speculation mitigations as they are by default.
///
/// # Errors
/// `EINVAL` for a program the kernel rejects or longer than 4096 instructions, `EACCES` without CAP_SYS_ADMIN or
/// no_new_privs.
pub fn load_seccomp(program: &[Insn]) -> io::Result<()> {
    #[repr(C)]
    struct SockFprog {
        len: u16,
        filter: *const Insn,
    }
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog = SockFprog {
        len,
        filter: program.as_ptr(),
    };
    // SAFETY: Insn has the layout of struct sock_filter, and `fprog` describes a slice that outlives the call.
    match unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const fprog,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Joins a fresh session keyring, so that a container does not see the engine's.
///
/// # Errors
/// `ENOSYS` without keyrings in the kernel, `EDQUOT`, `EPERM` under a filter.
pub fn join_session_keyring(name: &str) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let name = CString::new(name)?;
    // SAFETY: `name` is a C string that outlives the call.
    match unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Sets interface `lo` of the current network namespace up.
///
/// # Errors
/// What socket(2) and SIOCSIFFLAGS say.
pub fn bring_loopback_up() -> io::Result<()> {
    /// `IFF_UP | IFF_RUNNING`
    const UP_AND_RUNNING: libc::c_short = 0x1 | 0x40;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
