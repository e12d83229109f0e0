//! Draws frames over each other.

use std::io::{self, Write};

/// The lines drawn last.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    drawn: Vec<String>,
}

impl Screen {
    /// Replaces what was drawn with these lines, in one write.
    pub(crate) fn draw(&mut self, lines: Vec<String>, output: &mut dyn Write) -> io::Result<()> {
        if lines == self.drawn {
            return Ok(());
        }
        let text = update(self.drawn.len(), &lines);
        output.write_all(text.as_bytes())?;
        output.flush()?;
        self.drawn = lines;
        Ok(())
    }
}

/// Size of the terminal on stderr as (columns, rows).
pub(crate) fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 1 => (size.ws_col.into(), usize::from(size.ws_row) - 1),
        _ => (80, 24),
    }
}

fn update(drawn: usize, lines: &[String]) -> String {
    let mut text = String::new();
    if drawn > 0 {
        text.push_str(&format!("\x1b[{drawn}A\r"));
    }
    for line in lines {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    if drawn > lines.len() {
        text.push_str("\x1b[J");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(update(0, &lines), "a\x1b[K\nb\x1b[K\n");
        assert_eq!(update(2, &lines), "\x1b[2A\ra\x1b[K\nb\x1b[K\n");
        assert_eq!(update(3, &lines[..1]), "\x1b[3A\ra\x1b[K\n\x1b[J");
    }
}
