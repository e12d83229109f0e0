//! Request bodies: bounded JSON, and byte streams for code that blocks.

use std::io::{self, Read, Write};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::error::{ApiError, ApiResult};

/// No JSON body of the API comes near this.
const JSON_LIMIT: usize = 4 << 20;
/// Chunks in flight between a socket and a blocking reader or writer.
const CHUNKS: usize = 8;

/// Whether a body was announced at all.
fn is_empty(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    !headers.contains_key(header::TRANSFER_ENCODING) && length.is_none_or(|length| length == "0")
}

/// Reads a JSON body; `None` when there is none.
pub(crate) async fn optional_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> ApiResult<Option<T>> {
    if is_empty(headers) {
        return Ok(None);
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.is_empty() && !essence.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::bad(format!(
            "unsupported Content-Type header ({content_type}): must be 'application/json'"
        )));
    }
    let bytes = axum::body::to_bytes(body, JSON_LIMIT)
        .await
        .map_err(|error| ApiError::bad(format!("failed to read the request body: {error}")))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| invalid(&error))?;
    // What docker before 23 sends for a nil config.
    if value.is_null() {
        return Ok(None);
    }
    drop_nulls(&mut value);
    serde_json::from_value(value)
        .map(Some)
        .map_err(|error| invalid(&error))
}

/// Reads a JSON body that must be there.
pub(crate) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> ApiResult<T> {
    optional_json(headers, body)
        .await?
        .ok_or_else(|| ApiError::bad("invalid JSON: got EOF while reading request body"))
}

fn invalid(error: &serde_json::Error) -> ApiError {
    ApiError::bad(format!("invalid JSON: {error}"))
}

/// Go's decoder leaves a field as it is for `null`; docker-py sends many. Only members of structs are meant, which in
/// these bodies are the top level, `HostConfig` and what lies directly in it, except maps from ports to bindings.
fn drop_nulls(value: &mut serde_json::Value) {
    let serde_json::Value::Object(top) = value else {
        return;
    };
    top.retain(|_, member| !member.is_null());
    for (name, member) in top.iter_mut() {
        let serde_json::Value::Object(members) = member else {
            continue;
        };
        if name != "HostConfig" {
            continue;
        }
        members.retain(|_, member| !member.is_null());
        for (name, member) in members.iter_mut() {
            match member {
                serde_json::Value::Object(members) if name != "PortBindings" => {
                    members.retain(|_, member| !member.is_null());
                }
                _ => {}
            }
        }
    }
}

/// A request body as a blocking reader; use it off the runtime's threads.
#[derive(Debug)]
pub(crate) struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl BodyReader {
    /// Starts forwarding; the forwarder ends when the body does or when the reader is dropped.
    pub(crate) fn new(body: Body) -> Self {
        let (send, chunks) = mpsc::channel(CHUNKS);
        tokio::spawn(async move {
            let mut stream = body.into_data_stream();
            while let Some(chunk) = stream.next().await {
                if send.send(chunk.map_err(io::Error::other)).await.is_err() {
                    break;
                }
            }
        });
        Self {
            chunks,
            current: Bytes::new(),
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// The blocking writer of a streamed answer; writes fail once the client has gone.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

impl BodyWriter {
    /// A writer and the answer's body that it fills.
    pub(crate) fn new() -> (Self, Body) {
        let (chunks, receive) = mpsc::channel(CHUNKS);
        (Self { chunks }, Body::from_stream(receiver_stream(receive)))
    }

    /// Ends the body with an error, which cuts the connection so that the client cannot take it for whole.
    pub(crate) fn fail(&self, error: impl std::fmt::Display) {
        // Nobody receives when the client has gone.
        let _ = self
            .chunks
            .blocking_send(Err(io::Error::other(error.to_string())));
    }
}

impl Write for BodyWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.chunks.blocking_send(Ok(Bytes::copy_from_slice(buffer))) {
            Ok(()) => Ok(buffer.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A channel's receiving end as a stream.
pub(crate) fn receiver_stream<T>(mut receive: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::poll_fn(move |context| receive.poll_recv(context))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CreateRequest;

    #[test]
    fn nulls_are_defaults_but_published_ports_stay() {
        let text = r#"{"Image":"a","Hostname":null,"Labels":null,"HostConfig":{"NetworkMode":null,"Dns":null,
            "PortBindings":{"80/tcp":null},"LogConfig":{"Type":null}}}"#;
        let mut value = serde_json::from_str(text).unwrap();
        drop_nulls(&mut value);
        let request: CreateRequest = serde_json::from_value(value).unwrap();
        assert_eq!(request.config.image, "a");
        assert_eq!(request.host_config.port_bindings.get("80/tcp"), Some(&None));
    }
}
