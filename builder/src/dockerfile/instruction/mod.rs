//! Instructions: from the text of a logical line to the typed syntax tree.

mod build;
mod command;
mod files;
mod flags;
mod pairs;

pub(super) use build::{Comments, Parsed, read_line};
