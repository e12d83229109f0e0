//! The same request for several names.

use std::future::Future;

use futures_util::stream::{self, StreamExt};

use super::print;
use crate::failure::{FAILURE, Failure, Result};

/// Requests under way at once, as docker.
const PARALLEL: usize = 50;

/// Runs `action` for every name in parallel, prints each one's text in the order given, and goes on after errors.
pub(super) async fn each<'a, F>(names: &'a [String], action: impl Fn(&'a str) -> F) -> Result
where
    F: Future<Output = Result<String>>,
{
    let mut failed = false;
    let mut results = stream::iter(names.iter().map(|name| action(name))).buffered(PARALLEL);
    while let Some(result) = results.next().await {
        match result {
            Ok(text) => print::data(&text)?,
            Err(failure @ Failure::Said { .. }) => {
                print::talk(&failure.to_string());
                failed = true;
            }
            Err(other) => return Err(other),
        }
    }
    if failed {
        Err(Failure::Exit(FAILURE))
    } else {
        Ok(())
    }
}
