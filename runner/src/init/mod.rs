//! The container's side of clone: from a copy of the supervisor to the user's program.
//!
//! Everything here but `view` runs in a freshly cloned, single-threaded child that ends in execve or `_exit`. The order of steps is
//! the security property: see [`start`] for a container's first process and [`join`] for an exec.
//!
//! | file | job |
//! |---|---|
//! | `paths` | handles inside the new root; creating mount points |
//! | `rootfs` | propagation, pivot_root |
//! | `mounts` | default and requested mounts |
//! | `staged` | parts of layers, and files in memory, as mounts |
//! | `devices`, `console` | `/dev` |
//! | `masks` | masked and read-only paths |
//! | `sysctl` | namespaced sysctls through an own procfs |
//! | `identity` | user, groups, capabilities, limits |
//! | `program` | working directory, program look-up, execve |
//! | `view` | the container's files for tools; runs on a thread of an engine |
//! | `stubs` | removing mount points a build step left behind |

mod confine;
mod console;
mod devices;
mod error;
mod identity;
mod join;
mod masks;
mod message;
mod mounts;
mod paths;
mod program;
mod rootfs;
mod staged;
mod start;
mod stubs;
mod sysctl;
mod view;

pub(crate) use error::{Result, SetupError, errno_text};
pub(crate) use join::{JoinPlan, run_join};
pub(crate) use message::{Message, Sync};
pub(crate) use mounts::{CgroupView, FileMount};
pub(crate) use program::Stdio;
pub(crate) use start::{StartPlan, run_start};
pub(crate) use stubs::{Stub, remove_stubs};
pub(crate) use sysctl::validate as validate_sysctls;
pub(crate) use view::{View, root_of_running, view_of_running, view_of_stopped};
