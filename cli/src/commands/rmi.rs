//! `rmi`.

use cooper_daemon::api::DeletedImage;

use super::each::each;
use crate::args::image::RmiArgs;
use crate::client::{Client, escape, query};
use crate::failure::Result;

/// `rmi`.
pub(super) async fn run(client: &Client, args: &RmiArgs) -> Result {
    let flag = |set: bool| if set { "1" } else { "0" };
    let pairs = [("force", flag(args.force)), ("noprune", flag(args.no_prune))];
    each(&args.images, |name| async move {
        let answer = client
            .delete(&query(&format!("/images/{}", escape(name)), &pairs))
            .await?;
        let deleted: Option<Vec<DeletedImage>> = serde_json::from_value(answer)?;
        Ok(deleted.unwrap_or_default().iter().map(describe).collect())
    })
    .await
}

/// A line for what happened to an image or one of its names.
pub(super) fn describe(item: &DeletedImage) -> String {
    if item.deleted.is_empty() {
        format!("Untagged: {}\n", item.untagged)
    } else {
        format!("Deleted: {}\n", item.deleted)
    }
}
