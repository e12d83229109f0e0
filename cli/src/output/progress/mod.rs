//! Progress of a build: pure functions of its events, and one place that writes their result.

mod plain;
mod screen;
mod tasks;
mod tty;

pub(crate) use plain::Plain;
pub(crate) use screen::{Screen, size};
pub(crate) use tty::Tty;
