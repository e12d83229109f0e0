//! A container in the foreground: attach, wait, start, copy, end with its exit code, in docker's order.

use std::future::Future;
use std::pin::Pin;

use cooper_daemon::api::WaitResponse;

use crate::client::{Client, ClientError, Hijacked, Payload, query};
use crate::failure::{ENGINE_ERROR, Failure, Result, start_error_code};
use crate::session::{self, End, Session, Signals};
use crate::settings::container::Streams;

/// A container about to be started with our streams joined to it.
pub(super) struct Attachment<'a> {
    pub(super) id: &'a str,
    pub(super) streams: Streams,
    pub(super) tty: bool,
    /// The container removes itself when it exits.
    pub(super) removed: bool,
    pub(super) detach_keys: Vec<u8>,
    pub(super) sig_proxy: bool,
}

type Waiting<'a> = Pin<Box<dyn Future<Output = std::result::Result<WaitResponse, ClientError>> + 'a>>;

impl Attachment<'_> {
    /// Attaches, begins to wait, starts, copies, and ends with the process's exit code.
    pub(super) async fn start(self, client: &Client, signals: Signals) -> Result {
        let stream = attach(client, self.id, self.streams).await.map_err(engine)?;
        // The wait must be known to the engine before the start, or a short process could be gone before it.
        let condition = if self.removed { "removed" } else { "next-exit" };
        let path = query(
            &format!("/containers/{}/wait", self.id),
            &[("condition", condition)],
        );
        let waiting = client
            .send(hyper::Method::POST, &path, Payload::Empty, &[])
            .await
            .map_err(engine)?;
        let mut waiting: Waiting<'_> = Box::pin(async move {
            let mut lines = crate::client::Lines::new(waiting.into_body());
            match lines.next().await? {
                Some(answer) => Ok(serde_json::from_value(answer)?),
                None => Err(ClientError::Answer("no exit code".to_owned())),
            }
        });
        if let Err(error) = start(client, self.id).await {
            if self.removed {
                // The engine removes the container; its name must be free when we return. That it also reports an
                // exit code for a process that never was is of no use.
                let _ = tokio::time::timeout(std::time::Duration::from_secs(10), &mut waiting).await;
            }
            return Err(start_failure(error));
        }
        let session = Session {
            client,
            stream,
            stdin: self.streams.stdin,
            tty: self.tty,
            detach_keys: self.detach_keys,
            resize: format!("/containers/{}/resize", self.id),
            signals_to: self.sig_proxy.then(|| self.id.to_owned()),
            signals,
        };
        match session.run().await? {
            End::Output => {}
            End::Detached => return Ok(()),
            End::Signal(name) => return Err(Failure::Exit(128 + session::signal_number(name))),
        }
        let status = waiting.await.map_err(engine)?;
        exit(&status)
    }
}

/// The process's exit code as ours.
pub(super) fn exit(status: &WaitResponse) -> Result {
    if let Some(error) = &status.error
        && !error.message.is_empty()
    {
        return Err(Failure::new(error.message.clone()).with_code(ENGINE_ERROR));
    }
    match u8::try_from(status.status_code & 0xff).unwrap_or(u8::MAX) {
        0 => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}

/// Takes over a connection to a container's streams.
pub(super) async fn attach(
    client: &Client,
    id: &str,
    streams: Streams,
) -> std::result::Result<Hijacked, ClientError> {
    let flag = |set: bool| if set { "1" } else { "0" };
    let pairs = [
        ("stream", "1"),
        ("stdin", flag(streams.stdin)),
        ("stdout", flag(streams.stdout)),
        ("stderr", flag(streams.stderr)),
    ];
    client
        .hijack(
            &query(&format!("/containers/{id}/attach"), &pairs),
            Payload::Empty,
        )
        .await
}

/// Starts a container.
pub(super) async fn start(client: &Client, id: &str) -> std::result::Result<bool, ClientError> {
    client
        .act(&format!("/containers/{id}/start"), Payload::Empty)
        .await
}

/// The failure of a start: its text decides the exit code.
pub(super) fn start_failure(error: ClientError) -> Failure {
    let code = start_error_code(&error.to_string());
    Failure::from(error).with_code(code)
}

fn engine(error: ClientError) -> Failure {
    Failure::from(error).with_code(ENGINE_ERROR)
}
