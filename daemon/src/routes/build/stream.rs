//! What a build tells its client.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cooper_builder::build::{Built, Event, StepInfo, render_causes};

use crate::api::Message;
use crate::http::lines::Lines;

/// Turns events into lines: Docker's text, or the events themselves.
#[derive(Debug)]
pub(super) struct Output {
    lines: Lines,
    own: bool,
    quiet: bool,
    cancelled: Arc<AtomicBool>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    steps: Vec<StepInfo>,
    /// Steps that were announced; the classic text counts them in the order they begin.
    announced: BTreeSet<usize>,
}

impl Output {
    pub(super) fn new(lines: Lines, own: bool, quiet: bool, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            lines,
            own,
            quiet,
            cancelled,
            plan: Mutex::default(),
        }
    }

    /// Whether the client reads our own events.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// Sends a line; a client that has gone cancels the build.
    pub(super) fn send(&self, message: Message) {
        if !self.lines.send_blocking(message) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn event(&self, event: Event) {
        if self.own {
            self.send(Message {
                cooper: Some(event),
                ..Message::default()
            });
            return;
        }
        for text in self.classic(event) {
            if !self.quiet {
                self.send(Message::stream(text));
            }
        }
    }

    /// The classic builder's lines. Steps run side by side, so lines of different ones may mix.
    fn classic(&self, event: Event) -> Vec<String> {
        let mut plan = self
            .plan
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Plan { steps } => {
                plan.steps = steps;
                Vec::new()
            }
            Event::Started { step } => plan.announce(step).into_iter().collect(),
            Event::Cached { step } => {
                let cached = " ---> Using cache\n".to_owned();
                plan.announce(step).into_iter().chain([cached]).collect()
            }
            Event::Output { stderr, text, .. } => {
                vec![if stderr {
                    format!("\u{1b}[91m{text}\u{1b}[0m")
                } else {
                    text
                }]
            }
            Event::Missed { causes, .. } => vec![format!(" ---> Not cached: {}\n", render_causes(&causes))],
            Event::Verified { result } => result
                .differences
                .iter()
                .map(|difference| format!("{difference}\n"))
                .collect(),
            Event::Warning { text } => vec![format!("[Warning] {text}\n")],
            Event::Done { .. } | Event::Failed { .. } | Event::Image { .. } | Event::Debug { .. } => {
                Vec::new()
            }
        }
    }

    pub(super) fn finished(&self, built: &Built) {
        let Some(built) = built.images.first() else { return };
        let id = built.image.to_string();
        if self.quiet && !self.own {
            self.send(Message::stream(format!("{id}\n")));
            return;
        }
        self.send(Message::aux(serde_json::json!({ "ID": id })));
        if self.own {
            return;
        }
        let hex = id.split_once(':').map_or(id.as_str(), |(_, hex)| hex);
        self.send(Message::stream(format!(
            "Successfully built {}\n",
            hex.get(..12).unwrap_or(hex)
        )));
        for name in &built.names {
            self.send(Message::stream(format!(
                "Successfully tagged {}\n",
                name.familiar()
            )));
        }
    }
}

impl Plan {
    /// The step's heading, once.
    fn announce(&mut self, step: usize) -> Option<String> {
        if !self.announced.insert(step) {
            return None;
        }
        let name = self
            .steps
            .iter()
            .find(|info| info.id == step)
            .map_or("", |info| info.name.as_str());
        let number = self.announced.len();
        Some(format!(
            "Step {number}/{} : {name}\n",
            self.steps.len().max(number)
        ))
    }
}

/// The plain tar in a context that may be gzip.
pub(super) fn decompressed<'r>(reader: &'r mut dyn Read) -> io::Result<Box<dyn Read + 'r>> {
    let mut head = Vec::with_capacity(2);
    reader.take(2).read_to_end(&mut head)?;
    let gzip = head == [0x1f, 0x8b];
    let whole = io::Cursor::new(head).chain(reader);
    Ok(if gzip {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else {
        Box::new(whole)
    })
}
