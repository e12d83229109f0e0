//! Values of `build`'s flags, one file for each kind. Docker's and buildx's spellings; nothing here touches the disk.

mod annotation;
mod attest;
mod cache;
mod compression;
mod context;
mod csv;
mod entitlement;
mod host;
mod limits;
mod output;
mod secret;
mod ssh;
mod target;

pub(crate) use annotation::annotations;
pub(crate) use attest::attestations;
pub(crate) use cache::{exports, imports};
pub(crate) use compression::compression;
pub(crate) use context::{Named, is_remote, named_contexts};
pub(crate) use entitlement::entitlements;
pub(crate) use host::hosts;
pub(crate) use limits::{ResourceFlags, resources, ulimits};
pub(crate) use output::outputs;
pub(crate) use secret::{SecretSource, secrets};
pub(crate) use ssh::agents;
pub(crate) use target::targets;
