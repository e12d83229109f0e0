//! Docker's `Config` and `HostConfig` turned into a runner's spec. Pure: nothing here touches the host.

mod lifecycle;
mod limits;
mod merge;
mod mounts;
mod names;
mod security;
mod signal;
mod spec;
mod unsupported;
mod update;

pub(crate) use merge::merge_image_config;
pub(crate) use names::{generate_name, is_valid_name};
pub(crate) use signal::parse_signal;
pub(crate) use spec::{Input, Translated, exec_process, normalise_host_config, translate};
pub(crate) use update::{check_update, merge_update};
