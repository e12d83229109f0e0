//! A plain HTTP accept loop for `cooper registry serve`.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::dispatch::router;
use crate::store::Store;

/// Connections served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may take to send a request's headers, or stay idle between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take once `shutdown` is ready.
const DRAIN: Duration = Duration::from_secs(30);

/// Serves the registry over `store` on `listener` until `shutdown` is ready; requests under way then get 30 s to end.
///
/// # Errors
/// If the listener cannot accept for a reason that will not pass (a connection that broke before it was accepted, or
/// a passing lack of file descriptors, is not one).
pub async fn serve(
    listener: TcpListener,
    store: Store,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let service = TowerToHyperService::new(router(store));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let outcome = loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = next => accepted,
            () = &mut shutdown => break Ok(()),
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (service, stopping) = (service.clone(), stopping.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    if let Err(error) = connection(stream, service, stopping).await {
                        tracing::debug!("registry connection from {peer}: {error}");
                    }
                });
            }
            Err(error) if passing(&error) => {
                tracing::warn!("registry cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => break Err(error),
        }
    };
    drop(listener);
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("registry: giving up on {} connections", connections.len());
    }
    outcome
}

async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<axum::Router>,
    mut stopping: watch::Receiver<bool>,
) -> hyper::Result<()> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Errors of accept(2) that concern one connection or a passing shortage.
fn passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) || error.raw_os_error().is_some_and(|code| {
        [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::PERM,
            Errno::PROTO,
        ]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
    })
}
