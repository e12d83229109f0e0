//! The stream of a pull, push, load or import: `{status,id,progressDetail}` lines, shown as docker's `jsonmessage`
//! package does: one line per id that moves on a terminal, one line per change elsewhere.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::Value;

use super::human;
use crate::client::Lines;
use crate::failure::{Failure, Result};

/// Shows the stream until it ends. Gives the values of `aux`; an in-band error ends it.
pub(crate) async fn show(mut lines: Lines, output: &mut dyn Write, terminal: bool) -> Result<Vec<Value>> {
    let mut display = Display::new(terminal);
    let mut aux = Vec::new();
    while let Some(message) = lines.next().await? {
        if let Some(error) = message.get("error").and_then(Value::as_str) {
            return Err(crate::client::ClientError::Api {
                status: 500,
                message: error.to_owned(),
            }
            .into());
        }
        if let Some(value) = message.get("aux") {
            aux.push(value.clone());
            continue;
        }
        output.write_all(display.message(&message).as_bytes())?;
        output.flush().map_err(Failure::from)?;
    }
    Ok(aux)
}

/// What is on the screen.
struct Display {
    terminal: bool,
    /// Line number of each id, counted from the first.
    places: BTreeMap<String, usize>,
}

impl Display {
    fn new(terminal: bool) -> Self {
        Self {
            terminal,
            places: BTreeMap::new(),
        }
    }

    /// The bytes that show one more message.
    fn message(&mut self, message: &Value) -> String {
        let field = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        let stream = field("stream");
        if !stream.is_empty() {
            return stream.to_owned();
        }
        let (id, status) = (field("id"), field("status"));
        let number = |name: &str| {
            message
                .pointer(&format!("/progressDetail/{name}"))
                .and_then(Value::as_u64)
        };
        let progress = bar(number("current").unwrap_or(0), number("total").unwrap_or(0));
        if !self.terminal {
            return match (progress.is_empty(), id.is_empty()) {
                (false, _) => String::new(),
                (true, true) => format!("{status}\n"),
                (true, false) => format!("{id}: {status}\n"),
            };
        }
        if id.is_empty() {
            self.places.clear();
            return format!("{status}\n");
        }
        let mut text = String::new();
        let next = self.places.len();
        let place = *self.places.entry(id.to_owned()).or_insert(next);
        if place == next {
            text.push('\n');
        }
        let up = self.places.len() - place;
        text.push_str(&format!("\x1b[{up}A\x1b[2K\r{id}: {status}"));
        if !progress.is_empty() {
            text.push(' ');
            text.push_str(&progress);
        }
        text.push_str(&format!("\r\x1b[{up}B"));
        text
    }
}

/// `[====>     ]  1.2MB/4.8MB`; empty when nothing has moved yet.
fn bar(current: u64, total: u64) -> String {
    const WIDTH: u64 = 50;
    if current == 0 {
        return String::new();
    }
    if total == 0 {
        return human::size(current);
    }
    let filled = usize::try_from(current.min(total) * WIDTH / total).unwrap_or(0);
    let empty = (50 - filled).saturating_sub(1);
    let head = if filled < 50 { ">" } else { "" };
    format!(
        "[{}{head}{}] {:>8}/{}",
        "=".repeat(filled),
        " ".repeat(empty),
        human::size(current),
        human::size(total)
    )
}

/// Whether stderr is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    rustix::termios::isatty(io::stderr())
}

/// Whether stdout is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    rustix::termios::isatty(io::stdout())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain() {
        let mut display = Display::new(false);
        let mut check = |message: Value, expected: &str| assert_eq!(display.message(&message), expected);
        check(
            json!({"status": "Pulling from library/busybox", "id": "latest"}),
            "latest: Pulling from library/busybox\n",
        );
        check(
            json!({"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}}),
            "",
        );
        check(
            json!({"status": "Pull complete", "id": "a", "progressDetail": {}}),
            "a: Pull complete\n",
        );
        check(json!({"status": "Digest: sha256:1"}), "Digest: sha256:1\n");
        check(json!({"stream": "Loaded image: x\n"}), "Loaded image: x\n");
    }

    #[test]
    fn terminal_lines_keep_their_place() {
        let mut display = Display::new(true);
        assert_eq!(
            display.message(&json!({"status": "x", "id": "a"})),
            "\n\x1b[1A\x1b[2K\ra: x\r\x1b[1B"
        );
        assert_eq!(
            display.message(&json!({"status": "x", "id": "b"})),
            "\n\x1b[1A\x1b[2K\rb: x\r\x1b[1B"
        );
        assert_eq!(
            display.message(&json!({"status": "y", "id": "a"})),
            "\x1b[2A\x1b[2K\ra: y\r\x1b[2B"
        );
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0, 10), "");
        assert_eq!(bar(5_000, 0), "5kB");
        assert_eq!(
            bar(500, 1000),
            format!("[{}>{}]     500B/1kB", "=".repeat(25), " ".repeat(24))
        );
        assert_eq!(bar(10, 10), format!("[{}]      10B/10B", "=".repeat(50)));
    }
}
