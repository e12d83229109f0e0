//! Sources from elsewhere: files behind URLs and git repositories, for ADD and as contexts.
//!
//! [`source`] takes apart what the user wrote and does no IO. What [`http`] and [`git`] fetch becomes a layer of its own in
//! the store, found again by what it is (the digest of a body, the commit of a repository), so that a second build asks only
//! whether it still is what it was. Everything that comes from the other side is hostile: bodies are bounded, names are
//! taken from the URL, and git runs without anybody's configuration, hooks or prompts.

mod fetcher;
mod git;
mod http;
mod process;
mod source;

pub(crate) use fetcher::{FILE, Fetcher};
pub(crate) use source::{Remote, redact};
