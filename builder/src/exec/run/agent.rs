//! An SSH agent of the client as a socket for one RUN.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::build::Error;

/// Connections at the same time; more wait.
const MAX_CONNECTIONS: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);

/// A listening socket whose connections go to the agent's, so that the step's user may open it whatever the owner of the
/// agent. Gone when dropped.
#[derive(Debug)]
pub(super) struct Agent {
    dir: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Listens for the agent that listens at `target`.
    pub(super) fn start(
        exec_root: &Path,
        target: &Path,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<Self, Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("random bytes: {error}")))?;
        let name = format!("build/agent-{}", cooper_registry::digest::to_hex(&bytes));
        let mut agent = Self {
            dir: exec_root.join(name),
            stop: Arc::new(AtomicBool::new(false)),
            thread: None,
        };
        let started = agent.listen(target, mode, owner);
        agent.thread = Some(started.map_err(|error| Error::io(&agent.dir, &error))?);
        Ok(agent)
    }

    fn listen(&self, target: &Path, mode: u32, owner: (u32, u32)) -> io::Result<JoinHandle<()>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let listener = listen_in(&self.dir, "socket")?;
        chown(self.socket(), Some(owner.0), Some(owner.1))?;
        fs::set_permissions(self.socket(), fs::Permissions::from_mode(mode))?;
        let (target, stop) = (target.to_owned(), Arc::clone(&self.stop));
        thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || serve(&listener, &target, &stop))
    }

    /// Where it listens on this host.
    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Wakes it up; it ends by itself if that fails.
            let woken = connect_in(&self.dir, "socket");
            if woken.is_ok() && thread.join().is_err() {
                tracing::debug!("the thread of an SSH agent panicked");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::debug!(path = %self.dir.display(), %error, "an agent's socket could not be removed");
        }
    }
}

/// A socket's name may have 107 bytes; a directory's path may be longer.
pub(super) fn listen_in(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let handle = File::open(dir)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()))
}

fn connect_in(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let handle = File::open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()))
}

fn connect(target: &Path) -> io::Result<UnixStream> {
    match (target.parent(), target.file_name().and_then(|name| name.to_str())) {
        (Some(dir), Some(name)) if target.as_os_str().len() > 100 => connect_in(dir, name),
        _ => UnixStream::connect(target),
    }
}

fn serve(listener: &UnixListener, target: &Path, stop: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        while open.load(Ordering::Relaxed) >= MAX_CONNECTIONS && !stop.load(Ordering::Relaxed) {
            thread::sleep(PAUSE);
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A client without an agent behind it sees the end of its connection.
        let (Ok(client), Ok(agent)) = (client, connect(target)) else {
            continue;
        };
        let open = Arc::clone(&open);
        open.fetch_add(1, Ordering::Relaxed);
        let spawned = thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || {
                join(&client, &agent);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "a connection to an SSH agent could not be served");
        }
    }
}

/// Copies both ways until both have ended.
fn join(client: &UnixStream, agent: &UnixStream) {
    let copy = |from: &UnixStream, to: &UnixStream| {
        // Broken or at its end: both mean that no more comes.
        let _ = io::copy(&mut { from }, &mut { to });
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(agent, client));
        copy(client, agent);
    });
}
