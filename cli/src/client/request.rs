//! One request, one connection.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::door::Door;
use super::error::ClientError;
use super::lines::Lines;

/// Longest answer that is read whole: lists and inspections.
const MAX_ANSWER: usize = 256 << 20;
/// Longest error body that is read.
const MAX_ERROR: usize = 1 << 20;

type Body = BoxBody<Bytes, std::io::Error>;

/// What a request carries.
pub(crate) enum Payload {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Vec<u8>),
    /// Bytes of unknown length with their content type.
    Stream(&'static str, BoxStream<'static, std::io::Result<Bytes>>),
}

impl Payload {
    /// A value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ClientError> {
        Ok(Self::Json(serde_json::to_vec(value)?))
    }
}

/// A connection taken over by the two ends of an attach.
pub(crate) struct Hijacked {
    /// The raw stream; shutting down its writing side is the end of stdin.
    pub(crate) io: TokioIo<Upgraded>,
    /// Whether the engine frames stdout and stderr (no terminal).
    pub(crate) multiplexed: bool,
}

/// Speaks the Engine API through a door.
#[derive(Debug)]
pub(crate) struct Client {
    door: Door,
}

impl Client {
    /// A client for this door; connects at the first request.
    pub(crate) fn new(door: Door) -> Self {
        Self { door }
    }

    /// Whether the engine lives in this process, so that it sees our directories as we name them.
    pub(crate) fn is_in_process(&self) -> bool {
        self.door.is_in_process()
    }

    /// Cancels builds whose requests were dropped, and waits until the engine in this process has cleaned up.
    pub(crate) async fn cancel_builds(&self) {
        self.door.cancel_builds().await;
    }

    /// GET, the answer as it is.
    pub(crate) async fn get_value(&self, path: &str) -> Result<Value, ClientError> {
        let response = self.send(Method::GET, path, Payload::Empty, &[]).await?;
        let body = read_all(response, MAX_ANSWER).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// GET, the answer as JSON; null counts as absent, since Go prints nil lists so.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.send(Method::GET, path, Payload::Empty, &[]).await?;
        decode(response).await
    }

    /// POST of JSON, the answer as JSON.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        payload: Payload,
    ) -> Result<T, ClientError> {
        let response = self.send(Method::POST, path, payload, &[]).await?;
        decode(response).await
    }

    /// POST whose answer has no body worth reading; `false` when nothing had to be done (304).
    pub(crate) async fn act(&self, path: &str, payload: Payload) -> Result<bool, ClientError> {
        let response = self.send(Method::POST, path, payload, &[]).await?;
        let changed = response.status() != StatusCode::NOT_MODIFIED;
        read_all(response, MAX_ANSWER).await?;
        Ok(changed)
    }

    /// DELETE; the answer as JSON, null when empty.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        let response = self.send(Method::DELETE, path, Payload::Empty, &[]).await?;
        let body = read_all(response, MAX_ANSWER).await?;
        if body.is_empty() {
            Ok(Value::Null)
        } else {
            Ok(serde_json::from_slice(&body)?)
        }
    }

    /// POST whose answer is a stream of JSON lines.
    pub(crate) async fn stream(
        &self,
        path: &str,
        payload: Payload,
        headers: &[(&'static str, String)],
    ) -> Result<Lines, ClientError> {
        Ok(Lines::new(
            self.send(Method::POST, path, payload, headers).await?.into_body(),
        ))
    }

    /// GET whose answer is a stream of bytes; also says whether it is framed.
    pub(crate) async fn download(&self, path: &str) -> Result<(Incoming, bool), ClientError> {
        let response = self.send(Method::GET, path, Payload::Empty, &[]).await?;
        let multiplexed = is_multiplexed(&response);
        Ok((response.into_body(), multiplexed))
    }

    /// POST that takes the connection over.
    pub(crate) async fn hijack(&self, path: &str, payload: Payload) -> Result<Hijacked, ClientError> {
        let headers = [
            (CONNECTION.as_str(), "Upgrade".to_owned()),
            (UPGRADE.as_str(), "tcp".to_owned()),
        ];
        let response = self.send(Method::POST, path, payload, &headers).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::Answer(format!(
                "expected the connection to be upgraded, got {}",
                response.status()
            )));
        }
        let multiplexed = is_multiplexed(&response);
        let upgraded = hyper::upgrade::on(response).await?;
        Ok(Hijacked {
            io: TokioIo::new(upgraded),
            multiplexed,
        })
    }

    /// Sends a request and gives the answer's head; statuses from 400 on are errors.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
        headers: &[(&'static str, String)],
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.door.open().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Errors of the connection also reach the request below.
        tokio::spawn(connection.with_upgrades());
        let mut builder = Request::builder().method(method).uri(path).header(HOST, "cooper");
        for (name, value) in headers {
            builder = builder.header(*name, value);
        }
        let request = match payload {
            Payload::Empty => builder.body(whole(Empty::new()))?,
            Payload::Json(bytes) => builder
                .header(CONTENT_TYPE, "application/json")
                .body(whole(Full::new(Bytes::from(bytes))))?,
            Payload::Stream(kind, stream) => builder
                .header(CONTENT_TYPE, kind)
                .body(BodyExt::boxed(StreamBody::new(SyncStream::new(stream))))?,
        };
        let response = sender.send_request(request).await?;
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = read_all(response, MAX_ERROR).await.unwrap_or_default();
        let message = serde_json::from_slice::<Value>(&body)
            .ok()
            .and_then(|value| value.get("message")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        let message = if message.is_empty() {
            format!("the engine answered {status}")
        } else {
            message
        };
        Err(ClientError::Api { status, message })
    }
}

fn whole(
    body: impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Sync + 'static,
) -> Body {
    body.map_err(|never| match never {}).boxed()
}

/// Gives a stream that is only ever polled by one owner the `Sync` that a boxed body asks for.
struct SyncStream(std::sync::Mutex<BoxStream<'static, std::io::Result<Bytes>>>);

impl SyncStream {
    fn new(stream: BoxStream<'static, std::io::Result<Bytes>>) -> Self {
        Self(std::sync::Mutex::new(stream))
    }
}

impl futures_util::Stream for SyncStream {
    type Item = std::io::Result<Frame<Bytes>>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let stream = self
            .get_mut()
            .0
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        stream
            .poll_next_unpin(context)
            .map(|item| item.map(|chunk| chunk.map(Frame::data)))
    }
}

fn is_multiplexed(response: &Response<Incoming>) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes() == b"application/vnd.docker.multiplexed-stream")
}

async fn read_all(response: Response<Incoming>, limit: usize) -> Result<Bytes, ClientError> {
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(ClientError::Answer(error.to_string())),
    }
}

async fn decode<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let body = read_all(response, MAX_ANSWER).await?;
    let mut value = serde_json::from_slice(&body)?;
    drop_nulls(&mut value);
    Ok(serde_json::from_value(value)?)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Everything but unreserved characters and `/`, which separates path segments of names such as `a/b:c`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b'@');
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A name as part of a path.
pub(crate) fn escape(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// A path with its query; pairs keep their order.
pub(crate) fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut text = path.to_owned();
    for (index, (name, value)) in pairs.iter().enumerate() {
        let first = index == 0 && !path.contains('?');
        text.push(if first { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.extend(utf8_percent_encode(value, VALUE));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls() {
        let mut value = serde_json::json!({"a": null, "b": [{"c": null, "d": 1}, null]});
        drop_nulls(&mut value);
        assert_eq!(value, serde_json::json!({"b": [{"d": 1}, null]}));
    }

    #[test]
    fn paths() {
        assert_eq!(escape("a/b:c@sha256:1"), "a/b:c@sha256:1");
        assert_eq!(escape("a b?c#d%"), "a%20b%3Fc%23d%25");
        assert_eq!(query("/x", &[]), "/x");
        assert_eq!(
            query("/x", &[("a", "1 2"), ("b", "{\"c\":[\"d=e\"]}")]),
            "/x?a=1%202&b=%7B%22c%22%3A%5B%22d%3De%22%5D%7D"
        );
    }
}
