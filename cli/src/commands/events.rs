//! `events`.

use cooper_daemon::api::EventMessage;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::print;
use crate::args::system::EventsArgs;
use crate::client::{Client, Lines, query};
use crate::failure::{Failure, Result};
use crate::output::template;
use crate::settings::{filters, values};

/// `events`.
pub(super) async fn run(client: &Client, args: &EventsArgs) -> Result {
    let now = Timestamp::now();
    let time = |text: &Option<String>| {
        let time = text.as_deref().map(|text| values::time(text, now));
        time.transpose().map_err(Failure::new)
    };
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    let filters = filters::encode(&args.filter).map_err(Failure::new)?;
    let mut pairs = Vec::new();
    pairs.extend(since.as_deref().map(|since| ("since", since)));
    pairs.extend(until.as_deref().map(|until| ("until", until)));
    pairs.extend(filters.as_deref().map(|filters| ("filters", filters)));
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(text) => Some(template::parse(text).map_err(Failure::new)?),
    };
    let mut lines = Lines::new(client.download(&query("/events", &pairs)).await?.0);
    while let Some(event) = lines.next().await? {
        let text = match (&template, args.format.as_deref()) {
            (Some(template), _) => template.render(&event).map_err(Failure::new)?,
            (None, Some("json")) => event.to_string(),
            (None, _) => line(&event)?,
        };
        print::line(&text)?;
    }
    print::data("")
}

/// Docker's line: `2026-01-02T03:04:05.000000000Z container start 0123… (image=busybox, name=web)`.
fn line(event: &Value) -> Result<String> {
    let event: EventMessage = serde_json::from_value(event.clone())?;
    let time = Timestamp::from_nanosecond(i128::from(event.time_nano))
        .map_err(|error| Failure::new(format!("the engine sent a time out of range: {error}")))?;
    let time = time
        .to_zoned(TimeZone::system())
        .strftime("%Y-%m-%dT%H:%M:%S.%9f%:z");
    let mut text = format!("{time} {} {} {}", event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let pairs = event
            .actor
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        text.push_str(&format!(" ({})", pairs.collect::<Vec<_>>().join(", ")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let event = serde_json::json!({"Type": "container", "Action": "die", "scope": "local", "time": 1, "timeNano": 1_500_000_001i64,
            "Actor": {"ID": "abc", "Attributes": {"image": "b", "exitCode": "1"}}});
        let text = line(&event).map_err(|failure| failure.to_string()).unwrap();
        assert!(text.contains(":01.500000001"), "{text}");
        assert!(
            text.ends_with(" container die abc (exitCode=1, image=b)"),
            "{text}"
        );
    }
}
