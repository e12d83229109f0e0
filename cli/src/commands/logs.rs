//! `logs`.

use bytes::Bytes;
use http_body_util::BodyExt;

use super::print;
use crate::args::container::LogsArgs;
use crate::client::{Client, ClientError, escape, query};
use crate::failure::{Failure, Result};
use crate::session::{Deframer, Pump, Target};
use crate::settings::values;

/// `logs`.
pub(super) async fn run(client: &Client, args: &LogsArgs) -> Result {
    if args.tail != "all" && args.tail.parse::<i64>().is_err() {
        return Err(Failure::new(format!(
            "invalid --tail `{}`: expected a number or all",
            args.tail
        )));
    }
    let now = jiff::Timestamp::now();
    let time = |text: &Option<String>| {
        text.as_deref()
            .map(|text| values::time(text, now))
            .transpose()
            .map_err(Failure::new)
    };
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    let flag = |set: bool| if set { "1" } else { "0" };
    let mut pairs = vec![
        ("stdout", "1"),
        ("stderr", "1"),
        ("follow", flag(args.follow)),
        ("timestamps", flag(args.timestamps)),
        ("tail", &args.tail),
    ];
    pairs.extend(since.as_deref().map(|since| ("since", since)));
    pairs.extend(until.as_deref().map(|until| ("until", until)));
    let path = query(&format!("/containers/{}/logs", escape(&args.container)), &pairs);
    let (mut body, multiplexed) = client.download(&path).await?;
    let pump = Pump::start()?;
    let mut deframer = Deframer::default();
    let mut broken = None;
    'reading: while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_else(|_| Bytes::new()),
            Err(error) => {
                broken = Some(ClientError::from(error));
                break;
            }
        };
        if !multiplexed {
            if !pump.write(Target::Stdout, data).await {
                break;
            }
            continue;
        }
        deframer.push(&data);
        while let Some((target, bytes)) = deframer.next().map_err(ClientError::Answer)? {
            if !pump.write(target, bytes).await {
                break 'reading;
            }
        }
    }
    pump.finish().await?;
    match broken {
        Some(error) => Err(error.into()),
        None => print::data(""),
    }
}
