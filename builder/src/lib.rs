//! Turns Dockerfiles into images: language, plan, cache, steps, export.
//!
//! Knows nothing of Docker's Engine API; keeps its results in `cooper_registry::store` and runs steps through
//! `cooper_runner`.

pub mod build;
pub mod cache;
pub mod call;
pub mod context;
pub mod dockerfile;
pub mod export;
pub mod ignore;
pub mod mounts;

mod exec;
mod fetch;
mod plan;
mod tree;
