//! The one content-addressed store, the OCI registry that serves it and the client that talks to others.
//!
//! Knows nothing of Dockerfiles, containers or Docker's Engine API.

pub mod archive;
pub mod client;
pub mod digest;
pub mod oci;
mod pipe;
pub mod platform;
pub mod reference;
pub mod server;
pub mod store;
