//! `main` of a supervisor.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::DumpableBehavior;

use super::build;
use super::monitor::Monitor;
use crate::rootless;
use crate::sys::{self, Cloned};

/// `argv[0]` under which `cooper` re-executes itself as a supervisor; `main` must test it before anything else.
pub const ARGV0: &str = "cooper-supervisor";

/// Entry point for a process whose `argv[0]` is [`ARGV0`]; returns its exit code. Called from main before any thread or
/// runtime exists. Takes over descriptors 0 to 2 and the arguments.
pub fn main() -> i32 {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let result = match args.iter().map(OsString::as_os_str).collect::<Vec<_>>()[..] {
        [kind, data, exec, id] if kind == "container" => container(
            PathBuf::from(data),
            PathBuf::from(exec),
            id.to_string_lossy().into_owned(),
        ),
        [kind] if kind == "build" => build_step(),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    i32::from(result.is_err())
}

/// Moves the descriptors we were started with out of the way of the standard streams, which become `/dev/null`.
fn take_standard_streams() -> io::Result<(OwnedFd, OwnedFd)> {
    let first = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let second = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    // Whatever else the engine had open without close-on-exec is not kept alive by us.
    sys::close_range(&[first.as_fd(), second.as_fd()])?;
    Ok((first, second))
}

fn container(data: PathBuf, exec: PathBuf, id: String) -> io::Result<()> {
    let (listener, lock) = take_standard_streams()?;
    let (announced, announcing) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // The first process ends at once, so that the engine has no child to reap and we survive it.
    if let Cloned::Parent { .. } = sys::clone_process(0, None)? {
        drop(announcing);
        // Not before the second one keeps the user's namespace findable: the engine could end right after us.
        rustix::io::retry_on_intr(|| rustix::io::read(&announced, &mut [0_u8][..]))?;
        return Ok(());
    }
    rootless::announce_inherited();
    drop((announced, announcing));
    rustix::process::setsid()?;
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    Monitor::new(data, exec, id, listener, lock).run()
}

fn build_step() -> io::Result<()> {
    let (socket, null) = take_standard_streams()?;
    drop(null);
    rootless::announce_inherited();
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    rustix::process::setsid()?;
    build::run(&UnixStream::from(socket))
}
