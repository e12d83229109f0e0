//! Clients that are gone for good.
//!
//! A half-close only says that a client has nothing more to send, so hyper is told not to take it for an end; but then
//! it notices a client that has closed its socket whole only when it next writes to it, which for a wait or for the
//! output of a silent container may be never.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches one connection. Keeps its socket open: must not outlive what serves the connection.
#[derive(Debug, Clone)]
pub(crate) struct Hangup {
    socket: Arc<AsyncFd<OwnedFd>>,
}

impl Hangup {
    /// Watches a socket; must be called within a runtime.
    pub(crate) fn watch(socket: impl AsFd) -> io::Result<Self> {
        // A registration of its own, so that clearing its readiness takes nothing from whoever writes.
        let copy = socket.as_fd().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "an owned descriptor stays what it is; the newer call needs unsafe code"
        )]
        let socket = AsyncFd::with_interest(copy, Interest::WRITABLE)?;
        Ok(Self {
            socket: Arc::new(socket),
        })
    }

    /// Ends when the peer has closed both directions.
    pub(crate) async fn gone(&self) {
        while let Ok(mut guard) = self.socket.writable().await {
            if guard.ready().is_write_closed() {
                return;
            }
            guard.clear_ready();
        }
    }
}

/// As [`Hangup::gone`]; without anything to watch, never.
pub(crate) async fn gone(hangup: Option<&Hangup>) {
    match hangup {
        Some(hangup) => hangup.gone().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    async fn ends(future: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_millis(100), future)
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn only_a_whole_close_counts() {
        let (mut client, mut server) = UnixStream::pair().unwrap();
        let hangup = Hangup::watch(&server).unwrap();
        let mut gone = pin!(hangup.gone());
        assert!(!ends(gone.as_mut()).await, "nothing happened");
        server.write_all(b"answer").await.unwrap();
        client.shutdown().await.unwrap();
        assert!(!ends(gone.as_mut()).await, "a half-close");
        drop(client);
        assert!(ends(gone.as_mut()).await, "a whole close");
        assert!(ends(hangup.gone()).await, "it stays closed");
    }
}
