//! Architectures and their syscall tables.

use std::sync::OnceLock;

/// A system call ABI that a filter can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86 (i386).
    X86,
    /// 32-bit pointers on 64-bit x86: the audit number of x86_64 with bit 30 set in the syscall number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// Set in the number of every x32 syscall.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// ARM's own syscalls start here, far above the common ones.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

/// x32 calls with numbers of their own (`arch/x86/entry/syscalls/syscall_64.tbl`, ABI `x32`), from 512 upwards.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Calls of x86_64 that x32 has under no number.
const X32_MISSING: [&str; 13] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
    "map_shadow_stack",
];

/// Calls of ARM that the generic table lacks (`arch/arm/include/uapi/asm/unistd.h`), and an alias.
const ARM_OWN: [(&str, u32); 7] = [
    ("sync_file_range2", 341),
    ("breakpoint", ARM_PRIVATE + 1),
    ("cacheflush", ARM_PRIVATE + 2),
    ("usr26", ARM_PRIVATE + 3),
    ("usr32", ARM_PRIVATE + 4),
    ("set_tls", ARM_PRIVATE + 5),
    ("get_tls", ARM_PRIVATE + 6),
];

/// Sub-calls of i386 `socketcall`, from 1 upwards (`linux/net.h`).
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Sub-calls of i386 `ipc` (`linux/ipc.h`).
const IPC_CALLS: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

impl Arch {
    /// The architecture this program was built for.
    pub const fn host() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::X86_64
        }
    }

    /// `AUDIT_ARCH_*`, what `seccomp_data.arch` holds (`linux/audit.h`).
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Go's name, as `includes.arches` of a profile has it.
    pub const fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// `SCMP_ARCH_X`; `None` if it is not one of ours.
    pub(super) fn from_scmp(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            _ => return None,
        })
    }

    /// Whether a kernel whose native architecture is `native` can get calls of this one.
    pub(super) const fn runs_on(self, native: Self) -> bool {
        match native {
            Self::X86_64 => matches!(self, Self::X86_64 | Self::X86 | Self::X32),
            Self::Aarch64 => matches!(self, Self::Aarch64 | Self::Arm),
            Self::X86 | Self::X32 | Self::Arm => self as u8 == native as u8,
        }
    }

    /// Whether arguments are 64 bits wide.
    pub(super) const fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// The number of a syscall, `seccomp_data.nr`; `None` if the architecture has no such call.
    pub fn number(self, name: &str) -> Option<u32> {
        let table = self.table();
        table
            .binary_search_by(|(known, _)| (*known).cmp(name))
            .ok()
            .map(|at| table[at].1)
    }

    /// The multiplexer that also reaches the call, the mask of its first argument and the sub-call's number.
    pub(super) fn multiplexed(self, name: &str) -> Option<(&'static str, u32, u32)> {
        if self != Self::X86 {
            return None;
        }
        if let Some((_, call)) = SOCKETCALLS.into_iter().zip(1..).find(|(known, _)| *known == name) {
            return Some(("socketcall", u32::MAX, call));
        }
        // The upper half of ipc's first argument is a version.
        IPC_CALLS
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, call)| ("ipc", 0xffff, call))
    }

    /// All calls, sorted by name. Built once a process: a binary search beats the 400-arm string match of the crate.
    pub(super) fn table(self) -> &'static [(&'static str, u32)] {
        static TABLES: [OnceLock<Vec<(&'static str, u32)>>; 5] = [const { OnceLock::new() }; 5];
        TABLES[self as usize].get_or_init(|| {
            let mut table = match self {
                Self::X86_64 => x86_64(),
                Self::X86 => generic(
                    syscalls::x86::Sysno::iter().chain([syscalls::x86::Sysno::last()]),
                    |nr| (nr.name(), nr.id()),
                ),
                Self::X32 => x32(),
                Self::Aarch64 => generic(
                    syscalls::aarch64::Sysno::iter().chain([syscalls::aarch64::Sysno::last()]),
                    |nr| (nr.name(), nr.id()),
                ),
                Self::Arm => {
                    let sysnos = syscalls::arm::Sysno::iter().chain([syscalls::arm::Sysno::last()]);
                    let mut table = generic(sysnos, |nr| (nr.name(), nr.id()));
                    table.extend(ARM_OWN);
                    table
                }
            };
            table.sort_unstable();
            table.dedup_by_key(|(name, _)| *name);
            table
        })
    }
}

/// The crate's iterators stop before the last call, so callers add it.
fn generic<T>(
    sysnos: impl Iterator<Item = T>,
    of: impl Fn(&T) -> (&'static str, i32),
) -> Vec<(&'static str, u32)> {
    sysnos
        .filter_map(|sysno| {
            let (name, number) = of(&sysno);
            Some((
                name.strip_prefix("r#").unwrap_or(name),
                u32::try_from(number).ok()?,
            ))
        })
        .collect()
}

fn x86_64() -> Vec<(&'static str, u32)> {
    generic(
        syscalls::x86_64::Sysno::iter().chain([syscalls::x86_64::Sysno::last()]),
        |nr| (nr.name(), nr.id()),
    )
}

fn x32() -> Vec<(&'static str, u32)> {
    x86_64()
        .into_iter()
        .filter(|(name, _)| !X32_OWN.contains(name) && !X32_MISSING.contains(name))
        .chain(X32_OWN.into_iter().zip(512..))
        .map(|(name, number)| (name, number | X32_BIT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_headers() {
        let check = |arch: Arch, name: &str, expected: Option<u32>| {
            assert_eq!(arch.number(name), expected, "{arch:?} {name}");
        };
        check(Arch::X86_64, "read", Some(0));
        check(Arch::X86_64, "clone3", Some(435));
        check(Arch::X86_64, "file_setattr", Some(469));
        check(Arch::X86_64, "socketcall", None);
        check(Arch::X86, "break", Some(17));
        check(Arch::X86, "socketcall", Some(102));
        check(Arch::X32, "read", Some(X32_BIT));
        check(Arch::X32, "ioctl", Some(X32_BIT + 514));
        check(Arch::X32, "pwritev2", Some(X32_BIT + 547));
        check(Arch::X32, "set_thread_area", None);
        check(Arch::Aarch64, "openat", Some(56));
        check(Arch::Aarch64, "open", None);
        check(Arch::Arm, "arm_sync_file_range", Some(341));
        check(Arch::Arm, "sync_file_range2", Some(341));
        check(Arch::Arm, "set_tls", Some(0xf0005));
        check(Arch::X86_64, "no_such_call", None);
    }

    #[test]
    fn multiplexers_are_only_on_i386() {
        assert_eq!(
            Arch::X86.multiplexed("accept4"),
            Some(("socketcall", u32::MAX, 18))
        );
        assert_eq!(Arch::X86.multiplexed("shmctl"), Some(("ipc", 0xffff, 24)));
        assert_eq!(Arch::X86.multiplexed("read"), None);
        assert_eq!(Arch::X86_64.multiplexed("socket"), None);
    }
}
