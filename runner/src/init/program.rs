//! The last steps: streams, working directory, program look-up, execve.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};

use super::error::{Doing, Result, SetupError, errno_text};
use super::message::{Message, Sync};
use super::paths::{Kind, Root};
use crate::container::StartErrorKind;
use crate::spec::ProcessSpec;
use crate::sys;
use crate::user::UserIds;

/// Docker's default search path, for a process whose environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process's standard streams.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// Ends of pipes (or `/dev/null` for stdin).
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A pty opened on the container's devpts.
    Terminal,
}

impl Stdio {
    /// Descriptors that must survive until [`install`].
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Pipes {
                stdin,
                stdout,
                stderr,
            } => vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            Self::Terminal => Vec::new(),
        }
    }
}

/// Puts the streams on descriptors 0 to 2, in a session of their own; a terminal becomes the controlling one.
pub(super) fn install(stdio: &Stdio, terminal: Option<&OwnedFd>) -> Result<()> {
    rustix::process::setsid().doing("create a session")?;
    let (stdin, stdout, stderr) = match (stdio, terminal) {
        (
            Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            },
            _,
        ) => (stdin, stdout, stderr),
        (Stdio::Terminal, Some(terminal)) => {
            rustix::process::ioctl_tiocsctty(terminal).doing("set the controlling terminal")?;
            (terminal, terminal, terminal)
        }
        (Stdio::Terminal, None) => return Err(SetupError::other("no terminal")),
    };
    rustix::stdio::dup2_stdin(stdin).doing("set stdin")?;
    rustix::stdio::dup2_stdout(stdout).doing("set stdout")?;
    rustix::stdio::dup2_stderr(stderr).doing("set stderr")
}

/// Enters the working directory, creating it when missing, and checks that it is inside the root: a directory handle
/// that leaked from the host would otherwise be a way out (CVE-2024-21626).
pub(super) fn enter_cwd(root: &mut Root, cwd: &str) -> Result<()> {
    let action = || format!("chdir to cwd ({cwd:?})");
    let path = if cwd.is_empty() {
        Path::new("/")
    } else {
        Path::new(cwd)
    };
    let dir = match root.open(path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(rustix::io::Errno::NOENT) => root.make_with(path, Kind::Dir, 0o755)?,
        result => result.doing(action())?,
    };
    rustix::process::fchdir(&dir).doing(action())?;
    verify_cwd()
}

fn verify_cwd() -> Result<()> {
    let outside =
        || SetupError::other("current working directory is outside of container mount namespace root");
    let cwd = rustix::process::getcwd(Vec::new()).map_err(|_| outside())?;
    if cwd.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(outside())
    }
}

/// Program, arguments and environment as execve wants them.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Finds the program as Go's `exec.LookPath` does in runc, whose error texts Docker's clients parse.
    pub(super) fn find(process: &ProcessSpec, user: &UserIds) -> Result<Self> {
        let Some(name) = process.args.first().filter(|name| !name.is_empty()) else {
            return Err(SetupError::other("no command specified"));
        };
        let mut env = process.env.clone();
        let has = |env: &[String], key: &str| {
            env.iter().any(|entry| {
                entry
                    .strip_prefix(key)
                    .is_some_and(|rest| rest.len() > 1 && rest.starts_with('='))
            })
        };
        if !has(&env, "HOME") {
            env.retain(|entry| entry != "HOME=");
            env.push(format!("HOME={}", user.home));
        }
        let path = env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or(DEFAULT_PATH);
        let path = look_up(name, path)?;
        let c_strings = |strings: &[String]| -> Result<Vec<CString>> {
            strings
                .iter()
                .map(|s| CString::new(s.as_str()).doing(format_args!("exec: {s:?}")))
                .collect()
        };
        Ok(Self {
            path: c_strings(&[path])?.remove(0),
            args: c_strings(&process.args)?,
            env: c_strings(&env)?,
        })
    }

    /// Says [`Message::Ready`] and executes. Returns only with the error.
    pub(super) fn execute(&self, sync: &Sync) -> SetupError {
        sync.send(&Message::Ready, None);
        let error = sys::execve(&self.path, &self.args, &self.env);
        let path = self.path.to_string_lossy();
        SetupError {
            kind: kind_of(&error),
            message: format!("exec {path}: {}", errno_text(&error)),
        }
    }
}

fn kind_of(error: &io::Error) -> StartErrorKind {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => StartErrorKind::NotFound,
        Some(libc::EACCES | libc::EPERM | libc::ENOEXEC | libc::EISDIR) => StartErrorKind::NotExecutable,
        _ => StartErrorKind::Other,
    }
}

fn look_up(name: &str, search: &str) -> Result<String> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(error) => {
                let kind = kind_of(&error);
                let text = errno_text(&error);
                // Go stats the file first and names that call when it fails.
                let stat = if kind == StartErrorKind::NotFound {
                    format!("stat {name}: ")
                } else {
                    String::new()
                };
                Err(SetupError {
                    kind,
                    message: format!("exec: {name:?}: {stat}{text}"),
                })
            }
        };
    }
    for dir in search.split(':') {
        let candidate = format!("{}/{name}", if dir.is_empty() { "." } else { dir });
        if executable(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    let message = format!("exec: {name:?}: executable file not found in $PATH");
    Err(SetupError {
        kind: StartErrorKind::NotFound,
        message,
    })
}

fn executable(path: &str) -> io::Result<()> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    // accessat honours CAP_DAC_OVERRIDE, which still needs one execute bit to be set.
    if stat.st_mode & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(())
}

/// umask, signals and descriptors as a program expects them.
pub(super) fn reset_inherited_state() -> Result<()> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::reset_signals();
    sys::close_range_cloexec().doing("mark descriptors close-on-exec")
}
