//! Executes a plan: steps on worker threads, each from the root file system before it to the one after it.

mod archive;
mod attempt;
mod base;
mod context;
mod copy;
mod emulation;
mod image;
mod line;
mod renamed;
mod run;
mod schedule;
mod step;

pub(crate) use archive::{Failure, is_archive};
pub(crate) use context::{Environment, Events, RootFs};
pub(crate) use emulation::Emulation;
pub(crate) use image::finish_image;
pub(crate) use schedule::{Feed, Outcome, execute};
