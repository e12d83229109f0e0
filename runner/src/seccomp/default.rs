//! Docker's default profile as a table.
//!
//! Meaning of moby 29 (profile of 2026, with AF_ALG denied since CVE-2026-31431), with one hole closed: moby compares
//! `socket`'s domain as 64 bits, but the kernel uses the lower 32 only, so there `0x1_0000_0026` reaches AF_ALG. Here a
//! domain above 32 bits is denied.

use super::Arch;
use super::profile::{Action, Condition, Profile, Rule, Test, When};
use crate::caps;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Namespace flags of `clone`: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Allowed to everyone.
const COMMON: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime \
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 \
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 \
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat \
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait \
    futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid \
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid \
    getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname \
    getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 \
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl \
    ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr \
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat \
    mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall \
    munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal \
    pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
    process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
    recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat \
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
    seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto \
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl \
    shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat \
    stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate \
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork \
    vmsplice wait4 waitid waitpid write writev";

/// Allowed to every kernel from 4.8 on, where ptrace no longer bypasses seccomp.
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

/// `personality` of PER_LINUX, PER_LINUX32, UNAME26, both, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Allowed on the named architectures.
const BY_ARCH: [(&[&str], &str); 3] = [
    (
        &["arm", "arm64"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&["amd64", "x32"], "arch_prctl"),
    (&["amd64", "x32", "x86"], "modify_ldt"),
];

/// Allowed to holders of the capability.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    (
        "CAP_SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    (
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

impl Profile {
    /// The profile of a container that asks for none.
    pub fn docker_default() -> Self {
        let mut rules = vec![
            allow(COMMON),
            Rule {
                includes: from_kernel(4, 8),
                ..allow(TRACING)
            },
        ];
        for tests in [
            vec![Test::Less(AF_ALG)],
            vec![Test::Equal(AF_ALG + 1)],
            vec![Test::Greater(AF_VSOCK), Test::LessOrEqual(u32::MAX as u64)],
        ] {
            rules.push(Rule {
                conditions: tests.into_iter().map(on_first).collect(),
                ..allow("socket")
            });
        }
        for persona in PERSONALITIES {
            rules.push(Rule {
                conditions: vec![on_first(Test::Equal(persona))],
                ..allow("personality")
            });
        }
        for (arches, names) in BY_ARCH {
            let arches = arches.iter().map(|arch| (*arch).into()).collect();
            rules.push(Rule {
                includes: When {
                    arches,
                    ..When::default()
                },
                ..allow(names)
            });
        }
        for (cap, names) in BY_CAPABILITY {
            rules.push(Rule {
                includes: holder_of(cap),
                ..allow(names)
            });
        }
        rules.push(Rule {
            conditions: vec![on_first(Test::MaskedEqual {
                mask: CLONE_NAMESPACES,
                value: 0,
            })],
            excludes: holder_of("CAP_SYS_ADMIN"),
            ..allow("clone")
        });
        // Its flags are in memory where no filter sees them; a libc falls back to clone.
        rules.push(Rule {
            action: Action::Errno(ENOSYS),
            excludes: holder_of("CAP_SYS_ADMIN"),
            ..allow("clone3")
        });
        Self {
            default_action: Action::Errno(EPERM),
            arch_map: vec![
                (Arch::X86_64, vec![Arch::X86, Arch::X32]),
                (Arch::Aarch64, vec![Arch::Arm]),
            ],
            architectures: Vec::new(),
            rules,
            flags: 0,
        }
    }
}

fn allow(names: &'static str) -> Rule {
    Rule {
        names: names.split_ascii_whitespace().map(Into::into).collect(),
        action: Action::Allow,
        conditions: Vec::new(),
        includes: When::default(),
        excludes: When::default(),
    }
}

const fn on_first(test: Test) -> Condition {
    Condition { index: 0, test }
}

fn holder_of(cap: &str) -> When {
    When {
        caps: vec![caps::number(cap)],
        ..When::default()
    }
}

fn from_kernel(major: u32, minor: u32) -> When {
    When {
        min_kernel: Some((major, minor)),
        ..When::default()
    }
}
