//! What can be typed. Clap types only: no meaning, no defaults that depend on the machine; `settings` gives them meaning.
//!
//! Doc comments are the help text; flag names and shorthands are docker's.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "help texts are plain text, not Markdown: [:N] is no link"
)]

pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod container;
pub(crate) mod create;
pub(crate) mod data;
pub(crate) mod image;
pub(crate) mod root;
pub(crate) mod system;
