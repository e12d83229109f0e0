//! The classic builder's text, and the lines around it that clients read.
//!
//! The classic builder runs one step after the other, and its readers expect as much. Steps that run side by side here are
//! told one by one, in the order they begin: what the others print meanwhile is held back, up to a limit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cooper_builder::build::{Built, Error, Event, StepInfo};

use super::course::Tell;
use crate::api::{ErrorDetail, Message};
use crate::error::{ApiError, ApiResult};
use crate::http::lines::Lines;

/// Bytes of output held back for steps whose turn has not come.
const MAX_HELD: usize = 1 << 20;

/// Turns events into lines.
pub(super) struct ClassicText {
    lines: Lines,
    quiet: bool,
    cancelled: Arc<AtomicBool>,
    transcript: Mutex<Transcript>,
}

impl ClassicText {
    /// `quiet` leaves out all but the id and errors.
    pub(super) fn new(lines: Lines, quiet: bool, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            lines,
            quiet,
            cancelled,
            transcript: Mutex::default(),
        }
    }

    /// A client that has gone cancels the build.
    fn send(&self, message: Message) {
        if !self.lines.send_blocking(message) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

impl Tell for ClassicText {
    fn event(&self, event: Event) {
        // Held while sending: lines of different threads must not change places.
        let mut transcript = self.transcript.lock().unwrap_or_else(PoisonError::into_inner);
        for text in transcript.event(event) {
            if !self.quiet {
                self.send(Message::stream(text));
            }
        }
    }

    fn finished(&self, built: &Built) {
        let Some(built) = built.images.first() else { return };
        let id = built.image.to_string();
        if self.quiet {
            self.send(Message::stream(format!("{id}\n")));
            return;
        }
        self.send(Message::aux(serde_json::json!({ "ID": id })));
        self.send(Message::stream(format!(
            "Successfully built {}\n",
            built.image.short()
        )));
        for name in &built.names {
            self.send(Message::stream(format!(
                "Successfully tagged {}\n",
                name.familiar()
            )));
        }
    }

    fn failed(&self, error: Error) -> ApiResult<()> {
        match error {
            Error::Run { command, code, .. } => {
                let text = format!("The command '{command}' returned a non-zero code: {code}");
                let detail = ErrorDetail {
                    code: Some(i64::from(code)),
                    message: text.clone(),
                };
                self.send(Message {
                    error_detail: Some(detail),
                    error: Some(text),
                    ..Message::default()
                });
                Ok(())
            }
            error @ (Error::Dockerfile(_) | Error::NoDockerfile { .. } | Error::Ignore { .. }) => {
                Err(ApiError::bad(error.to_string()))
            }
            error => Err(ApiError::internal(error.to_string())),
        }
    }
}

/// What was told and what is to be told.
#[derive(Debug, Default)]
struct Transcript {
    steps: Vec<StepInfo>,
    /// Steps that began and are not told to their end; the first one is being told.
    open: VecDeque<Open>,
    begun: usize,
    held: usize,
}

#[derive(Debug)]
struct Open {
    step: usize,
    texts: Vec<String>,
    ended: bool,
}

impl Transcript {
    /// The texts that follow from an event.
    fn event(&mut self, event: Event) -> Vec<String> {
        match event {
            Event::Plan { steps } => self.steps = steps,
            Event::Started { step } => self.begin(step),
            Event::Cached { step } => {
                self.begin(step);
                self.hold(step, " ---> Using cache\n".to_owned());
            }
            Event::Output { step, stderr, text } => {
                let text = if stderr {
                    format!("\u{1b}[91m{text}\u{1b}[0m")
                } else {
                    text
                };
                self.hold(step, text);
            }
            Event::Done { step, .. } | Event::Failed { step, .. } => {
                if let Some(open) = self.open.iter_mut().find(|open| open.step == step) {
                    open.ended = true;
                }
            }
            Event::Warning { text } => return vec![format!("[Warning] {text}\n")],
            Event::Missed { step, causes } => {
                self.begin(step);
                let texts = causes.iter().map(|cause| format!(" ---> Not cached: {cause}\n"));
                texts.for_each(|text| self.hold(step, text));
            }
            Event::Progress { .. } | Event::Image { .. } | Event::Debug { .. } | Event::Verified { .. } => {}
        }
        self.ready()
    }

    /// A step's heading, once.
    fn begin(&mut self, step: usize) {
        if self.open.iter().any(|open| open.step == step) {
            return;
        }
        self.begun += 1;
        let name = self.steps.iter().find(|info| info.id == step);
        let name = name.map_or("", |info| instruction(&info.name));
        let total = self.steps.len().max(self.begun);
        let heading = format!("Step {}/{total} : {name}\n", self.begun);
        self.open.push_back(Open {
            step,
            texts: Vec::new(),
            ended: false,
        });
        self.hold(step, heading);
    }

    fn hold(&mut self, step: usize, text: String) {
        if let Some(open) = self.open.iter_mut().find(|open| open.step == step) {
            self.held += text.len();
            open.texts.push(text);
        }
    }

    /// Texts whose turn has come, or all when too much is held back.
    fn ready(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(first) = self.open.front_mut() {
            texts.append(&mut first.texts);
            if !first.ended {
                break;
            }
            self.open.pop_front();
        }
        self.held = self
            .open
            .iter()
            .flat_map(|open| &open.texts)
            .map(String::len)
            .sum();
        if self.held > MAX_HELD {
            for open in &mut self.open {
                texts.append(&mut open.texts);
            }
            self.held = 0;
        }
        texts
    }
}

/// A step's name without its `[stage 2/5]`.
fn instruction(name: &str) -> &str {
    match name.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, instruction)) => instruction,
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_steps_are_told_one_by_one() {
        let step = |id, name: &str| StepInfo {
            id,
            name: name.to_owned(),
            line: 1,
        };
        let output = |step, text: &str| Event::Output {
            step,
            stderr: false,
            text: text.to_owned(),
        };
        let mut transcript = Transcript::default();
        let steps = vec![
            step(0, "[a 1/2] FROM busybox"),
            step(1, "[a 2/2] RUN one"),
            step(2, "[b 1/1] RUN two"),
        ];
        let mut text = String::new();
        for event in [
            Event::Plan { steps },
            Event::Cached { step: 0 },
            Event::Done { step: 0, millis: 0 },
            Event::Started { step: 1 },
            Event::Started { step: 2 },
            output(2, "2a\n"),
            output(1, "1a\n"),
            Event::Done { step: 2, millis: 1 },
            output(1, "1b\n"),
            Event::Failed {
                step: 1,
                error: "x".to_owned(),
            },
        ] {
            text.extend(transcript.event(event));
        }
        assert_eq!(
            text,
            "Step 1/3 : FROM busybox\n ---> Using cache\nStep 2/3 : RUN one\n1a\n1b\nStep 3/3 : RUN two\n2a\n"
        );
        // What is held back has an end.
        transcript.event(Event::Started { step: 1 });
        transcript.event(Event::Started { step: 2 });
        assert_eq!(transcript.event(output(2, "x")), Vec::<String>::new());
        assert_eq!(transcript.event(output(2, &"x".repeat(MAX_HELD))).len(), 3);
    }
}
