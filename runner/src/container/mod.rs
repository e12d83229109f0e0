//! Containers on disk and the supervisors that run them.
//!
//! # Tree
//! ```text
//! <data>/                       0710
//!   names/<name>                file with the id of the container that has the name
//!   <id>/                       0710, one visible container
//!     format                    "1\n": layout version of this directory
//!     name                      the container's name
//!     spec.json                 spec::ContainerSpec, with its version; never changes
//!     overrides.json            Overrides, with their version: what takes the place of values of the spec
//!     state.json                State, with its version
//!     supervisor.lock           flock held by the supervisor as long as it lives
//!     hosts hostname resolv.conf  bound over the container's files
//!     upper/ work/              writable layer, if the spec points here
//!     <id>-json.log[.N]         output
//!     health.json               Health, with its version, if there is a health check
//!     execs/<exec id>.json      ExecRecord, with its version
//!     attributes.json             of the engine: what its events say
//!     …                         files of the engine (config.json)
//!   .events/                    crate::events
//!   .tmp-<id>/                  a container being created
//!   .rm-<id>/                   a container being deleted
//! <exec>/                       0700, on a tmpfs: void after a reboot
//!   empty/                      mount point of container roots, always empty on the host
//!   execs/<exec id>             file with the id of the exec's container
//!   <id>/supervisor.sock        0600
//! ```
//!
//! # Locks
//! Whoever starts or removes a container, or renames it, holds a flock on its directory `<id>/` meanwhile. The
//! supervisor holds `supervisor.lock`; with it comes the sole right to write `state.json` and `execs/`. An engine writes
//! them only while it holds that lock itself. `overrides.json` is written under the lock on the directory. Whoever mounts
//! the writable layer of a container that does not run holds `supervisor.lock` meanwhile, so that it cannot start. A creator holds a flock on `.tmp-<id>/`, and a shared one on `<data>/` until
//! it has that; a sweep looks for leftovers under an exclusive lock on `<data>/`.
//!
//! # Crashes
//! A directory appears by rename from `.tmp-<id>` when it is complete, and disappears by rename to `.rm-<id>` before it
//! is deleted; [`Containers::open`] clears leftovers of both whose writer is gone. State files are replaced by rename; the last state of a
//! container is synced. If `state.json` says that a container runs and nobody holds `supervisor.lock`, its supervisor
//! died: whoever notices kills what is left in the cgroup and writes the end, exit code 137 with an error text. A name
//! whose container has no directory is free.

mod attach;
mod changes;
mod connect;
mod containers;
mod control;
mod create;
mod delete;
mod error;
mod exec;
mod files;
mod health;
mod layout;
mod names;
mod overrides;
mod remove;
mod state;
mod stats;
mod tell;
mod types;
mod wait;

pub use changes::{Change, ChangeKind};
pub use containers::Containers;
pub(crate) use containers::{flock, prepare_exec_root};
pub use error::{Error, StartErrorKind};
pub use exec::ExecState;
pub use files::{Files, PathInfo, ReadOnly};
pub use health::{Health, HealthStatus, ProbeResult};
pub use overrides::Overrides;
pub use tell::ATTRIBUTES_FILE;
pub use types::{AttachOptions, ExitStatus, State, Status, WaitCondition};
pub use wait::{Advance, Wait};

pub(crate) use delete::delete_tree;
pub(crate) use exec::ExecRecord;
pub(crate) use health::MAX_OUTPUT;
pub(crate) use layout::{Layout, file_mounts, host_resolv_conf, hosts_file};
pub(crate) use names::Names;
pub(crate) use tell::Subject;
