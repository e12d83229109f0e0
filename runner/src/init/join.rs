//! An additional process in a running container (exec).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::Mode;
use rustix::thread::ThreadNameSpaceType;

use super::confine::{Confinement, confine};
use super::console;
use super::error::{Doing, Result, SetupError};
use super::identity::{self, look_up};
use super::message::{Message, Sync};
use super::paths::Root;
use super::program::{self, Program, Stdio};
use super::sysctl::Proc;
use crate::caps::CapSet;
use crate::cgroup::Cgroup;
use crate::seccomp::Insn;
use crate::spec::{NetworkMode, ProcessSpec};
use crate::sys;

/// All that the child needs; it was cloned into the container's PID namespace.
#[derive(Debug)]
pub(crate) struct JoinPlan<'a> {
    pub(crate) process: &'a ProcessSpec,
    /// pidfd of the container's first process.
    pub(crate) target: BorrowedFd<'a>,
    pub(crate) container: &'a str,
    pub(crate) network: NetworkMode,
    /// The group that the child moves itself into.
    pub(crate) group: &'a Cgroup,
    pub(crate) caps: CapSet,
    pub(crate) seccomp: Option<&'a [Insn]>,
    pub(crate) stdio: Stdio,
}

/// Joins the container and executes the program. Errors go to the supervisor through `sync`.
pub(crate) fn run_join(plan: &JoinPlan<'_>, sync: &Sync) -> ! {
    let error = match join(plan, sync) {
        Ok(program) => program.execute(sync),
        Err(error) => error,
    };
    sync.send(&Message::Failed(error), None);
    sys::exit_now(1)
}

/// The order is that of [`super::start`]; the namespaces are joined only after the child is shielded, because from then
/// on the container's processes see it.
fn join(plan: &JoinPlan<'_>, sync: &Sync) -> Result<Program> {
    let mut keep = plan.stdio.fds();
    keep.extend([sync.as_fd(), plan.target]);
    sys::close_range(&keep).doing("close the supervisor's descriptors")?;
    identity::shield()?;
    if !sync.is_attended() {
        sys::exit_now(1);
    }
    plan.group
        .join()
        .map_err(|error| SetupError::other(error.to_string()))?;
    let mut namespaces = ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::MOUNT;
    // The host's is the one that we are in, and one that a user namespace may not join.
    if plan.network != NetworkMode::Host {
        namespaces |= ThreadNameSpaceType::NETWORK;
    }
    rustix::thread::move_into_thread_name_spaces(plan.target, namespaces)
        .doing("join the container's namespaces")?;
    rustix::process::umask(Mode::empty());

    let process = plan.process;
    let mut root = Root::current()?;
    let proc = Proc::new()?;
    let terminal = if process.tty {
        let pty = console::open_in(&root, process.console_size)?;
        sync.send(&Message::Terminal, Some(pty.controller.as_fd()));
        Some(pty.terminal)
    } else {
        None
    };
    program::install(&plan.stdio, terminal.as_ref())?;
    let user = look_up(&root, process)?;
    program::enter_cwd(&mut root, &process.cwd)?;
    let confinement = Confinement {
        container: plan.container,
        process,
        user: &user,
        caps: plan.caps,
        seccomp: plan.seccomp,
    };
    confine(confinement, proc, sync)
}
