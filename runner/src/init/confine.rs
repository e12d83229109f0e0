//! The last steps before a process executes, the same for a container's first process and for an exec.

use super::error::{Doing, Result};
use super::identity::{apply_limits, become_user, own_streams};
use super::message::{Message, Sync};
use super::program::{self, Program};
use super::sysctl::Proc;
use crate::caps::CapSet;
use crate::seccomp::Insn;
use crate::spec::ProcessSpec;
use crate::sys;
use crate::user::UserIds;

/// What a process is reduced to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confinement<'a> {
    pub(super) container: &'a str,
    pub(super) process: &'a ProcessSpec,
    pub(super) user: &'a UserIds,
    pub(super) caps: CapSet,
    pub(super) seccomp: Option<&'a [Insn]>,
}

/// Keyring, limits, owner of the streams, filter, user and capabilities, in the one order that works: without
/// `no_new_privs` the filter needs a capability that the user change takes away, with it the filter comes last.
pub(super) fn confine(confinement: Confinement<'_>, proc: Proc, sync: &Sync) -> Result<Program> {
    let Confinement {
        container,
        process,
        user,
        caps,
        seccomp,
    } = confinement;
    // The session keyring is the container's own, if the kernel has keyrings and the quota allows.
    let _ = sys::join_session_keyring(&format!("_ses.{container}"));
    for warning in apply_limits(process, &proc)? {
        sync.send(&Message::Warning(warning), None);
    }
    drop(proc);
    own_streams(user);
    let filter = |now: bool| match seccomp {
        Some(filter) if now => sys::load_seccomp(filter).doing("load the seccomp filter"),
        _ => Ok(()),
    };
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).doing("set no_new_privs")?;
    }
    filter(!process.no_new_privileges)?;
    become_user(user, caps)?;
    program::reset_inherited_state()?;
    let program = Program::find(process, user)?;
    filter(process.no_new_privileges)?;
    Ok(program)
}
