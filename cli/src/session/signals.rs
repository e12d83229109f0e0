//! Signals sent to this process, as values.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals passed on to the container, with the names the Engine API takes.
const FORWARDED: [(&str, i32); 7] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
];
/// Signals after which a session that forwards nothing ends.
const ENDING: [&str; 4] = ["HUP", "INT", "QUIT", "TERM"];

/// Receives signals from the moment it exists; the default action is then off for good.
#[derive(Debug)]
pub(crate) struct Signals(mpsc::UnboundedReceiver<&'static str>);

impl Signals {
    /// Everything a container can be sent.
    pub(crate) fn forwarded() -> io::Result<Self> {
        Self::listen(|_| true)
    }

    /// What asks this process to end.
    pub(crate) fn ending() -> io::Result<Self> {
        Self::listen(|name| ENDING.contains(&name))
    }

    /// None at all: somebody else listens.
    pub(crate) fn none() -> Self {
        Self(mpsc::unbounded_channel().1)
    }

    fn listen(wanted: impl Fn(&str) -> bool) -> io::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for (name, number) in FORWARDED {
            if !wanted(name) {
                continue;
            }
            let mut stream = signal(SignalKind::from_raw(number))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if sender.send(name).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self(receiver))
    }

    /// The next signal's name. Cancel-safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}

/// Number of a signal of [`Signals`].
pub(crate) fn number(name: &str) -> u8 {
    FORWARDED
        .iter()
        .find(|(known, _)| *known == name)
        .and_then(|(_, number)| u8::try_from(*number).ok())
        .unwrap_or(15)
}
