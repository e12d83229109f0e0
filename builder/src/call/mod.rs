//! Questions about a Dockerfile that need no build: its checks, its targets, the outline of one.
//!
//! Names and JSON are those of BuildKit's subrequests (`frontend.lint`, `frontend.targets`, `frontend.outline`), so that
//! what reads `docker build --call …,format=json` reads this. Only the Dockerfile, the ignore file and the configs of
//! images that are in the store already are read; nothing is fetched.

mod answer;
mod ask;
mod mounts;
mod outline;
mod text;

pub use answer::{
    Argument, BuildError, CacheMount, Call, Location, Method, Methods, Outline, Position, Range, Report,
    Requirement, SourceFile, TargetInfo, Targets, Violation, Violations,
};
pub use ask::ask;
pub(crate) use ask::check_options;
