//! The ways to show a build.

use std::io;
use std::time::Duration;

use cooper_daemon::build::Event;

use crate::args::build::ProgressMode;
use crate::commands::print;
use crate::failure::Result;
use crate::output::messages::stderr_is_terminal;
use crate::output::progress::{Plain, Screen, Tty, size};

/// One of them.
pub(super) enum View {
    Plain(Plain),
    Live(Tty, Screen),
    Raw,
    Silent,
}

impl View {
    pub(super) fn new(mode: ProgressMode) -> Self {
        match mode {
            ProgressMode::Auto if stderr_is_terminal() => Self::Live(Tty::default(), Screen::default()),
            ProgressMode::Tty => Self::Live(Tty::default(), Screen::default()),
            ProgressMode::Auto | ProgressMode::Plain => Self::Plain(Plain::default()),
            ProgressMode::Rawjson => Self::Raw,
            ProgressMode::Quiet | ProgressMode::None => Self::Silent,
        }
    }

    /// Whether it changes with time alone.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live(..))
    }

    /// Takes an event, `at` after the start of the build.
    pub(super) fn event(&mut self, event: &Event, at: Duration) -> Result {
        match self {
            Self::Plain(plain) => plain.event(event, at).iter().for_each(|line| print::talk(line)),
            Self::Live(tty, _) => tty.event(event, at),
            Self::Raw => print::line(&serde_json::to_string(event)?)?,
            Self::Silent => {}
        }
        Ok(())
    }

    /// Draws what it looks like now.
    pub(super) fn frame(&mut self, at: Duration) {
        if let Self::Live(tty, screen) = self {
            let (width, height) = size();
            // Without a stderr there is nobody to show it to.
            let _ = screen.draw(tty.frame(at, width, height), &mut io::stderr().lock());
        }
    }

    /// Leaves the terminal to somebody else for a while.
    pub(super) fn pause(&mut self, at: Duration) {
        self.frame(at);
        if let Self::Live(_, screen) = self {
            // What comes next is drawn below.
            *screen = Screen::default();
        }
    }

    /// The build is over.
    pub(super) fn finish(&mut self, at: Duration) {
        match self {
            Self::Plain(plain) => plain.finish(at).iter().for_each(|line| print::talk(line)),
            Self::Live(..) => self.frame(at),
            Self::Raw | Self::Silent => {}
        }
    }

    /// A line after the last one, where lines are for people.
    pub(super) fn summary(&self, text: &str) {
        match self {
            Self::Plain(_) | Self::Live(..) => print::talk(text),
            Self::Raw | Self::Silent => {}
        }
    }
}
