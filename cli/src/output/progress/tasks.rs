//! What goes on outside of the steps: pulls, exports, pushes, each with its parts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::output::human::size;

/// Parts shown at once.
const SHOWN: usize = 6;
/// How a task or one of its parts ends.
const DONE: &str = "done";

/// A task of the live view.
#[derive(Debug)]
pub(super) struct Task {
    started: Duration,
    ended: Option<Duration>,
    items: BTreeMap<String, Item>,
}

#[derive(Debug)]
struct Item {
    status: String,
    bytes: (u64, u64),
}

impl Task {
    /// One that begins at this time.
    pub(super) fn new(at: Duration) -> Self {
        Self {
            started: at,
            ended: None,
            items: BTreeMap::new(),
        }
    }

    /// A report of it, or of its part `item`.
    pub(super) fn report(&mut self, item: &str, status: &str, bytes: (u64, u64), at: Duration) {
        if item.is_empty() {
            if status == DONE {
                self.ended = Some(at);
            }
            return;
        }
        let status = status.to_owned();
        self.items.insert(item.to_owned(), Item { status, bytes });
    }

    /// How long it took, or has taken until now.
    pub(super) fn took(&self, at: Duration) -> Duration {
        self.ended.unwrap_or(at).saturating_sub(self.started)
    }

    /// Lines of the parts that are not done, while the task itself is not.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let open = self.items.iter().filter(|(_, item)| item.status != DONE);
        let open = open.take(if self.ended.is_some() { 0 } else { SHOWN });
        open.map(|(name, item)| line(name, &item.status, item.bytes))
    }
}

fn line(name: &str, status: &str, (current, total): (u64, u64)) -> String {
    match (current, total) {
        (0, 0) => format!("{name} {status}"),
        (current, 0) => format!("{name} {status} {}", size(current)),
        (current, total) if current == total => format!("{name} {status} {}", size(total)),
        (current, total) => format!("{name} {status} {} / {}", size(current), size(total)),
    }
}

/// Tasks as lines, one for each change of a part's status and none for its bytes.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    numbers: BTreeMap<String, usize>,
    told: BTreeMap<(String, String), String>,
}

impl Tasks {
    /// The lines of a report; a task that begins takes the next of `numbers`.
    pub(super) fn report(
        &mut self,
        task: &str,
        item: &str,
        status: &str,
        current: u64,
        total: u64,
        numbers: &mut usize,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        let number = *self.numbers.entry(task.to_owned()).or_insert_with(|| {
            *numbers += 1;
            lines.push(format!("#{numbers} {task}"));
            *numbers
        });
        if item.is_empty() {
            if status == DONE {
                lines.push(format!("#{number} DONE"));
                self.told.retain(|(known, _), _| known != task);
                self.numbers.remove(task);
            }
            return lines;
        }
        let key = (task.to_owned(), item.to_owned());
        if self.told.get(&key).is_none_or(|told| told != status) {
            let bytes = if status == DONE {
                (total, total)
            } else {
                (current.min(total), total)
            };
            lines.push(format!("#{number} {}", line(item, status, bytes)));
            self.told.insert(key, status.to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_pull() {
        let mut tasks = Tasks::default();
        let mut numbers = 3;
        let mut lines = Vec::new();
        for (item, status, current, total) in [
            ("", "resolving", 0, 0),
            ("abc", "downloading", 10, 2_000_000),
            ("abc", "downloading", 20, 2_000_000),
            ("abc", "done", 2_000_000, 2_000_000),
            ("", "done", 0, 0),
        ] {
            lines.extend(tasks.report("pulling a", item, status, current, total, &mut numbers));
        }
        assert_eq!(
            lines,
            [
                "#4 pulling a",
                "#4 abc downloading 10B / 2MB",
                "#4 abc done 2MB",
                "#4 DONE"
            ]
        );
    }

    #[test]
    fn parts_of_a_task() {
        let at = Duration::from_secs;
        let mut task = Task::new(at(1));
        task.report("a", "downloading", (1000, 2000), at(2));
        task.report("b", "done", (5, 5), at(2));
        assert_eq!(task.lines().collect::<Vec<_>>(), ["a downloading 1kB / 2kB"]);
        assert_eq!(task.took(at(3)), at(2));
        task.report("", "done", (0, 0), at(4));
        assert_eq!((task.lines().count(), task.took(at(9))), (0, at(3)));
    }
}
