//! `--output`: where the result of a build goes, and bringing it there.
//!
//! [`OutputSpec::parse`] reads what buildx reads; an image that stays in the store or is pushed is the engine's business, the
//! rest is fetched as a stream by [`receive()`].

mod directory;
mod file;
mod receive;
mod spec;

pub(crate) use receive::{receive, refuse_terminal};
pub(crate) use spec::OutputSpec;
