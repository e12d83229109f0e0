//! `commit`.

use cooper_daemon::api::IdResponse;

use super::print;
use super::tag::split;
use crate::args::data::CommitArgs;
use crate::client::{Client, Payload, query};
use crate::failure::Result;

/// `commit`.
pub(super) async fn run(client: &Client, args: &CommitArgs) -> Result {
    let mut pairs = vec![("container", args.container.as_str())];
    if let Some(reference) = &args.reference {
        let (repository, tag) = split(reference);
        pairs.push(("repo", repository));
        pairs.extend(tag.map(|tag| ("tag", tag)));
    }
    pairs.extend(args.author.as_deref().map(|author| ("author", author)));
    pairs.extend(args.message.as_deref().map(|message| ("comment", message)));
    pairs.push(("pause", if args.pause { "1" } else { "0" }));
    pairs.extend(args.change.iter().map(|change| ("changes", change.as_str())));
    let answer: IdResponse = client.post(&query("/commit", &pairs), Payload::Empty).await?;
    print::line(&answer.id)
}
