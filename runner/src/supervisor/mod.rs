//! The supervisor: one small single-threaded process per container.
//!
//! It is the running binary, executed again under the name [`ARGV0`]. It holds `supervisor.lock`, listens on
//! `<exec>/<id>/supervisor.sock`, and waits: attaches and waits may connect before the start. On `Start` it clones the
//! container, then owns its pidfd, pipes or pty, log file and exit status until the end. Engines come and go.
//!
//! | file | job |
//! |---|---|
//! | `launch` | engine side: executing a supervisor from a write-protected copy of the binary |
//! | `protocol` | requests and replies on the socket |
//! | `entry` | the supervisor's `main` |
//! | `monitor`, `requests`, `finish` | its event loop |
//! | `restart`, `health` | what it does on its own |
//! | `child`, `clone` | a supervised process and how it is started |
//! | `client` | an attached client's queue |
//! | `log`, `replay` | the json-file log |
//! | `build` | the variant for [`crate::sandbox`] |

mod build;
mod child;
mod client;
mod clone;
mod entry;
mod finish;
mod health;
mod launch;
mod log;
mod monitor;
mod protocol;
mod replay;
mod requests;
mod restart;

pub use entry::{ARGV0, main};
pub(crate) use launch::{spawn_for_build, spawn_for_container};
pub(crate) use protocol::{BuildRequest, Frame, Reply, Request, read_frame, read_message, write_message};
