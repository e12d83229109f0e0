//! What the flags mean: request bodies made of typed texts, files and the environment.

pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod filters;
pub(crate) mod lifecycle;
pub(crate) mod mounts;
pub(crate) mod values;
