//! A terminal or pipes joined to a container's process: framing, detach keys, raw mode, signals, output.

mod attach;
#[expect(dead_code, reason = "the build command calls it once it has --debug")]
mod debug;
mod detach;
mod framing;
mod pump;
mod signals;
mod stdin;
mod terminal;

pub(crate) use attach::{End, Session};
#[expect(unused_imports, reason = "the build command uses them once it has --debug")]
pub(crate) use debug::{debug_command, debug_shell};
pub(crate) use detach::parse_keys;
pub(crate) use framing::Deframer;
pub(crate) use pump::{Pump, Target};
pub(crate) use signals::{Signals, number as signal_number};
pub(crate) use terminal::{is_terminal_stdin, window};
