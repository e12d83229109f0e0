//! Starting and attaching.

use std::os::unix::net::UnixStream;

use super::connect::expect_ok;
use super::containers::Containers;
use super::error::Error;
use super::types::AttachOptions;
use crate::supervisor::Request;

impl Containers {
    /// Spawns the supervisor if there is none and lets the process start. Returns when it runs or has failed to start.
    ///
    /// # Errors
    /// [`Error::Start`] with Docker's kinds, [`Error::State`] if it runs already, [`Error::NotFound`].
    pub fn start(&self, id: &str) -> Result<(), Error> {
        let (reply, _) = self.request(id, &Request::Start)?;
        expect_ok(id, reply)
    }

    /// Connects to the supervisor (spawning it in waiting state for a container that does not run). The stream carries,
    /// server to client: Docker stdcopy frames (8-byte header) without tty, raw bytes with tty; client to server: raw
    /// stdin, half-close = EOF. EOF from the server comes after the last byte of output.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the supervisor cannot be started.
    pub fn attach(&self, id: &str, options: AttachOptions) -> Result<UnixStream, Error> {
        let (reply, stream) = self.request(id, &Request::Attach { options })?;
        expect_ok(id, reply)?;
        Ok(stream)
    }
}
