//! From syntax tree to steps: which stages are needed, what their instructions mean, what the image will say.
//!
//! No IO. A [`Planner`] is made from the file and the request alone and knows the names of all steps: one stage for each
//! pair of target and platform that needs it, steps that read the same only once. It learns the configs of base images
//! one by one, since they are found while other stages already run, and gives out the steps that thereby become known,
//! with their definition keys. Steps that turn out to be the same become one.

mod args;
mod config;
mod definition;
mod evaluate;
mod files;
mod gofmt;
mod mount_options;
mod mounts;
mod named;
mod names;
mod outline;
mod planner;
mod process;
mod progress;
mod require;
mod slots;
mod source;
mod stage;
mod state;
mod step;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use args::{Epoch, epoch};

pub(crate) use planner::{Planned, Planner, is_multi_platform};
pub(crate) use source::Source;
pub(crate) use state::StageState;
pub(crate) use step::{
    Action, BaseAction, BaseSource, CopyAction, CopyFrom, CopySource, Device, Inline, Mount, MountKind,
    RunAction, Step, WorkdirAction,
};
