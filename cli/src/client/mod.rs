//! Talks HTTP/1.1 to an engine: over a unix socket, over TCP, or in process over a duplex. One code path for all.
//!
//! Every request opens its own connection: they cost microseconds on these doors, and hijacked and long-lived
//! requests then need no pool.

mod door;
mod error;
mod lines;
mod request;

pub(crate) use door::{Door, Places, chain, choose, directories};
pub(crate) use error::ClientError;
pub(crate) use lines::Lines;
pub(crate) use request::{Client, Hijacked, Payload, escape, query};
