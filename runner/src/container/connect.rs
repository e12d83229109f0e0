//! Reaching a container's supervisor, and starting one if there is none.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::containers::{Containers, flock};
use super::error::{Context, Error};
use super::layout::Layout;
use crate::supervisor::{Reply, Request, read_message, spawn_for_container, write_message};

/// How often a request is repeated when the supervisor goes away before it answers, because the container is just
/// ending or nobody else was connected.
const ATTEMPTS: u32 = 5;

impl Containers {
    /// Connects to the supervisor if one is there.
    pub(super) fn connect(&self, id: &str) -> Option<UnixStream> {
        // A socket's path is limited to 108 bytes, so it is named through its directory's descriptor.
        let dir = rustix::fs::open(
            Layout::exec_dir(&self.exec, id),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        UnixStream::connect(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), Layout::SOCKET)).ok()
    }

    /// Connects to the supervisor, starting one if there is none.
    fn connect_or_spawn(&self, id: &str) -> Result<UnixStream, Error> {
        if let Some(stream) = self.connect(id) {
            return Ok(stream);
        }
        let layout = self.layout(id)?;
        let _dir_lock = self.lock_dir(id)?;
        if let Some(stream) = self.connect(id) {
            return Ok(stream);
        }
        // A supervisor that does not listen any more is about to end: then this waits for it.
        let lock = File::options()
            .read(true)
            .write(true)
            .open(layout.lock())
            .context("open", layout.lock())?;
        flock(&lock, FlockOperation::LockExclusive).context("lock", layout.lock())?;
        if !layout.dir.is_dir() {
            return Err(Error::NotFound(id.to_owned()));
        }
        self.bury_if_dead(id, &layout)?;
        let (listener, path) = self.listen(id)?;
        spawn_for_container(&self.data, &self.exec, id, listener.into(), lock.into())
            .context("start the supervisor of", &layout.dir)?;
        self.connect(id)
            .ok_or_else(|| Error::Supervisor(format!("connect to {}: it ended at once", path.display())))
    }

    fn listen(&self, id: &str) -> Result<(UnixListener, PathBuf), Error> {
        let dir = Layout::exec_dir(&self.exec, id);
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).context("create", &dir);
            }
            _ => {}
        }
        let path = dir.join(Layout::SOCKET);
        let _ = fs::remove_file(&path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&dir, flags, Mode::empty()).context("open", &dir)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), Layout::SOCKET))
            .context("listen on", &path)?;
        // The directory keeps others out already.
        rustix::fs::chmodat(
            &handle,
            Layout::SOCKET,
            Mode::from_raw_mode(0o600),
            rustix::fs::AtFlags::empty(),
        )
        .context("set the mode of", &path)?;
        Ok((listener, path))
    }

    /// Sends a request to the supervisor, which is started if need be, and returns its reply and the connection.
    pub(super) fn request(&self, id: &str, request: &Request) -> Result<(Reply, UnixStream), Error> {
        self.layout(id)?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let mut stream = match self.connect_or_spawn(id) {
                // Another client came and went between our starting it and our connecting.
                Err(Error::Supervisor(message)) => {
                    last = Some(io::Error::other(message));
                    continue;
                }
                result => result?,
            };
            match exchange(&mut stream, request) {
                Ok(Some(reply)) => return Ok((reply, stream)),
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
        }
        let reason = last.map_or_else(|| "it hung up".to_owned(), |error| error.to_string());
        Err(Error::Supervisor(format!(
            "talk to the supervisor of {id}: {reason}"
        )))
    }

    /// Sends a request to a supervisor that must be there: the container has to run.
    pub(super) fn request_running(&self, id: &str, request: &Request) -> Result<(Reply, UnixStream), Error> {
        let state = self.state(id)?;
        let not_running = || Error::State {
            id: id.to_owned(),
            state: "not running".into(),
        };
        if !state.is_running() {
            return Err(not_running());
        }
        let mut stream = self.connect(id).ok_or_else(not_running)?;
        match exchange(&mut stream, request) {
            Ok(Some(reply)) => Ok((reply, stream)),
            Ok(None) | Err(_) => Err(not_running()),
        }
    }
}

fn exchange(stream: &mut UnixStream, request: &Request) -> io::Result<Option<Reply>> {
    write_message(&mut *stream, request)?;
    read_message(&mut *stream)
}

/// Turns every reply but [`Reply::Ok`] into an error.
pub(super) fn expect_ok(id: &str, reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Ok => Ok(()),
        Reply::StartFailed { error } => Err(error.into()),
        Reply::WrongState { state } => Err(Error::State {
            id: id.to_owned(),
            state,
        }),
        Reply::Failed { message } => Err(Error::Supervisor(message)),
        Reply::Exited { .. } => Err(Error::Supervisor(format!(
            "unexpected reply of the supervisor of {id}"
        ))),
    }
}
