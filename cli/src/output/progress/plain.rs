//! `--progress plain`: lines as BuildKit prints them. One step holds the floor until it ends or falls silent, so that
//! the output of parallel steps does not mix line by line.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cooper_daemon::build::Event;

use super::tasks::Tasks;

/// How long the step that holds the floor may say nothing before another one gets it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Turns events into lines.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    steps: BTreeMap<usize, Step>,
    /// Who holds the floor, and when it spoke last.
    floor: Option<(usize, Duration)>,
    /// Steps that wait for the floor.
    waiting: VecDeque<usize>,
    numbers: usize,
    spoken: bool,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    number: usize,
    started: Duration,
    /// Output not ended by a newline yet.
    partial: String,
    /// Lines not shown yet, without their `#N ` prefix.
    queue: Vec<String>,
    ended: bool,
}

impl Plain {
    /// The lines that one more event, `at` after the start of the build, adds.
    pub(crate) fn event(&mut self, event: &Event, at: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        match event {
            Event::Plan { steps } => {
                for step in steps {
                    self.steps.entry(step.id).or_default().name.clone_from(&step.name);
                }
            }
            Event::Started { step } => {
                self.numbered(*step).started = at;
                self.say(*step, None, at, &mut lines);
            }
            Event::Cached { step } => {
                self.numbered(*step).ended = true;
                self.say(*step, Some("CACHED".to_owned()), at, &mut lines);
            }
            Event::Output { step, text, .. } => {
                let state = self.numbered(*step);
                let seconds = at.saturating_sub(state.started).as_secs_f64();
                state.partial.push_str(text);
                let mut said = Vec::new();
                while let Some(end) = state.partial.find('\n') {
                    let line: String = state.partial.drain(..=end).collect();
                    said.push(format!("{seconds:.3} {}", line.trim_end_matches(['\n', '\r'])));
                }
                for line in said {
                    self.say(*step, Some(line), at, &mut lines);
                }
            }
            // A cached step is done as well, which its line says already.
            Event::Done { step, .. } if self.steps.get(step).is_some_and(|step| step.ended) => {}
            Event::Done { step, millis } => {
                self.end(*step, format!("DONE {}", seconds(*millis)), at, &mut lines);
            }
            Event::Failed { step, error } => {
                let error = error.lines().next().unwrap_or_default();
                self.end(*step, format!("ERROR: {error}"), at, &mut lines);
            }
            Event::Missed { step, causes } => {
                for cause in causes {
                    self.say(*step, Some(format!("not cached: {cause}")), at, &mut lines);
                }
            }
            Event::Verified { result } => {
                self.leave(&mut lines);
                self.gap(&mut lines);
                lines.extend(result.differences.iter().map(ToString::to_string));
            }
            // A terminal of its own takes over.
            Event::Debug { .. } => self.release(at, &mut lines),
            Event::Warning { text } => {
                self.leave(&mut lines);
                self.gap(&mut lines);
                lines.push(format!("WARNING: {text}"));
            }
            Event::Progress {
                task,
                item,
                status,
                current,
                total,
            } => {
                let lines_of = self
                    .tasks
                    .report(task, item, status, *current, *total, &mut self.numbers);
                if !lines_of.is_empty() {
                    self.leave(&mut lines);
                    self.gap(&mut lines);
                    lines.extend(lines_of);
                }
            }
            Event::Image { id, names } => {
                self.release(at, &mut lines);
                self.gap(&mut lines);
                self.numbers += 1;
                let number = self.numbers;
                lines.push(format!("#{number} exporting to image"));
                lines.push(format!("#{number} writing image {id} done"));
                lines.extend(
                    names
                        .iter()
                        .map(|name| format!("#{number} naming to {name} done")),
                );
                lines.push(format!("#{number} DONE"));
            }
        }
        lines
    }

    /// The lines that are still held back when the build is over.
    pub(crate) fn finish(&mut self, at: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        self.release(at, &mut lines);
        lines
    }

    fn numbered(&mut self, id: usize) -> &mut Step {
        let step = self.steps.entry(id).or_default();
        if step.number == 0 {
            self.numbers += 1;
            step.number = self.numbers;
        }
        step
    }

    fn end(&mut self, id: usize, last: String, at: Duration, lines: &mut Vec<String>) {
        let state = self.numbered(id);
        let partial = std::mem::take(&mut state.partial);
        if !partial.is_empty() {
            let seconds = at.saturating_sub(state.started).as_secs_f64();
            self.say(id, Some(format!("{seconds:.3} {partial}")), at, lines);
        }
        self.numbered(id).ended = true;
        self.say(id, Some(last), at, lines);
    }

    /// A step has something to say (`None`: only its name).
    fn say(&mut self, id: usize, line: Option<String>, at: Duration, lines: &mut Vec<String>) {
        if let Some(step) = self.steps.get_mut(&id) {
            step.queue.extend(line);
        }
        match self.floor {
            Some((holder, _)) if holder == id => {}
            Some((_, last)) if at.saturating_sub(last) < PATIENCE => {
                if !self.waiting.contains(&id) {
                    self.waiting.push_back(id);
                }
                return;
            }
            _ => self.enter(id, at, lines),
        }
        self.speak(id, at, lines);
        while self.floor.is_none() {
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            self.enter(next, at, lines);
            self.speak(next, at, lines);
        }
    }

    fn enter(&mut self, id: usize, at: Duration, lines: &mut Vec<String>) {
        self.leave(lines);
        self.waiting.retain(|waiting| *waiting != id);
        self.gap(lines);
        if let Some(step) = self.steps.get(&id) {
            lines.push(format!("#{} {}", step.number, step.name));
        }
        self.floor = Some((id, at));
    }

    /// Takes the floor from its holder.
    fn leave(&mut self, lines: &mut Vec<String>) {
        if let Some((holder, _)) = self.floor.take()
            && let Some(step) = self.steps.get(&holder)
            && !step.ended
        {
            lines.push(format!("#{} ...", step.number));
        }
    }

    fn speak(&mut self, id: usize, at: Duration, lines: &mut Vec<String>) {
        let Some(step) = self.steps.get_mut(&id) else {
            return;
        };
        lines.extend(
            step.queue
                .drain(..)
                .map(|line| format!("#{} {line}", step.number)),
        );
        self.floor = if step.ended { None } else { Some((id, at)) };
    }

    fn release(&mut self, at: Duration, lines: &mut Vec<String>) {
        while let Some(next) = self.waiting.pop_front() {
            self.enter(next, at, lines);
            self.speak(next, at, lines);
        }
        self.leave(lines);
    }

    /// An empty line between blocks.
    fn gap(&mut self, lines: &mut Vec<String>) {
        if self.spoken {
            lines.push(String::new());
        }
        self.spoken = true;
    }
}

/// Milliseconds as `0.2s`.
pub(super) fn seconds(millis: u64) -> String {
    let tenths = (millis + 50) / 100;
    format!("{}.{}s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use cooper_daemon::build::StepInfo;

    use super::*;

    fn plan() -> Event {
        let step = |id, name: &str| StepInfo {
            id,
            name: name.to_owned(),
            line: 1,
        };
        Event::Plan {
            steps: vec![
                step(0, "[build 1/2] FROM busybox"),
                step(1, "[build 2/2] RUN make"),
                step(2, "[x 2/2] RUN y"),
            ],
        }
    }

    fn output(step: usize, text: &str) -> Event {
        Event::Output {
            step,
            stderr: false,
            text: text.to_owned(),
        }
    }

    fn check(events: &[(u64, Event)], expected: &str) {
        let mut plain = Plain::default();
        let mut lines = plain.event(&plan(), Duration::ZERO);
        for (at, event) in events {
            lines.extend(plain.event(event, Duration::from_millis(*at)));
        }
        lines.extend(plain.finish(Duration::from_secs(100)));
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn one_after_the_other() {
        check(
            &[
                (0, Event::Started { step: 0 }),
                (0, Event::Cached { step: 0 }),
                (0, Event::Done { step: 0, millis: 0 }),
                (100, Event::Started { step: 1 }),
                (223, output(1, "hel")),
                (224, output(1, "lo\nwor")),
                (300, Event::Done { step: 1, millis: 200 }),
                (
                    301,
                    Event::Image {
                        id: "sha256:1".to_owned(),
                        names: vec!["docker.io/library/a:latest".to_owned()],
                    },
                ),
            ],
            "#1 [build 1/2] FROM busybox\n#1 CACHED\n\n#2 [build 2/2] RUN make\n#2 0.124 hello\n#2 0.200 wor\n#2 DONE 0.2s\n\n\
             #3 exporting to image\n#3 writing image sha256:1 done\n#3 naming to docker.io/library/a:latest done\n#3 DONE",
        );
    }

    #[test]
    fn parallel_steps_wait_for_the_floor() {
        check(
            &[
                (0, Event::Started { step: 1 }),
                (1, Event::Started { step: 2 }),
                (2, output(1, "a\n")),
                (3, output(2, "b\n")),
                (4, output(1, "c\n")),
                (5, Event::Done { step: 1, millis: 5 }),
                (
                    6,
                    Event::Failed {
                        step: 2,
                        error: "exit code: 1\nmore".to_owned(),
                    },
                ),
            ],
            "#1 [build 2/2] RUN make\n#1 0.002 a\n#1 0.004 c\n#1 DONE 0.0s\n\n#2 [x 2/2] RUN y\n#2 0.002 b\n#2 ERROR: exit code: 1",
        );
    }

    #[test]
    fn silence_loses_the_floor() {
        check(
            &[
                (0, Event::Started { step: 1 }),
                (1, Event::Started { step: 2 }),
                (700, output(2, "b\n")),
                (
                    701,
                    Event::Warning {
                        text: "old syntax".to_owned(),
                    },
                ),
                (800, Event::Done { step: 1, millis: 800 }),
            ],
            "#1 [build 2/2] RUN make\n#1 ...\n\n#2 [x 2/2] RUN y\n#2 0.699 b\n#2 ...\n\nWARNING: old syntax\n\n\
             #1 [build 2/2] RUN make\n#1 DONE 0.8s",
        );
    }
}
