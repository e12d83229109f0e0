//! Connections: what every door does with one, and the in-process door.

use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tower::ServiceExt as _;

use super::hangup::{Hangup, gone};
use crate::engine::Engine;

/// How long a client may take over the headers of a request (Docker's value).
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes in flight on the in-process door, each way.
const DUPLEX_BUFFER: usize = 256 << 10;

/// Where a request came from; an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The client is this very process.
    pub(crate) in_process: bool,
    /// Host paths that the client names are what this process sees under the same names, with the same rights.
    pub(crate) shares_files: bool,
}

/// Serves the API on one end of an in-memory duplex and returns the other: speak HTTP/1.1 over it as over a socket.
///
/// Must be called within a tokio runtime. Requests of this door may name directories of this host.
pub fn in_process(engine: Engine) -> DuplexStream {
    let (client, server) = tokio::io::duplex(DUPLEX_BUFFER);
    let connection = serve_connection(
        server,
        crate::routes::router(engine),
        Origin {
            in_process: true,
            shares_files: true,
        },
        None,
        std::future::pending(),
    );
    tokio::spawn(connection);
    client
}

/// Serves one connection until it ends or its client is gone; `shutdown` lets the request in progress finish first.
pub(crate) async fn serve_connection<S>(
    stream: S,
    router: Router,
    origin: Origin,
    hangup: Option<Hangup>,
    shutdown: impl Future<Output = ()> + Send,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let for_requests = hangup.clone();
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(origin);
        if let Some(hangup) = &for_requests {
            request.extensions_mut().insert(hangup.clone());
        }
        request.map(axum::body::Body::new)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.half_close(true)
        .title_case_headers(true)
        .timer(TokioTimer::new());
    if !origin.in_process {
        http.header_read_timeout(HEADER_TIMEOUT);
    }
    let connection = http
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    tokio::pin!(connection, shutdown);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        // Dropping the request in progress ends waits and streams; work that changes something completes.
        () = gone(hangup.as_ref()) => return,
        () = shutdown => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}
