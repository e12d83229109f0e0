//! Our two streams: data to stdout (a broken pipe is a normal end), talk to stderr (never fails a verb).

use std::io::{self, Write};

use crate::failure::{Failure, Result};

/// Data.
pub(super) fn data(text: &str) -> Result {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush().map_err(Failure::from)
}

/// One line of data.
pub(super) fn line(text: &str) -> Result {
    data(&format!("{text}\n"))
}

/// One line of talk.
pub(crate) fn talk(text: &str) {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A warning.
pub(super) fn warning(text: &str) {
    talk(&format!("warning: {text}"));
}
