//! RUN
//!
//! | file | job |
//! |---|---|
//! | `key` | what the result depends on |
//! | `sources` | files that are mounted: finding, hashing, copying them |
//! | `prepare` | mounts made ready, and what is held meanwhile |
//! | `agent` | SSH agents |
//! | `devices` | `--device` |
//! | `spec` | the sandbox |
//! | `output` | what the process writes |
//! | `unchanged` | what is in the layer without having changed |
//! | `debug` | a shell in a failed step |

mod agent;
mod debug;
mod devices;
mod execute;
mod key;
mod output;
mod prepare;
mod sources;
mod spec;
mod unchanged;

pub(super) use execute::{Run, execute};
pub(super) use key::{key, quick};
pub(super) use sources::find;
