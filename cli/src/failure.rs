//! How a verb ends badly: the one message, the exit code that follows from it, and hints. Hints exist only here.

use std::fmt;
use std::io;

use cooper_daemon::rootless::RootlessError;

use crate::client::ClientError;

/// Exit code of engine errors and of wrong flags, as docker's.
pub(crate) const ENGINE_ERROR: u8 = 125;
/// Exit code of every other failure.
pub(crate) const FAILURE: u8 = 1;

/// What the verbs return.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// Why a verb did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell.
    Said {
        /// Lowercase fragment or the engine's own words, without a final period.
        message: String,
        /// Exit code.
        code: u8,
        /// What may help, without the `hint:` prefix.
        hints: Vec<String>,
    },
    /// Nothing to tell: the exit code of a container's process, or everything was said already.
    Exit(u8),
    /// The user interrupted us; the engine in this process is given time to clean up.
    Cancelled(u8),
    /// Whoever read our output has gone; a normal end.
    BrokenPipe,
}

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Said {
            message: message.into(),
            code: FAILURE,
            hints: Vec::new(),
        }
    }

    /// The same failure with another exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        match self {
            Self::Said { message, hints, .. } => Self::Said { message, code, hints },
            other => other,
        }
    }

    /// The same failure with one more hint.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Said {
                message,
                code,
                mut hints,
            } => {
                hints.push(hint.into());
                Self::Said { message, code, hints }
            }
            other => other,
        }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Said { code, .. } | Self::Exit(code) | Self::Cancelled(code) => *code,
            Self::BrokenPipe => 0,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (message, hints) = match self {
            Self::Said { message, hints, .. } => (message.as_str(), &hints[..]),
            Self::Cancelled(_) => ("cancelled", &[][..]),
            Self::Exit(_) | Self::BrokenPipe => return Ok(()),
        };
        write!(formatter, "cooper: {message}")?;
        for hint in hints {
            write!(formatter, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// For our own output streams: a broken pipe is a normal end.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::new(error.to_string())
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(format!("unexpected answer of the engine: {error}"))
    }
}

impl From<RootlessError> for Failure {
    fn from(error: RootlessError) -> Self {
        let failure = Self::new(format!("cannot work without root: {error}")).with_code(ENGINE_ERROR);
        match &error {
            error if error.lacks_uidmap() => {
                failure.hint("it comes with the package `uidmap` (shadow-utils)")
            }
            RootlessError::Forbidden { .. } => {
                failure.hint("an administrator can allow user namespaces, or run cooper as root")
            }
            _ => failure,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hints = hints(&error);
        Self::Said {
            message: error.to_string(),
            code: FAILURE,
            hints,
        }
    }
}

/// What may help against an error of the engine or of reaching it.
fn hints(error: &ClientError) -> Vec<String> {
    let mut hints = Vec::new();
    match error {
        ClientError::Connect { .. } => {
            hints.push("is `cooper daemon` running? without --host, cooper needs no daemon".to_owned());
        }
        ClientError::Open { message, .. } if permission(message) && !rustix::process::geteuid().is_root() => {
            hints.push("root is needed: try sudo, or --data-root with a directory of your own".to_owned());
        }
        ClientError::Api { message, .. } => {
            if let Some(name) = message.strip_prefix("No such image: ") {
                hints.push(format!(
                    "`cooper pull {name}` downloads it, `cooper images` lists what is there"
                ));
            } else if message.to_ascii_lowercase().contains("connection refused") {
                hints.push(
                    "is the registry running? `cooper registry serve` starts the built-in one".to_owned(),
                );
            } else if permission(message) && !rustix::process::geteuid().is_root() {
                hints.push("root is needed: try sudo".to_owned());
            }
        }
        _ => {}
    }
    hints
}

fn permission(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    lower.contains("permission denied") || lower.contains("operation not permitted")
}

/// Exit code for an error of creating or starting a process, from its text, as docker's CLI decides it
/// (`cli/command/container/run.go`, `toStatusError`).
pub(crate) fn start_error_code(message: &str) -> u8 {
    if message.contains("executable file not found") || message.contains("no such file or directory") {
        127
    } else if message.contains("permission denied") || message.contains("is a directory") {
        126
    } else {
        ENGINE_ERROR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_errors() {
        for (message, expected) in [
            ("exec: \"x\": executable file not found in $PATH", 127),
            ("exec: \"/x\": stat /x: no such file or directory", 127),
            ("exec: \"/etc/passwd\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("Conflict. The container name \"/a\" is already in use", 125),
        ] {
            assert_eq!(start_error_code(message), expected, "{message}");
        }
    }

    #[test]
    fn hints_follow_the_error() {
        let api = |message: &str| ClientError::Api {
            status: 404,
            message: message.to_owned(),
        };
        assert_eq!(hints(&api("No such image: x:latest")).len(), 1);
        assert_eq!(hints(&api("dial 127.0.0.1:5000: Connection refused")).len(), 1);
        assert_eq!(hints(&api("No such container: x")), Vec::<String>::new());
    }

    #[test]
    fn display_and_code() {
        let failure = Failure::new("a: b").hint("do c").with_code(125);
        assert_eq!(failure.to_string(), "cooper: a: b\nhint: do c");
        assert_eq!(failure.code(), 125);
        assert_eq!(
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(),
            0
        );
    }
}
