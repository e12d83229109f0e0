//! `tag`.

use crate::args::image::TagArgs;
use crate::client::{Client, Payload, escape, query};
use crate::failure::Result;

/// `tag`.
pub(super) async fn run(client: &Client, args: &TagArgs) -> Result {
    let (repository, tag) = split(&args.target);
    let mut pairs = vec![("repo", repository)];
    pairs.extend(tag.map(|tag| ("tag", tag)));
    client
        .act(
            &query(&format!("/images/{}/tag", escape(&args.source)), &pairs),
            Payload::Empty,
        )
        .await?;
    Ok(())
}

/// Splits off the tag; a colon before a slash belongs to a port.
pub(super) fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(split("a/b:c"), ("a/b", Some("c")));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", None));
        assert_eq!(split("localhost:5000/a:b"), ("localhost:5000/a", Some("b")));
        assert_eq!(split("a"), ("a", None));
    }
}
