//! Path patterns: `.dockerignore` files, `COPY --exclude`, and Go's `filepath.Match` for COPY sources. No IO.
//!
//! [`Patterns`] decides as moby/patternmatcher does when BuildKit walks a context with it; [`glob_match`] as Go does. Names
//! are bytes: characters are UTF-8 where they can be, and any other byte is a character of its own.

mod glob;
mod matcher;
mod pattern;

pub use glob::{BadPattern, glob_match, has_meta};
pub use matcher::{IgnoreError, IgnoreErrorKind, MatchState, Patterns};
