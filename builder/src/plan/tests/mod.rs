//! Plans without anything that is executed.

mod definitions;
mod errors;
mod outline;
mod triggers;
mod world;
