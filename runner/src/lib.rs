//! Runs a root file system made of layers as an isolated process, and keeps watch over it.
//!
//! Takes directories and a [`spec::ContainerSpec`]; knows nothing of images, registries, Dockerfiles or Docker's HTTP
//! API.

pub mod caps;
pub mod cgroup;
pub mod container;
pub mod events;
mod init;
pub mod overlay;
pub mod rootless;
pub mod sandbox;
mod scratch;
pub mod seccomp;
pub mod spec;
pub mod supervisor;
pub mod sys;
pub mod user;
