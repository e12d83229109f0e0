//! Kernel interfaces that neither std nor rustix offers, behind safe functions.
//!
//! The only place of this crate with `unsafe`; each block states why it is sound.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

pub mod bpf;
mod memory;
mod mount;
mod process;
mod security;

pub use memory::release_memory;
pub use mount::{MountAttr, set_mount_attr};
pub use process::{
    CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, Cloned, clone_process, close_range,
    close_range_cloexec, execve, exit_now, pidfd_send_signal, reset_signals, set_hostname, set_rlimit,
    unshare_cgroup_namespace, unshare_mount_namespace, unshare_user_namespace,
};
pub use security::{bring_loopback_up, join_session_keyring, load_seccomp};
