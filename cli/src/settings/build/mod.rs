//! Values of `build`'s flags, one file for each kind. Docker's and buildx's spellings; nothing here touches the disk.

mod annotation;
mod attest;
mod cache;
mod call;
mod compression;
mod context;
mod csv;
mod entitlement;
mod host;
mod limits;
mod secret;
mod ssh;
mod target;

pub(crate) use annotation::annotations;
pub(crate) use attest::attestations;
pub(crate) use cache::{exports, imports};
pub(crate) use call::{Question, question};
pub(crate) use compression::compression;
pub(crate) use context::{Named, is_remote, named_contexts};
pub(crate) use csv::fields;
pub(crate) use entitlement::entitlements;
pub(crate) use host::hosts;
pub(crate) use limits::{ResourceFlags, resources, ulimits};
pub(crate) use secret::{SecretSource, secrets};
pub(crate) use ssh::agents;
pub(crate) use target::{image, targets};
