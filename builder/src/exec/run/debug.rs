//! A shell in the state that a failed RUN left.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{fs, io, thread};

use cooper_registry::store::Snapshot;
use cooper_runner::sandbox::Sandbox;
use cooper_runner::spec::ContainerSpec;

use super::super::context::{Environment, RootFs};
use super::agent::listen_in;
use crate::build::{Error, Event};
use crate::tree::{mount_readonly, resolve};

/// Shells that are looked for, with their arguments.
const SHELLS: [&[&str]; 3] = [&["/bin/sh"], &["/bin/bash"], &["/bin/busybox", "sh"]];
/// How soon a client, or the end of the build, is noticed.
const POLL: Duration = Duration::from_millis(10);

/// Offers the shell and stays until it has ended, the client has gone or the build is cancelled. Only what keeps it from
/// being offered is told, as a warning: the build fails because of the RUN.
pub(super) fn offer(
    environment: &Environment<'_>,
    step: usize,
    sandbox: &Sandbox<'_>,
    spec: &ContainerSpec,
    parent: &RootFs,
    snapshot: &Snapshot,
) {
    let problem = match try_offer(environment, step, sandbox, spec, parent, snapshot) {
        Ok(()) => return,
        Err(error) => error,
    };
    if !environment.stop.load(Ordering::Relaxed) {
        (environment.events)(Event::Warning {
            text: format!("no shell to look at the failed step: {problem}"),
        });
    }
}

fn try_offer(
    environment: &Environment<'_>,
    step: usize,
    sandbox: &Sandbox<'_>,
    spec: &ContainerSpec,
    parent: &RootFs,
    snapshot: &Snapshot,
) -> Result<(), Error> {
    let shell = find_shell(environment, parent, snapshot)?;
    let mut spec = spec.clone();
    spec.process.args = shell.iter().map(|&arg| arg.to_owned()).collect();
    spec.process.tty = true;
    spec.process.open_stdin = true;
    if !spec.process.env.iter().any(|pair| pair.starts_with("TERM=")) {
        spec.process.env.push("TERM=xterm".to_owned());
    }
    // What an overlay has used as its work directory cannot be used again once it was mounted volatile.
    spec.rootfs.work = work_beside(&spec.rootfs.work)?;
    for mount in &mut spec.mounts {
        if let cooper_runner::spec::MountSource::Overlay {
            upper: Some((_, work)),
            ..
        } = &mut mount.source
        {
            *work = work_beside(work)?;
        }
    }
    let door = Door::open(environment.exec_root)?;
    (environment.events)(Event::Debug {
        step,
        socket: door.path.clone(),
        shell: shell.join(" "),
    });
    let client = door.wait(environment)?;
    sandbox.interact(&spec, &client, environment.stop)?;
    Ok(())
}

fn work_beside(work: &Path) -> Result<PathBuf, Error> {
    let fresh = work.with_extension("debug");
    fs::create_dir(&fresh).map_err(|error| Error::io(&fresh, &error))?;
    Ok(fresh)
}

fn find_shell(
    environment: &Environment<'_>,
    parent: &RootFs,
    snapshot: &Snapshot,
) -> Result<&'static [&'static str], Error> {
    let mut lowers = vec![snapshot.upper()];
    lowers.extend(parent.lowers.iter().cloned());
    let root = mount_readonly(&lowers, environment.empty)?;
    let found = SHELLS.into_iter().find(|shell| {
        let file = resolve(&root, Path::new(shell[0]))
            .ok()
            .and_then(|found| found.stat);
        file.is_some_and(|stat| stat.st_mode & 0o111 != 0)
    });
    found.ok_or_else(|| {
        Error::Source("the image has neither /bin/sh nor /bin/bash nor /bin/busybox".to_owned())
    })
}

/// The socket that the client connects to; gone when dropped.
struct Door {
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
}

impl Door {
    fn open(exec_root: &Path) -> Result<Self, Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("random bytes: {error}")))?;
        // Nobody else can enter the directory, whatever the socket's mode at first.
        let dir = exec_root.join("build");
        let name = format!("debug-{}.sock", cooper_registry::digest::to_hex(&bytes));
        let path = dir.join(&name);
        let open = || -> io::Result<Self> {
            let listener = listen_in(&dir, &name)?;
            let door = Self {
                path: path.clone(),
                listener,
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            door.listener.set_nonblocking(true)?;
            Ok(door)
        };
        open().map_err(|error| Error::io(&path, &error))
    }

    /// The first client that is this user or root.
    fn wait(&self, environment: &Environment<'_>) -> Result<UnixStream, Error> {
        loop {
            environment.check_cancelled()?;
            match self.listener.accept() {
                Ok((client, _)) => {
                    let peer = rustix::net::sockopt::socket_peercred(&client).map(|peer| peer.uid);
                    let allowed =
                        |uid: rustix::process::Uid| uid.is_root() || uid == rustix::process::geteuid();
                    if peer.is_ok_and(allowed) {
                        let blocking = client.set_nonblocking(false);
                        blocking.map_err(|error| Error::io(&self.path, &error))?;
                        return Ok(client);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(POLL),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(&self.path, &error)),
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a debug socket could not be removed");
        }
    }
}
