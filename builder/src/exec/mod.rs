//! Executes a plan: steps on worker threads, each from the root file system before it to the one after it.

mod archive;
mod context;
mod copy;
mod image;
mod line;
mod run;
mod schedule;
mod step;

pub(crate) use context::{Environment, Events, RootFs};
pub(crate) use image::finish_image;
pub(crate) use schedule::{Outcome, execute};
