//! What the user sees. Data goes to stdout, talk to stderr. Everything but [`messages`] and [`progress`] is a pure
//! function.

pub(crate) mod human;
pub(crate) mod list;
pub(crate) mod messages;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod template;
