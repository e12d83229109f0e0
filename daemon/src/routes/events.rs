//! `GET /events`: history and what happens from now on, as JSON objects one after the other.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use bytes::Bytes;
use cooper_runner::events::{Event, EventKind, Follower};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::api::{EventActor, EventMessage};
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::body::receiver_stream;
use crate::http::filters::Filters;
use crate::http::query::Query;

/// Chunks in flight; a client that does not read holds up nothing but its own stream.
const CHUNKS: usize = 16;
const FILTERS: [&str; 15] = [
    "container",
    "config",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "builder",
];

pub(super) fn routes() -> Router<Engine> {
    Router::new().route("/events", get(events))
}

/// What a client wants to see.
struct Wanted {
    since: Option<i64>,
    until: Option<i64>,
    filters: Filters,
}

async fn events(State(engine): State<Engine>, query: Query) -> ApiResult {
    let time = |name| query.time(name).map(|time| time.map(nanoseconds));
    let wanted = Wanted {
        since: time("since")?,
        until: time("until")?,
        filters: Filters::parse(&query, &FILTERS)?,
    };
    if let (Some(since), Some(until)) = (wanted.since, wanted.until)
        && since > until
    {
        return Err(ApiError::bad("`since` time cannot be after `until` time"));
    }
    let (history, follower) = engine
        .blocking(|engine| {
            let follow = engine.containers()?.events().follow();
            follow.map_err(|error| ApiError::internal(format!("failed to read the event log: {error}")))
        })
        .await?;
    let (send, receive) = mpsc::channel::<io::Result<Bytes>>(CHUNKS);
    let end = end(wanted.until);
    let (stop, open) = io::pipe().map_err(|error| ApiError::internal(error.to_string()))?;
    let closed = send.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = end => {}
            () = closed.closed() => {}
        }
        // The thread below sees the other end close.
        drop(open);
    });
    tokio::spawn(async move {
        let work = engine.waiting(move |_| {
            // Without a beginning nothing of the past is told, as Docker does.
            let past = history.into_iter().filter(|_| wanted.since.is_some());
            if let Err(error) = tell(&send, &wanted, past, follower, &stop) {
                tracing::warn!(%error, "the event log can no longer be followed");
            }
            Ok(())
        });
        if let Err(error) = work.await {
            tracing::warn!(error = error.message, "events cannot be told");
        }
    });
    let body = Body::from_stream(receiver_stream(receive));
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// When the time that a client is interested in is over.
async fn end(until: Option<i64>) {
    match until {
        None => std::future::pending().await,
        Some(until) => {
            let left = until.saturating_sub(nanoseconds(Timestamp::now())).max(0);
            tokio::time::sleep(Duration::from_nanos(left.unsigned_abs())).await;
        }
    }
}

/// Sends what is wanted, past and present, until the client has gone or `stop` closes.
fn tell(
    send: &mpsc::Sender<io::Result<Bytes>>,
    wanted: &Wanted,
    past: impl IntoIterator<Item = Event>,
    mut follower: Follower,
    stop: &io::PipeReader,
) -> io::Result<()> {
    if !send_all(send, wanted, past) {
        return Ok(());
    }
    while follower.wait(stop)? {
        if !send_all(send, wanted, follower.read_new()?) {
            return Ok(());
        }
    }
    // What came last is still within the time.
    send_all(send, wanted, follower.read_new()?);
    Ok(())
}

/// False when the client has gone.
fn send_all(
    send: &mpsc::Sender<io::Result<Bytes>>,
    wanted: &Wanted,
    events: impl IntoIterator<Item = Event>,
) -> bool {
    let mut chunk = Vec::new();
    for event in events.into_iter().filter(|event| wanted.takes(event)) {
        match serde_json::to_vec(&message(event)) {
            Ok(line) => chunk.extend_from_slice(&line),
            Err(error) => tracing::error!(%error, "cannot encode an event"),
        }
        chunk.push(b'\n');
    }
    chunk.is_empty() || send.blocking_send(Ok(chunk.into())).is_ok()
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Container => "container",
        EventKind::Image => "image",
        EventKind::Volume => "volume",
        EventKind::Network => "network",
        EventKind::Builder => "builder",
        EventKind::Daemon => "daemon",
    }
}

fn message(event: Event) -> EventMessage {
    let old = matches!(event.kind, EventKind::Container | EventKind::Image);
    let from = match event.kind {
        EventKind::Container => event.attributes.get("image").cloned().unwrap_or_default(),
        _ => String::new(),
    };
    EventMessage {
        status: if old { event.action.clone() } else { String::new() },
        id: if old { event.id.clone() } else { String::new() },
        from,
        kind: kind(event.kind).to_owned(),
        action: event.action,
        actor: EventActor {
            id: event.id,
            attributes: event.attributes,
        },
        scope: "local".to_owned(),
        time: event.time.div_euclid(1_000_000_000),
        time_nano: event.time,
    }
}

impl Wanted {
    /// Docker's rules (moby `daemon/events/filter.go`).
    fn takes(&self, event: &Event) -> bool {
        if self.since.is_some_and(|since| event.time < since)
            || self.until.is_some_and(|until| event.time > until)
        {
            return false;
        }
        let filters = &self.filters;
        let action = event.action.as_str();
        let named = |key: &str, wanted: EventKind| {
            filters.any(key, |value| event.kind == wanted && is_named(event, value))
        };
        filters.any("event", |value| {
            // These say more behind a colon.
            let open = matches!(value, "health_status" | "exec_create" | "exec_start");
            action == value || (open && action.split_once(':').is_some_and(|(head, _)| head == value))
        }) && filters.any("type", |value| value == kind(event.kind))
            && filters.any("scope", |value| value == "local")
            && named("container", EventKind::Container)
            && named("volume", EventKind::Volume)
            && named("network", EventKind::Network)
            && named("daemon", EventKind::Daemon)
            && named("builder", EventKind::Builder)
            && filters.any("image", |value| is_of_image(event, value))
            && filters.labels(&event.attributes)
            && ["config", "node", "plugin", "secret", "service"]
                .iter()
                .all(|key| filters.values(key).is_empty())
    }
}

fn is_named(event: &Event, value: &str) -> bool {
    let name = event.attributes.get("name").map(String::as_str);
    event.id == value || name == Some(value) || (!value.is_empty() && event.id.starts_with(value))
}

fn is_of_image(event: &Event, value: &str) -> bool {
    let names: BTreeMap<&str, ()> = match event.kind {
        EventKind::Image => [
            Some(event.id.as_str()),
            event.attributes.get("name").map(String::as_str),
        ],
        _ => [event.attributes.get("image").map(String::as_str), None],
    }
    .into_iter()
    .flatten()
    .map(|name| (name, ()))
    .collect();
    let untagged = |name: &str| {
        name.rsplit_once(':')
            .map_or(name.to_owned(), |(name, _)| name.to_owned())
    };
    names.keys().any(|name| *name == value || untagged(name) == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let event = |kind, action: &str, id: &str| Event::new(kind, action, id);
        let run = event(EventKind::Container, "exec_start: ls -l", "abcdef")
            .with("name", "web")
            .with("image", "busybox:1")
            .with("app", "x");
        let pull = event(EventKind::Image, "pull", "busybox:1").with("name", "busybox");
        let check = |filter: &str, expected: [bool; 2]| {
            let encoded = percent_encoding::utf8_percent_encode(filter, percent_encoding::NON_ALPHANUMERIC);
            let query = Query::parse(&format!("filters={encoded}"));
            let wanted = Wanted {
                since: None,
                until: None,
                filters: Filters::parse(&query, &FILTERS).unwrap(),
            };
            assert_eq!([wanted.takes(&run), wanted.takes(&pull)], expected, "{filter}");
        };
        check("{}", [true, true]);
        check(r#"{"event":["exec_start"]}"#, [true, false]);
        check(r#"{"event":["exec_start: ls -l","pull"]}"#, [true, true]);
        check(r#"{"event":["exec"]}"#, [false, false]);
        check(r#"{"type":["image"]}"#, [false, true]);
        check(r#"{"container":["web"]}"#, [true, false]);
        check(r#"{"container":["abc","x"]}"#, [true, false]);
        check(r#"{"container":["eb"]}"#, [false, false]);
        check(r#"{"image":["busybox"]}"#, [true, true]);
        check(r#"{"image":["busybox:2"]}"#, [false, false]);
        check(r#"{"label":["app=x"]}"#, [true, false]);
        check(r#"{"label":["app=y"]}"#, [false, false]);
        check(r#"{"service":["x"]}"#, [false, false]);
    }
}
