//! `diff`.

use cooper_daemon::api::FilesystemChange;

use super::print;
use crate::args::data::DiffArgs;
use crate::client::{Client, escape};
use crate::failure::Result;

/// `diff`.
pub(super) async fn run(client: &Client, args: &DiffArgs) -> Result {
    let path = format!("/containers/{}/changes", escape(&args.container));
    let changes: Option<Vec<FilesystemChange>> = client.get(&path).await?;
    let lines: String = changes
        .unwrap_or_default()
        .iter()
        .map(|change| {
            let kind = ["C", "A", "D"].get(usize::from(change.kind)).unwrap_or(&"?");
            format!("{kind} {}\n", change.path)
        })
        .collect();
    print::data(&lines)
}
