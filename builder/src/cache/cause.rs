//! Why a step was not in the cache, as told to people and programs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One reason for a cache miss. A miss has at least one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// `--no-cache` or `--no-cache-filter`: the cache was not asked.
    NoCache,
    /// Nothing like this step is remembered.
    NeverBuilt,
    /// This very step was built before, but its record or its layer is gone.
    Evicted,
    /// This very step was begun before, but failed or was cancelled.
    Unfinished,
    /// This very step was built before, but a file changed while it was copied, so its result was not kept.
    Unsettled,
    /// The text of the instruction changed.
    Instruction {
        /// As it was.
        old: String,
        /// As it is.
        new: String,
    },
    /// The step begins from another result of this step.
    Parent {
        /// Number of the step in this build.
        step: usize,
        /// Its name.
        name: String,
    },
    /// The image that the step begins from has other layers, or is another one.
    Base {
        /// `name@digest` of its manifest, as it was.
        old: String,
        /// As it is.
        new: String,
    },
    /// A file that COPY, ADD or a mount reads.
    File {
        /// Path in the context or in what `from` names.
        path: String,
        /// The step or image that it comes from; none for the build context.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// What changed.
        change: FileChange,
    },
    /// As many more files changed.
    MoreFiles {
        /// How many.
        count: usize,
    },
    /// The value of an ARG.
    BuildArg {
        /// Its name.
        name: String,
        /// None if it was not set.
        old: Option<String>,
        /// None if it is not set any more.
        new: Option<String>,
    },
    /// The value of an ENV, of this Dockerfile or of the base image.
    Variable {
        /// Its name.
        name: String,
        /// None if it was not set.
        old: Option<String>,
        /// None if it is not set any more.
        new: Option<String>,
    },
    /// An option of the instruction or of the build, or what earlier instructions set for it.
    Flag {
        /// `network`, `user`, `workdir`, `mount`, …
        flag: String,
        /// None if it was not given.
        old: Option<String>,
        /// None if it is not given any more.
        new: Option<String>,
    },
}

/// What happened to a file. Times are no part of cache keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileChange {
    /// It was not there, or not selected.
    Added,
    /// It is not there, or not selected any more.
    Removed,
    /// Its bytes, the target of a link, or the number of a device.
    Content,
    /// Its extended attributes.
    Attributes,
    /// Its permission bits.
    Mode {
        /// Octal.
        old: String,
        /// Octal.
        new: String,
    },
    /// Its owner.
    Owner {
        /// `uid:gid`
        old: String,
        /// `uid:gid`
        new: String,
    },
    /// It became another type of file.
    Type {
        /// `file`, `directory`, `link`, …
        old: String,
        /// The same.
        new: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCache => f.write_str("the cache is not used (--no-cache)"),
            Self::NeverBuilt => f.write_str("never built before"),
            Self::Evicted => f.write_str("built before, but the result is no longer in the cache"),
            Self::Unfinished => f.write_str("the last attempt failed or was cancelled"),
            Self::Unsettled => {
                f.write_str("a file changed while it was copied, so the last result was not kept")
            }
            Self::Instruction { old, new } => {
                write!(f, "instruction changed: {} -> {}", Short(old), Short(new))
            }
            Self::Parent { name, .. } => write!(f, "an earlier step has another result: {}", Short(name)),
            Self::Base { old, new } => write!(f, "base image moved: {old} -> {new}"),
            Self::File { path, from, change } => {
                write!(f, "{path}: {change}")?;
                match from {
                    Some(from) => write!(f, " (from {})", Short(from)),
                    None => Ok(()),
                }
            }
            Self::MoreFiles { count } => write!(f, "{count} more files changed"),
            Self::BuildArg { name, old, new } => {
                changed(f, "build argument", name, old.as_ref(), new.as_ref())
            }
            Self::Variable { name, old, new } => changed(f, "variable", name, old.as_ref(), new.as_ref()),
            Self::Flag { flag, old, new } => changed(f, "option", flag, old.as_ref(), new.as_ref()),
        }
    }
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("added"),
            Self::Removed => f.write_str("removed"),
            Self::Content => f.write_str("content changed"),
            Self::Attributes => f.write_str("extended attributes changed"),
            Self::Mode { old, new } => write!(f, "mode changed: {old} -> {new}"),
            Self::Owner { old, new } => write!(f, "owner changed: {old} -> {new}"),
            Self::Type { old, new } => write!(f, "type changed: {old} -> {new}"),
        }
    }
}

fn changed(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    name: &str,
    old: Option<&String>,
    new: Option<&String>,
) -> fmt::Result {
    match (old, new) {
        (Some(old), Some(new)) => {
            write!(
                f,
                "{what} {name} changed: {:?} -> {:?}",
                Short(old).to_string(),
                Short(new).to_string()
            )
        }
        (None, Some(new)) => write!(f, "{what} {name} is new: {:?}", Short(new).to_string()),
        (Some(old), None) => write!(f, "{what} {name} is gone, it was {:?}", Short(old).to_string()),
        (None, None) => write!(f, "{what} {name} changed"),
    }
}

/// The first line, and not too much of it.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 120;
        let line = self.0.lines().next().unwrap_or_default();
        let cut: String = line.chars().take(MAX).collect();
        f.write_str(&cut)?;
        if cut.len() < self.0.trim_end_matches('\n').len() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

/// The causes of one step's miss for people: a line each, without a newline at the end.
#[must_use]
pub fn render_causes(causes: &[Cause]) -> String {
    let lines: Vec<String> = causes.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json() {
        let set = |text: &str| Some(text.to_owned());
        for (cause, text, json) in [
            (
                Cause::BuildArg {
                    name: "V".into(),
                    old: set("1"),
                    new: set("2"),
                },
                "build argument V changed: \"1\" -> \"2\"",
                r#"{"cause":"build_arg","name":"V","old":"1","new":"2"}"#,
            ),
            (
                Cause::File {
                    path: "src/a.rs".into(),
                    from: None,
                    change: FileChange::Mode {
                        old: "644".into(),
                        new: "755".into(),
                    },
                },
                "src/a.rs: mode changed: 644 -> 755",
                r#"{"cause":"file","path":"src/a.rs","change":{"what":"mode","old":"644","new":"755"}}"#,
            ),
            (
                Cause::Instruction {
                    old: "RUN a\nb\n".into(),
                    new: "x".repeat(130),
                },
                &format!("instruction changed: RUN a… -> {}…", "x".repeat(120)),
                &format!(
                    r#"{{"cause":"instruction","old":"RUN a\nb\n","new":"{}"}}"#,
                    "x".repeat(130)
                ),
            ),
            (
                Cause::NoCache,
                "the cache is not used (--no-cache)",
                r#"{"cause":"no_cache"}"#,
            ),
        ] {
            assert_eq!(render_causes(std::slice::from_ref(&cause)), text);
            assert_eq!(serde_json::to_string(&cause).unwrap(), json);
            assert_eq!(serde_json::from_str::<Cause>(json).unwrap(), cause);
        }
    }
}
