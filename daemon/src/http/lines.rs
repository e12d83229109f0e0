//! Answers made of JSON lines: pull, push, load, build.
//!
//! What fails before the first line becomes an ordinary error answer; later failures are told in band.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::sync::mpsc;

use super::body::receiver_stream;
use crate::api::Message;
use crate::error::ApiError;

/// Lines in flight; a slow client slows the work down instead of filling memory.
const LINES: usize = 64;

/// Sends lines from tasks and threads.
#[derive(Debug)]
pub(crate) struct Lines<T = Message> {
    send: mpsc::Sender<Result<T, ApiError>>,
}

impl<T> Clone for Lines<T> {
    fn clone(&self) -> Self {
        Self {
            send: self.send.clone(),
        }
    }
}

impl<T> Lines<T> {
    pub(crate) fn channel() -> (Self, LinesBody<T>) {
        let (send, receive) = mpsc::channel(LINES);
        (Self { send }, LinesBody { receive })
    }

    /// From a thread that may block. False when the client has gone.
    pub(crate) fn send_blocking(&self, message: T) -> bool {
        self.send.blocking_send(Ok(message)).is_ok()
    }

    /// From a task. False when the client has gone.
    pub(crate) async fn send(&self, message: T) -> bool {
        self.send.send(Ok(message)).await.is_ok()
    }

    /// From anywhere, for progress that may be dropped when the client is slow or gone.
    pub(crate) fn offer(&self, message: T) {
        // Dropping is the point.
        let _ = self.send.try_send(Ok(message));
    }

    pub(crate) async fn fail(&self, error: ApiError) {
        // Nobody receives when the client has gone.
        let _ = self.send.send(Err(error)).await;
    }

    /// Completes when the client has gone.
    pub(crate) async fn closed(&self) {
        self.send.closed().await;
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct LinesBody<T = Message> {
    receive: mpsc::Receiver<Result<T, ApiError>>,
}

impl<T: Serialize + From<ApiError> + Send + 'static> LinesBody<T> {
    /// The answer, as soon as the first line or failure is known.
    pub(crate) async fn response(mut self) -> Response {
        let first = match self.receive.recv().await {
            Some(Err(error)) => return error.into_response(),
            Some(Ok(message)) => Some(message),
            None => None,
        };
        let rest = receiver_stream(self.receive).map(|line| line.unwrap_or_else(T::from));
        let lines = futures_util::stream::iter(first).chain(rest);
        let body =
            Body::from_stream(lines.map(|message| Ok::<_, std::convert::Infallible>(encode(&message))));
        (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl From<ApiError> for Message {
    fn from(error: ApiError) -> Self {
        Self::error(error.message)
    }
}

fn encode(message: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(message).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot encode a line");
        b"{}".to_vec()
    });
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

/// Docker's progress bar for clients that print it as it is, e.g. `[==>   ]  1.2MB/3MB`.
pub(crate) fn progress_bar(current: u64, total: u64) -> String {
    if total == 0 {
        return format!("{:>8}", human_size(current));
    }
    let filled = usize::try_from(current.saturating_mul(50) / total)
        .unwrap_or(50)
        .min(50);
    format!(
        "[{}>{}] {:>8}/{}",
        "=".repeat(filled),
        " ".repeat(50 - filled),
        human_size(current),
        human_size(total)
    )
}

/// Decimal units with up to four significant digits, as Docker's `units.HumanSize`.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let (mut whole, mut milli) = (bytes, 0);
    while whole >= 1000 && unit < UNITS.len() - 1 {
        milli = whole % 1000;
        whole /= 1000;
        unit += 1;
    }
    let text = match whole {
        _ if milli == 0 => whole.to_string(),
        0..=9 => format!("{whole}.{milli:03}"),
        10..=99 => format!("{whole}.{:02}", milli / 10),
        _ => format!("{whole}.{}", milli / 100),
    };
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_bars_look_like_dockers() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_984_229, "1.984MB"),
            (25_300_000, "25.3MB"),
            (306_000_000, "306MB"),
        ] {
            assert_eq!(human_size(bytes), expected);
        }
        assert_eq!(
            progress_bar(50, 100),
            format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25))
        );
    }
}
