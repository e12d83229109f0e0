//! `bpf(2)`: loading and attaching the device filter of a v2 control group.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// A container may attach filters of its own below; all must agree.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One eBPF instruction, laid out as the kernel's `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Source register in the upper four bits, destination in the lower.
    pub regs: u8,
    /// Jump distance or memory offset.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads here; the kernel takes the rest as zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` reads here.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program; the kernel verifies it. The descriptor is close-on-exec.
///
/// # Errors
/// `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` without kernel support or for a program that does not verify.
pub fn load_device_filter(program: &[Insn]) -> io::Result<OwnedFd> {
    let insn_cnt = u32::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt,
        insns: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, &attr)?;
    // SAFETY: a successful BPF_PROG_LOAD returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a loaded filter to a v2 control group. It stays when the descriptor is closed, until the group is removed.
///
/// # Errors
/// `EBADF` if `cgroup` is no v2 group, `EPERM` without privilege.
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> io::Result<()> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_bpf_fd: filter.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attr).map(drop)
}

/// `bpf(2)`. Private, because `attr` holds addresses: the callers above keep what they point to alive.
fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<RawFd> {
    // SAFETY: `attr` is valid for `size_of::<T>()` bytes of reads, which is the size the kernel is told. The two commands used
    // here write nothing through it, and the buffers whose addresses it holds (program and licence) outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const ALLOW: [Insn; 2] = [
        Insn {
            code: 0xb7,
            regs: 0,
            off: 0,
            imm: 1,
        },
        Insn {
            code: 0x95,
            regs: 0,
            off: 0,
            imm: 0,
        },
    ];

    #[test]
    fn the_kernel_verifies_programs() {
        match load_device_filter(&ALLOW) {
            Ok(filter) => {
                let plain = std::fs::File::open("/").unwrap();
                assert!(attach_device_filter(plain.as_fd(), filter.as_fd()).is_err());
                let no_exit = load_device_filter(&ALLOW[..1]).unwrap_err();
                assert_eq!(no_exit.kind(), io::ErrorKind::InvalidInput, "{no_exit}");
            }
            Err(error) => println!("skipped: this kernel or user cannot load device filters: {error}"),
        }
    }
}
