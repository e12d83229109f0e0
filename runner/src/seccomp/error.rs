//! What can be wrong with a profile.

/// A profile that cannot be read or compiled.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Not JSON, or not of Docker's form.
    #[error("decoding seccomp profile: {0}")]
    Json(#[from] serde_json::Error),
    /// Larger than any sane profile, in bytes.
    #[error("seccomp profile of {0} bytes is too large")]
    ProfileTooLarge(usize),
    /// An action that no kernel knows.
    #[error("unknown seccomp action {0:?}")]
    UnknownAction(String),
    /// `SCMP_ACT_NOTIFY` or a listener path: there is no agent to hand the calls to.
    #[error("seccomp notify is not supported")]
    NotifyUnsupported,
    /// An operator that is not one of `SCMP_CMP_*`.
    #[error("unknown seccomp comparison {0:?}")]
    UnknownOperator(String),
    /// Syscalls have six arguments.
    #[error("seccomp argument index {0} is above 5")]
    BadArgumentIndex(u32),
    /// `errnoRet` does not fit into the 16 bits the kernel has for it.
    #[error("seccomp errno {0} is out of range")]
    BadErrno(u32),
    /// An architecture that does not read `SCMP_ARCH_*`.
    #[error("unknown seccomp architecture {0:?}")]
    UnknownArchitecture(String),
    /// A filter flag that the kernel does not know or that cannot be used here.
    #[error("unsupported seccomp flag {0:?}")]
    UnknownFlag(String),
    /// `minKernel` is not `major.minor`.
    #[error("invalid kernel version {0:?}, expected major.minor")]
    BadKernelVersion(String),
    /// `name` and `names` in one rule.
    #[error("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")]
    NameAndNames,
    /// `architectures` and `archMap` in one profile.
    #[error(
        "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    ArchitecturesAndArchMap,
    /// More instructions than the kernel takes (4096).
    #[error("compiled seccomp filter has {0} instructions, at most 4096 are possible")]
    ProgramTooLarge(usize),
    /// Serialised bytes that are not a program.
    #[error("invalid serialised seccomp program: {0}")]
    BadProgram(&'static str),
}
