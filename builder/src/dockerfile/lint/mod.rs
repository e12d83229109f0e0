//! Build checks: BuildKit's, by its names, and a few of Cooper's own. No IO.
//!
//! Most rules need the syntax tree alone. Those that also need to know what base images set or what the context ignores
//! take it from [`Facts`]. `InvalidBaseImagePlatform` is found by the planner, which alone sees the images' configs.

mod descriptions;
mod files;
mod instructions;
mod own;
mod run;
mod scope;
mod stages;
mod variables;

pub use run::{Facts, lint};
pub use scope::parse_check_options;
