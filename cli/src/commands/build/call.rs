//! Sends a build to the engine and follows it to its end.

use std::time::{Duration, Instant};

use cooper_daemon::api::{BUILD_VERSION, BuildDoor, BuildFailure, BuildResult};
use cooper_daemon::build::{Cause, Event, Report, StepInfo};
use serde::Deserialize;
use serde_json::{Value, json};

use super::outcome::Built;
use super::view::View;
use super::{Order, local, parts};
use crate::args::build::ExplainFormat;
use crate::client::{Client, Lines, Payload};
use crate::commands::print;
use crate::failure::{Failure, Result};
use crate::session::{Signals, debug_shell, signal_number};

/// Time between two frames of the live view.
const FRAME: Duration = Duration::from_millis(100);

/// Builds, showing the progress. The first signal cancels the build and waits for it to be cleaned up, the second one
/// leaves at once.
pub(in crate::commands) async fn build(
    client: &Client,
    order: Order,
    signals: &mut Signals,
) -> Result<Built> {
    match attend(client, order, signals).await? {
        Answer::Built(built) => Ok(built),
        Answer::Report(_) => Err(Failure::new("the engine answered what was not asked")),
    }
}

/// Asks about the Dockerfile. Signals are as in [`build`].
pub(super) async fn ask(client: &Client, order: Order, signals: &mut Signals) -> Result<Report> {
    match attend(client, order, signals).await? {
        Answer::Report(report) => Ok(report),
        Answer::Built(_) => Err(Failure::new(
            "the engine has built instead of answering: it is an older version of this one",
        )),
    }
}

/// What the engine's stream ends with.
enum Answer {
    Built(Built),
    Report(Report),
}

async fn attend(client: &Client, order: Order, signals: &mut Signals) -> Result<Answer> {
    let name = {
        let work = send(client, order);
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => return result,
            name = signals.next() => name,
        }
        // The request ends here, which is how a daemon learns of it.
    };
    let code = 128 + signal_number(name);
    tokio::select! {
        () = client.cancel_builds() => Err(Failure::Cancelled(code)),
        _ = signals.next() => Err(Failure::Exit(code)),
    }
}

async fn send(client: &Client, order: Order) -> Result<Answer> {
    let (progress, debugs, explain) = (order.progress, order.debugs(), order.explain);
    let mut headers = Vec::new();
    if let Some(config) = local::registry_config(&order.config).await? {
        headers.push(("x-registry-config", config));
    }
    let (call, parts) = order.settle(shares_files(client).await?)?;
    let body = parts::body(&call, parts)?;
    drop(call);
    let payload = Payload::Stream("application/vnd.cooper.build", body);
    let lines = client.stream("/cooper/build", payload, &headers).await?;
    let mut view = View::new(progress);
    let mut steps = Steps::default();
    match follow(lines, &mut view, &mut steps, explain).await? {
        Ok(answer) => Ok(answer),
        Err(failed) => {
            let failure = Failure::new(steps.describe(&failed.message));
            Err(if failed.code.is_some() && !debugs {
                failure.hint(debug_command(std::env::args()))
            } else {
                failure
            })
        }
    }
}

/// Which step failed, for the message at the end.
#[derive(Debug, Default)]
struct Steps {
    steps: Vec<StepInfo>,
    failed: Option<usize>,
}

impl Steps {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Plan { steps } => self.steps.clone_from(steps),
            Event::Failed { step, .. } => {
                self.failed.get_or_insert(*step);
            }
            _ => {}
        }
    }

    /// Why a step was not in the cache, as one line of JSON.
    fn explain(&self, step: usize, causes: &[Cause]) -> Result<String> {
        let info = self.steps.iter().find(|info| info.id == step);
        let document = json!({
            "step": info.map(|info| &info.name),
            "line": info.map(|info| info.line),
            "causes": causes,
        });
        Ok(document.to_string())
    }

    /// The engine's message below the step's name.
    fn describe(&self, message: &str) -> String {
        let failed = self
            .failed
            .and_then(|id| self.steps.iter().find(|step| step.id == id));
        match failed {
            Some(step) => format!("step {} failed\n{message}", step.name),
            None => message.strip_prefix("error: ").unwrap_or(message).to_owned(),
        }
    }
}

/// Whether the engine reads our files in place.
async fn shares_files(client: &Client) -> Result<bool> {
    if client.is_in_process() {
        return Ok(true);
    }
    let old = || {
        Failure::new("the engine does not understand this command's builds: it is another program, or another version of this one")
            .hint("`docker build` works with every engine; without --host, cooper needs none")
    };
    match client.get::<BuildDoor>("/cooper/build").await {
        Ok(door) if door.version == BUILD_VERSION => Ok(door.shares_files),
        Ok(_) => Err(old()),
        Err(error) if error.is_not_found() => Err(old()),
        Err(error) => Err(error.into()),
    }
}

/// The command that opens a shell where a RUN failed: this one with `--debug`.
fn debug_command(arguments: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = arguments.map(|word| quote(&word)).collect();
    match words.iter().position(|word| word == "build") {
        Some(verb) => words.insert(verb + 1, "--debug".to_owned()),
        None => return "`cooper build --debug` opens a shell in the state of the failed step".to_owned(),
    }
    format!("a shell in the state of the failed step: {}", words.join(" "))
}

/// A word as a shell reads it back.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,@+%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A line of the answer. Unlike the engine's own type, this one takes events that it does not know.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Event(Value),
    Result(BuildResult),
    Report(Report),
    Error(BuildFailure),
}

/// Shows the stream until it ends. The inner result is the engine's.
async fn follow(
    mut lines: Lines,
    view: &mut View,
    steps: &mut Steps,
    explain: Option<ExplainFormat>,
) -> Result<std::result::Result<Answer, BuildFailure>> {
    let started = Instant::now();
    let mut warnings = Vec::new();
    let mut verified = None;
    let mut ticks = tokio::time::interval(FRAME);
    let result = loop {
        let line = tokio::select! {
            line = lines.next() => line?,
            _ = ticks.tick(), if view.is_live() => {
                view.frame(started.elapsed());
                continue;
            }
        };
        let Some(line) = line else {
            view.finish(started.elapsed());
            return Err(Failure::new(
                "the engine ended the connection before the build was over",
            ));
        };
        match serde_json::from_value(line)? {
            Line::Event(value) => {
                // A newer engine tells more; what is not known here cannot be shown.
                if let Ok(event) = serde_json::from_value::<Event>(value) {
                    steps.event(&event);
                    view.event(&event, started.elapsed())?;
                    match event {
                        Event::Warning { text } => warnings.push(text),
                        Event::Missed { step, causes } if explain == Some(ExplainFormat::Json) => {
                            print::line(&steps.explain(step, &causes)?)?;
                        }
                        Event::Verified { result } => verified = Some(result),
                        Event::Debug { socket, .. } => {
                            view.pause(started.elapsed());
                            debug_shell(&socket).await?;
                        }
                        _ => {}
                    }
                }
            }
            Line::Result(result) => break Ok(result),
            Line::Report(report) => {
                view.finish(started.elapsed());
                return Ok(Ok(Answer::Report(report)));
            }
            Line::Error(failed) => break Err(failed),
        }
    };
    let took = started.elapsed();
    view.finish(took);
    Ok(result.map(|result| {
        view.summary(&summary(&result, took));
        Answer::Built(Built {
            images: result.images,
            verified,
            warnings,
        })
    }))
}

/// `built sha256:… in 1.2s, 3 of 5 steps from the cache`.
fn summary(result: &BuildResult, took: Duration) -> String {
    let what: Vec<&str> = result
        .images
        .iter()
        .map(|image| crate::output::human::short_id(&image.id))
        .collect();
    let steps = match (result.steps, result.cached) {
        (0, _) => String::new(),
        (steps, cached) => format!(", {cached} of {steps} steps from the cache"),
    };
    format!(
        "built {} in {:.1}s{steps}",
        what.join(" and "),
        took.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_for_debugging() {
        let check = |words: &[&str], expected: &str| {
            let got = debug_command(words.iter().map(ToString::to_string));
            assert_eq!(got.rsplit(": ").next(), Some(expected), "{words:?}");
        };
        check(
            &["cooper", "build", "-t", "a b", "."],
            "cooper build --debug -t 'a b' .",
        );
        check(
            &["cooper", "--data-root", "/d", "image", "build", "it's"],
            "cooper --data-root /d image build --debug 'it'\\''s'",
        );
    }

    #[test]
    fn events_of_newer_engines() {
        let line = serde_json::json!({"event": {"event": "something_new", "step": 1}});
        let Ok(Line::Event(value)) = serde_json::from_value(line) else {
            panic!("not an event");
        };
        assert!(serde_json::from_value::<Event>(value).is_err());
    }
}
