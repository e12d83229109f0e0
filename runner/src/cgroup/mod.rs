//! Control groups: limits, accounting of processes, freezing and killing.
//!
//! [`Cgroup`] hides which of the two kernel interfaces a machine has. On v1 every controller is a hierarchy of its own and
//! the group is a directory in each; on v2 there is one directory. A machine with v1 controllers and an empty v2 tree beside
//! them (systemd's hybrid layout) counts as v1.
//!
//! A group's path, `cooper/<id>`, is relative to the *base*: the top of what is mounted, or, when that is not writable, the
//! highest writable ancestor of the calling process's own group (a delegated subtree). All processes of one user get the
//! same base, so an engine finds the group that another one made.
//!
//! An unprivileged user to whom nothing is delegated has no groups: containers then stay in their engine's, without limits
//! and without being frozen.
//!
//! Limits are written before the first process enters. A limit whose controller is missing is a warning and not an error,
//! as in Docker; a value that the kernel refuses is an error.

mod device_filter;
mod devices;
mod error;
mod files;
mod handle;
mod layout;
mod resources;
mod stats;
mod v1;
mod v2;

pub use devices::docker_default_devices;
pub use error::CgroupError;
pub use handle::Cgroup;
pub use layout::{Layout, detect, is_delegated};
pub use resources::{DeviceRule, Resources};
pub use stats::{BlockIo, Cpu, Memory, Stats};
