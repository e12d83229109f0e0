//! From syntax tree to steps: which stages are needed, what their instructions mean, what the image will say.
//!
//! No IO. [`Graph`] is made first, from the file and the build arguments alone, and names the base images;
//! [`evaluate`] then needs these images' configs and yields the [`Plan`].

mod args;
mod config;
mod evaluate;
mod files;
mod gofmt;
mod graph;
mod mount_options;
mod mounts;
mod process;
mod source;
mod state;
mod step;
mod values;

pub(crate) use args::Globals;
pub(crate) use evaluate::{Plan, evaluate, outline};
pub(crate) use graph::{Graph, unused_build_args};
pub(crate) use source::Source;
pub(crate) use state::StageState;
pub(crate) use step::{
    Action, CopyAction, CopyFrom, Device, Inline, Mount, MountKind, RunAction, Step, WorkdirAction,
};
