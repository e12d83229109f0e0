//! `build`, and the first half of `run --build`.
//!
//! [`order`] turns flags into a request, [`context`] finds the files that it is about, [`call`] sends it and [`view`] shows
//! what comes back. [`watch`] does it again whenever one of the files changes.

mod call;
mod context;
mod flags;
mod local;
mod order;
mod outcome;
mod parts;
mod verb;
mod view;
mod watch;

pub(super) use call::build;
pub(super) use order::Order;
pub(super) use verb::run;
pub(super) use watch::Watcher;
