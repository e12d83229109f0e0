//! `--progress tty`: a live view as BuildKit shows it. Pure: events and the time go in, lines come out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cooper_daemon::build::Event;

use super::plain::seconds;
use super::tasks::Task;
use crate::output::human::ellipsis;

/// Lines of output shown under a running step.
const TAIL: usize = 6;

/// State of the view.
#[derive(Debug, Default)]
pub(crate) struct Tty {
    steps: BTreeMap<usize, Step>,
    /// Steps in the order of their start.
    order: Vec<usize>,
    warnings: Vec<String>,
    image: Option<(String, Vec<String>)>,
    total: usize,
    /// What goes on outside of the steps, in the order it began.
    tasks: Vec<(String, Task)>,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    started: Duration,
    state: State,
    tail: VecDeque<String>,
    partial: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Running,
    Cached,
    Done(u64),
    Failed(Duration),
}

impl Tty {
    /// Takes one more event, `at` after the start of the build.
    pub(crate) fn event(&mut self, event: &Event, at: Duration) {
        match event {
            Event::Plan { steps } => {
                self.total = steps.len();
                for step in steps {
                    self.steps.entry(step.id).or_default().name.clone_from(&step.name);
                }
            }
            Event::Started { step } => self.started(*step, at).started = at,
            Event::Cached { step } => self.started(*step, at).state = State::Cached,
            Event::Output { step, text, .. } => {
                let step = self.started(*step, at);
                step.partial.push_str(text);
                while let Some(end) = step.partial.find('\n') {
                    let line: String = step.partial.drain(..=end).collect();
                    // A carriage return starts the line anew; control characters must not reach the terminal here.
                    let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
                    step.tail
                        .push_back(line.chars().filter(|c| !c.is_control()).collect());
                    if step.tail.len() > TAIL {
                        step.tail.pop_front();
                    }
                }
            }
            Event::Done { step, millis } => {
                let step = self.started(*step, at);
                // A cached step is done as well.
                if step.state != State::Cached {
                    step.state = State::Done(*millis);
                }
            }
            Event::Failed { step, .. } => {
                let step = self.started(*step, at);
                step.state = State::Failed(at.saturating_sub(step.started));
            }
            Event::Missed { step, causes } => {
                let name = self.started(*step, at).name.clone();
                let causes = causes.iter().map(|cause| format!("{name}: not cached: {cause}"));
                self.warnings.extend(causes);
            }
            Event::Verified { result } => {
                self.warnings
                    .extend(result.differences.iter().map(ToString::to_string));
            }
            Event::Debug { .. } => {}
            Event::Warning { text } => self.warnings.push(text.clone()),
            Event::Progress {
                task,
                item,
                status,
                current,
                total,
            } => {
                let known = self.tasks.iter_mut().find(|(name, _)| name == task);
                let task = match known {
                    Some((_, task)) => task,
                    None => {
                        self.tasks.push((task.clone(), Task::new(at)));
                        let Some((_, task)) = self.tasks.last_mut() else {
                            return;
                        };
                        task
                    }
                };
                task.report(item, status, (*current, *total), at);
            }
            Event::Image { id, names } => self.image = Some((id.clone(), names.clone())),
        }
    }

    /// The view at a time, at most `height` lines of at most `width` characters.
    pub(crate) fn frame(&self, at: Duration, width: usize, height: usize) -> Vec<String> {
        let finished = self
            .order
            .iter()
            .filter(|id| self.steps.get(id).is_some_and(|s| s.state != State::Running))
            .count();
        let end = if self.image.is_some() { " FINISHED" } else { "" };
        let head = format!(
            "[+] Building {} ({finished}/{}){end}",
            tenths(at),
            self.total.max(self.order.len())
        );
        let mut lines = Vec::new();
        for id in &self.order {
            let Some(step) = self.steps.get(id) else { continue };
            let (mark, time) = match step.state {
                State::Running => ("=>", tenths(at.saturating_sub(step.started))),
                State::Cached => ("=> CACHED", "0.0s".to_owned()),
                State::Done(millis) => ("=>", seconds(millis)),
                State::Failed(after) => ("=> ERROR", tenths(after)),
            };
            lines.push(justify(&format!(" {mark} {}", step.name), &time, width));
            if step.state == State::Running {
                lines.extend(
                    step.tail
                        .iter()
                        .map(|line| ellipsis(&format!(" => => # {line}"), width)),
                );
            }
        }
        for (name, task) in &self.tasks {
            lines.push(justify(&format!(" => {name}"), &tenths(task.took(at)), width));
            lines.extend(
                task.lines()
                    .map(|line| ellipsis(&format!(" => => {line}"), width)),
            );
        }
        if let Some((id, names)) = &self.image {
            lines.push(justify(" => exporting to image", "", width));
            lines.push(ellipsis(&format!(" => => writing image {id}"), width));
            lines.extend(
                names
                    .iter()
                    .map(|name| ellipsis(&format!(" => => naming to {name}"), width)),
            );
        }
        lines.extend(
            self.warnings
                .iter()
                .map(|text| ellipsis(&format!("WARNING: {text}"), width)),
        );
        // The newest lines matter; the head always stays.
        let room = height.saturating_sub(1);
        if lines.len() > room {
            lines.drain(..lines.len() - room);
        }
        lines.insert(0, ellipsis(&head, width));
        lines
    }

    fn started(&mut self, id: usize, at: Duration) -> &mut Step {
        let step = self.steps.entry(id).or_default();
        if !self.order.contains(&id) {
            self.order.push(id);
            step.started = at;
        }
        step
    }
}

fn tenths(time: Duration) -> String {
    seconds(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Text on the left, time on the right.
fn justify(text: &str, time: &str, width: usize) -> String {
    let room = width.saturating_sub(time.chars().count() + 1);
    let text = ellipsis(text, room);
    let blanks = width.saturating_sub(text.chars().count() + time.chars().count());
    format!("{text}{}{time}", " ".repeat(blanks))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use cooper_daemon::build::StepInfo;

    use super::*;

    #[test]
    fn frames() {
        let mut tty = Tty::default();
        let step = |id, name: &str| StepInfo {
            id,
            name: name.to_owned(),
            line: 1,
        };
        let at = Duration::from_millis;
        tty.event(
            &Event::Plan {
                steps: vec![step(0, "[a 1/2] FROM busybox"), step(1, "[a 2/2] RUN make")],
            },
            at(0),
        );
        tty.event(&Event::Cached { step: 0 }, at(1));
        tty.event(&Event::Started { step: 1 }, at(100));
        tty.event(
            &Event::Output {
                step: 1,
                stderr: false,
                text: "10%\r20%\nred \u{1b}[31m\npart".to_owned(),
            },
            at(200),
        );
        assert_eq!(
            tty.frame(at(1300), 40, 20),
            [
                "[+] Building 1.3s (1/2)",
                " => CACHED [a 1/2] FROM busybox     0.0s",
                " => [a 2/2] RUN make                1.2s",
                " => => # 20%",
                " => => # red [31m",
            ]
        );
        assert_eq!(
            tty.frame(at(1300), 20, 2),
            ["[+] Building 1.3s (…", " => => # red [31m"]
        );
        tty.event(
            &Event::Failed {
                step: 1,
                error: "x".to_owned(),
            },
            at(2100),
        );
        assert_eq!(
            tty.frame(at(2200), 40, 20)[2],
            " => ERROR [a 2/2] RUN make          2.0s"
        );
    }
}
