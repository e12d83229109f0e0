//! Removing a container.

use std::fs::{self, File};

use rustix::fs::FlockOperation;

use super::connect::expect_ok;
use super::containers::{Containers, flock};
use super::delete::delete_tree;
use super::error::{Context, Error};
use super::layout::Layout;
use super::names::Names;
use super::tell::Subject;
use super::types::WaitCondition;
use crate::cgroup::Cgroup;
use crate::supervisor::{Reply, Request, read_message, write_message};

impl Containers {
    /// Deletes everything of the container; `force` kills first.
    ///
    /// # Errors
    /// [`Error::State`] if it runs and `force` is not given, [`Error::NotFound`], or its directory cannot be renamed.
    pub fn remove(&self, id: &str, force: bool) -> Result<(), Error> {
        let state = self.state(id)?;
        if state.is_running() {
            if !force {
                return Err(Error::State {
                    id: id.to_owned(),
                    state: state.status.as_str().into(),
                });
            }
            match self.end_by_force(id) {
                Ok(()) | Err(Error::State { .. }) => {}
                // It was to remove itself.
                Err(Error::NotFound(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match self.lock_dir(id) {
            Err(Error::NotFound(_)) if force => Ok(()),
            result => {
                let _lock = result?;
                self.dismiss_waiting_supervisor(id)?;
                take_away(self, id)
            }
        }
    }

    fn end_by_force(&self, id: &str) -> Result<(), Error> {
        let ended = self.wait_begin(id, WaitCondition::NotRunning)?;
        self.kill(id, libc::SIGKILL)?;
        ended.finish().map(drop)
    }

    /// Ends a supervisor that waits for a start, and waits until no supervisor is left.
    fn dismiss_waiting_supervisor(&self, id: &str) -> Result<(), Error> {
        if let Some(mut stream) = self.connect(id)
            && write_message(&mut stream, &Request::Shutdown).is_ok()
            && let Ok(Some(reply)) = read_message::<Reply>(&mut stream)
        {
            expect_ok(id, reply)?;
        }
        let layout = self.layout(id)?;
        let lock = match File::open(layout.lock()) {
            Err(_) if !layout.dir.is_dir() => return Err(Error::NotFound(id.to_owned())),
            result => result.context("open", layout.lock())?,
        };
        flock(&lock, FlockOperation::LockExclusive).context("lock", layout.lock())
    }
}

/// Makes a container without supervisor vanish: name, directory, execs, cgroup; then deletes the files.
pub(super) fn take_away(containers: &Containers, id: &str) -> Result<(), Error> {
    let layout = containers.layout(id)?;
    Layout::forget_execs(&containers.exec, &layout.dir);
    let (name, spec) = (layout.read_name(), layout.read_spec());
    let subject = Subject::read(&layout, id);
    let doomed = Layout::removed_dir(&containers.data, id);
    fs::rename(&layout.dir, &doomed).context("remove", &layout.dir)?;
    if let Ok(name) = name {
        Names::new(&containers.data).release(&name, id);
    }
    let _ = fs::remove_dir_all(Layout::exec_dir(&containers.exec, id));
    if let Ok(spec) = spec
        && let Ok(cgroup) = Cgroup::open(&spec.cgroup_path)
    {
        let _ = cgroup.delete();
    }
    subject.tell(&containers.data, "destroy", &[]);
    delete_tree(&doomed).context("delete", &doomed)
}
