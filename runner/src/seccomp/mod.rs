//! Seccomp filters: Docker's profile format compiled to classic BPF.
//!
//! [`Profile`] is what to allow, [`Target`] for whom, [`compile`] makes the [`Program`] that the kernel loads. Nothing here
//! does IO except [`Target::host`].
//!
//! Meaning, as given by moby 28/29 + runc 1.3 + libseccomp 2.5:
//! - Rules are filtered by `includes` and `excludes` (architecture, capabilities, kernel) before anything else.
//! - A rule without arguments beats every rule with arguments for the same syscall; among equals the first wins.
//! - A rule that tests one argument twice is several rules, one a test (runc's compatibility rule).
//! - Syscall names unknown to an architecture are ignored. A rule whose action is the default one changes nothing.
//! - Unless the default lets calls pass, numbers above the highest one the profile names give `ENOSYS`, not `EPERM`, so
//!   that a libc newer than the profile falls back (runc's stub).
//! - A call from an architecture that the profile does not list kills the process.
//! - On 32-bit architectures, x32 among them, arguments are compared as 32-bit values.
//!
//! Serialised programs ([`Program::to_bytes`]) start with a magic that carries their format version.

mod arch;
mod asm;
mod compile;
mod default;
mod error;
#[cfg(test)]
mod interpreter;
mod profile;
mod program;
mod target;

pub use arch::Arch;
pub use compile::compile;
pub use error::SeccompError;
pub use profile::Profile;
pub use program::{FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC, Insn, Program};
pub use target::Target;
