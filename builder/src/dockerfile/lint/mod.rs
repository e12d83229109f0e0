//! Build checks: what BuildKit's linter warns of and the syntax tree alone can tell.
//!
//! Left to the planner, which knows variables, base images and contexts: `UndefinedVar`, `InvalidDefaultArgInFrom`,
//! `InvalidBaseImagePlatform`, `CopyIgnoredFile`. `InvalidDefinitionDescription` is experimental and not implemented.

mod instructions;
mod run;
mod stages;

pub use run::lint;
