//! What was changed of a container's spec after it was created: `overrides.json`.
//!
//! The spec stays as it was written. Whoever reads it gets it with these values in place, so the supervisor starts with
//! them, and a running one takes them over when it is told to. The file is replaced by rename and synced, under the lock on
//! the container's directory.

use serde::{Deserialize, Serialize};

use super::connect::expect_ok;
use super::containers::Containers;
use super::error::Error;
use super::layout::{Layout, check_version, read_json, write_json};
use crate::cgroup::Resources;
use crate::spec::{ContainerSpec, RestartPolicy};
use crate::supervisor::Request;

/// Version written to `overrides.json`.
const VERSION: u32 = 1;

/// Values that take the place of the spec's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    /// [`VERSION`] of the writer.
    version: u32,
    /// Limits, all of them.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// When the supervisor starts the process again.
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
    /// The engine's own, which is not read here.
    #[serde(default)]
    pub engine: serde_json::Value,
}

impl Overrides {
    pub(super) fn read(layout: &Layout) -> Result<Self, Error> {
        let path = layout.overrides();
        if !path.exists() {
            return Ok(Self::default());
        }
        let overrides: Self = read_json(&path)?;
        check_version(&path, overrides.version, VERSION)?;
        Ok(overrides)
    }

    pub(super) fn apply(self, spec: &mut ContainerSpec) {
        if let Some(resources) = self.resources {
            spec.resources = resources;
        }
        if let Some(restart) = self.restart {
            spec.restart = restart;
        }
    }
}

impl Containers {
    /// What was changed after the creation.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the file is damaged or from a newer version.
    pub fn overrides(&self, id: &str) -> Result<Overrides, Error> {
        Overrides::read(&self.layout(id)?)
    }

    /// Changes limits and restart policy, at once if the container runs. `change` gets what is written now. If a running
    /// container cannot be changed, everything stays as it was.
    ///
    /// # Errors
    /// Those of `change`, [`Error::Supervisor`] for limits that the kernel refuses, or the file cannot be written.
    pub fn update<E: From<Error>>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Overrides) -> Result<(), E>,
    ) -> Result<(), E> {
        let layout = self.layout(id)?;
        let _lock = self.lock_dir(id)?;
        let before = Overrides::read(&layout)?;
        let mut after = before.clone();
        change(&mut after)?;
        after.version = VERSION;
        if before == after {
            return Ok(());
        }
        write_json(&layout.overrides(), &after, true)?;
        let told = match self.request_running(id, &Request::Update) {
            Ok((reply, _)) => expect_ok(id, reply),
            // Not running: it starts with the new values.
            Err(Error::State { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            let back = Overrides {
                version: VERSION,
                ..before
            };
            write_json(&layout.overrides(), &back, true)?;
            // Limits that were set before one was refused; the error to tell is the first.
            let _ = self.request_running(id, &Request::Update);
            return Err(error.into());
        }
        self.tell(id, "update", &[]);
        Ok(())
    }
}
