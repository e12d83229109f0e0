//! Unix sockets of the daemon: made with care for those of another daemon, removed at the end.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::door::{Origin, serve_connection};
use super::hangup::Hangup;
use super::peer::shares_files;
use crate::engine::Engine;

/// How long requests in progress may take after the shutdown began; streams of running containers are cut then.
const GRACE: Duration = Duration::from_secs(10);
/// Memory is given back when no connection has begun or ended for so long.
const IDLE: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of descriptors), instead of a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon answers on the socket.
    #[error("{0}: another daemon is listening on this socket")]
    InUse(PathBuf),
    /// Another daemon holds the pid file's lock.
    #[error("{path}: another daemon is running with pid {pid}")]
    Running {
        /// The pid file.
        path: PathBuf,
        /// What it says.
        pid: String,
    },
    /// Something that is not a socket lies where the socket should be.
    #[error("{0}: exists and is not a socket")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A unix socket that accepts API connections; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Binds `path` with mode 0660. A socket file nobody answers on is replaced; its directory is made when missing.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`]; in particular when another daemon answers.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let io = |source| ListenError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if !std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) => {
                return Err(ListenError::NotASocket(path.to_owned()));
            }
            Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => return Err(ListenError::InUse(path.to_owned())),
                Err(_) => std::fs::remove_file(path).map_err(io)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        // Nobody but the owner may connect between bind and chmod.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = std::os::unix::net::UnixListener::bind(path);
        rustix::process::umask(before);
        let bound = bound.map_err(io)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(io)?;
        bound.set_nonblocking(true).map_err(io)?;
        Ok(Self {
            listener: UnixListener::from_std(bound).map_err(io)?,
            path: path.to_owned(),
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Best effort: a file left behind is replaced by the next daemon.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A file with this process's pid, locked while the daemon lives and removed when this is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _locked: std::fs::File,
}

impl PidFile {
    /// Writes the pid; the lock, not the number, tells whether the daemon that wrote it still lives.
    ///
    /// # Errors
    /// When another daemon holds it, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, ListenError> {
        let io = |source: io::Error| ListenError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd =
            rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map_err(|errno| io(errno.into()))?;
        let mut file = std::fs::File::from(fd);
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            (&mut file).take(16).read_to_string(&mut pid).map_err(io)?;
            return Err(ListenError::Running {
                path: path.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        file.set_len(0).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            _locked: file,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Best effort: the lock went with the process, so a file left behind stops nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves the API on every listener until `shutdown` completes; requests in progress get a grace of 10 s.
///
/// Containers are not touched: their supervisors outlive every daemon.
pub async fn serve(engine: Engine, listeners: Vec<Listener>, shutdown: impl Future<Output = ()>) {
    let restoring = engine.clone();
    tokio::spawn(async move {
        if let Err(error) = restoring.waiting(Engine::restore).await {
            tracing::warn!(error = error.message, "containers cannot be started again");
        }
    });
    let router = crate::routes::router(engine);
    let (stop, stopping) = watch::channel(false);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, router.clone(), stopping.clone()));
    }
    shutdown.await;
    // Receivers live in the tasks; without any there is nothing to stop.
    let _ = stop.send(true);
    let drained = async { while accepting.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, drained).await.is_err() {
        tracing::warn!("connections still open after the grace period are cut");
    }
}

async fn accept(listener: Listener, router: axum::Router, mut stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let idle = tokio::time::sleep(IDLE);
    tokio::pin!(idle);
    let mut released = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.listener.accept() => accepted,
            Some(_) = connections.join_next() => {
                idle.as_mut().reset(Instant::now() + IDLE);
                released = false;
                continue;
            }
            () = &mut idle, if !released => {
                // The allocator keeps what a burst of requests has used, for as long as the daemon lives.
                tokio::task::spawn_blocking(cooper_runner::sys::release_memory);
                released = true;
                continue;
            }
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = stream.peer_cred().ok();
        let uid = peer.as_ref().map(tokio::net::unix::UCred::uid);
        let shares_files = peer.is_some_and(|peer| shares_files(&peer));
        tracing::debug!(uid, shares_files, "connection");
        let mut stop = stopping.clone();
        let stopped = async move {
            // An error means that the sender has gone, which also means the end.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let hangup = match Hangup::watch(&stream) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "cannot watch a connection");
                None
            }
        };
        let origin = Origin {
            in_process: false,
            shares_files,
        };
        connections.spawn(serve_connection(stream, router.clone(), origin, hangup, stopped));
        idle.as_mut().reset(Instant::now() + IDLE);
        released = false;
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}
