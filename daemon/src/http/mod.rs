//! HTTP as Docker's clients speak it: versions, queries, bodies, streams, hijacked connections, doors.

pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod door;
pub(crate) mod filters;
pub(crate) mod hangup;
pub(crate) mod hijack;
pub(crate) mod keys;
pub(crate) mod leftover;
pub(crate) mod lines;
pub(crate) mod listen;
pub(crate) mod peer;
pub(crate) mod query;
pub(crate) mod version;
