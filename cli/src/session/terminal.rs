//! Raw mode and the size of the window.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether stdin is a terminal.
pub(crate) fn is_terminal_stdin() -> bool {
    isatty(io::stdin())
}

/// Rows and columns of the terminal on stdout, else of the one on stdin.
pub(crate) fn window() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout())
        .or_else(|_| tcgetwinsize(io::stdin()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Puts the terminal on stdin into raw mode until dropped, so also when unwinding from a panic. Signals that would end
/// the process are caught while this lives (see `Signals`), so it is dropped then, too.
pub(super) struct RawMode(Termios);

impl RawMode {
    /// Nothing happens when stdin is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        if !is_terminal_stdin() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else to try.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
