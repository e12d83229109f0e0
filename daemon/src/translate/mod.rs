//! Docker's `Config` and `HostConfig` turned into a runner's spec. Pure: nothing here touches the host.

mod limits;
mod merge;
mod mounts;
mod names;
mod platform;
mod security;
mod signal;
mod spec;
mod unsupported;

pub(crate) use merge::merge_image_config;
pub(crate) use names::{generate_name, is_valid_name};
pub use platform::parse_platform;
pub(crate) use signal::parse_signal;
pub(crate) use spec::{Input, Translated, exec_process, normalise_host_config, translate};
