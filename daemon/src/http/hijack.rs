//! Hijacked connections: attach and exec take over the connection after the headers.

use std::io;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::hangup::{Hangup, gone};
use super::keys::DetachKeys;
use super::version::{ApiVersion, MULTIPLEXED_SINCE};
use crate::api::{MULTIPLEXED_STREAM, RAW_STREAM};
use crate::error::{ApiError, ApiResult};

const BUFFER: usize = 32 << 10;

/// A connection that can be taken over once the answer is decided.
#[derive(Debug)]
pub(crate) struct Hijack {
    /// Present when the client asked for `Upgrade`.
    upgrade: Option<OnUpgrade>,
    version: ApiVersion,
    hangup: Option<Hangup>,
}

/// The client's end of a process's streams.
#[derive(Debug)]
pub(crate) enum Process {
    /// A live process behind its supervisor's socket.
    Stream {
        stream: UnixStream,
        stdin: bool,
        detach: Option<DetachKeys>,
    },
    /// Nothing but this text (a process that could not start).
    Text(Vec<u8>),
}

impl Hijack {
    /// Takes what is needed out of a request.
    pub(crate) fn prepare(request: &mut Request) -> Self {
        let wants = request.headers().contains_key(header::UPGRADE);
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let version = request
            .extensions()
            .get::<ApiVersion>()
            .copied()
            .unwrap_or(MULTIPLEXED_SINCE);
        Self {
            upgrade: upgrade.filter(|_| wants),
            version,
            hangup: request.extensions().get::<Hangup>().cloned(),
        }
    }

    /// The answer: 101 and the pump in the background, or, without `Upgrade`, a 200 that streams the output only.
    pub(crate) fn respond(self, tty: bool, process: Process) -> Response {
        let framed = !tty && self.version >= MULTIPLEXED_SINCE;
        let Some(upgrade) = self.upgrade else {
            let body = match process {
                Process::Stream { stream, .. } => output_body(stream),
                Process::Text(text) => Body::from(text),
            };
            return (StatusCode::OK, [(header::CONTENT_TYPE, RAW_STREAM)], body).into_response();
        };
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    if let Err(error) = carry(TokioIo::new(upgraded), process, self.hangup).await {
                        tracing::debug!(%error, "hijacked connection ended");
                    }
                }
                Err(error) => tracing::debug!(%error, "connection was not taken over"),
            }
        });
        let headers = [
            (
                header::CONTENT_TYPE,
                if framed { MULTIPLEXED_STREAM } else { RAW_STREAM },
            ),
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "tcp"),
        ];
        let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        // Docker's spelling; old clients compare the whole status line.
        response
            .extensions_mut()
            .insert(hyper::ext::ReasonPhrase::from_static(b"UPGRADED"));
        response
    }
}

/// Adopts a supervisor's socket into the runtime.
pub(crate) fn adopt(stream: std::os::unix::net::UnixStream) -> ApiResult<UnixStream> {
    let adopted = stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream));
    adopted.map_err(|error| ApiError::internal(format!("failed to use the container's stream: {error}")))
}

/// What a frame of Docker's multiplexed stream looks like.
pub(crate) fn frame(stderr: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend_from_slice(&[if stderr { 2 } else { 1 }, 0, 0, 0]);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&payload[..length as usize]);
    frame
}

/// Whether the request's client can be given frames under their own content type.
pub(crate) fn stream_content_type(headers_version: ApiVersion, tty: bool) -> &'static str {
    if !tty && headers_version >= MULTIPLEXED_SINCE {
        MULTIPLEXED_STREAM
    } else {
        RAW_STREAM
    }
}

fn output_body(stream: UnixStream) -> Body {
    let stream = futures_util::stream::try_unfold(stream, |mut stream| async move {
        let mut buffer = vec![0; BUFFER];
        let count = stream.read(&mut buffer).await?;
        buffer.truncate(count);
        Ok::<_, io::Error>((count > 0).then(|| (bytes::Bytes::from(buffer), stream)))
    });
    Body::from_stream(stream)
}

async fn carry<C: AsyncRead + AsyncWrite + Unpin>(
    mut client: C,
    process: Process,
    hangup: Option<Hangup>,
) -> io::Result<()> {
    match process {
        Process::Stream {
            stream,
            stdin,
            detach,
        } => pump(client, stream, stdin, detach, hangup).await,
        Process::Text(text) => {
            client.write_all(&text).await?;
            client.shutdown().await
        }
    }
}

/// Carries bytes both ways until the process's side ends, the detach keys come, or the client is gone.
///
/// The client's half-close is passed on as half-close: it means end of input, not end of interest (docker's CLI closes
/// its sending side at once when it has no input to send).
async fn pump<C: AsyncRead + AsyncWrite + Unpin>(
    client: C,
    process: UnixStream,
    stdin: bool,
    mut detach: Option<DetachKeys>,
    hangup: Option<Hangup>,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_process, mut to_process) = process.into_split();
    let output = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = from_process.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            to_client.write_all(&buffer[..count]).await?;
            to_client.flush().await?;
        }
        to_client.shutdown().await
    };
    let input = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(count) = from_client.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            if !stdin {
                continue;
            }
            let sent = match &mut detach {
                None => to_process.write_all(&buffer[..count]).await,
                Some(keys) => {
                    let (bytes, end) = keys.filter(&buffer[..count]);
                    let sent = to_process.write_all(&bytes).await;
                    if end {
                        return true;
                    }
                    sent
                }
            };
            if sent.is_err() {
                break;
            }
        }
        if stdin {
            // The process may have gone; its end is seen on the output side.
            let _ = to_process.shutdown().await;
        }
        false
    };
    tokio::pin!(output);
    tokio::select! {
        result = &mut output => result,
        detached = input => {
            if detached {
                return Ok(());
            }
            // Only now: input that was sent before the close still goes to the process.
            tokio::select! {
                result = &mut output => result,
                () = gone(hangup.as_ref()) => Ok(()),
            }
        }
    }
}
