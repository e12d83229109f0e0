//! `export`.

use super::save::{to_file, to_stdout};
use crate::args::data::ExportArgs;
use crate::client::{Client, escape};
use crate::failure::{Failure, Result};
use crate::output::messages;

/// `export`.
pub(super) async fn run(client: &Client, args: &ExportArgs) -> Result {
    if args.output.is_none() && messages::stdout_is_terminal() {
        return Err(
            Failure::new("refusing to write a tar to a terminal").hint("use --output FILE, or redirect")
        );
    }
    let path = format!("/containers/{}/export", escape(&args.container));
    let (body, _) = client.download(&path).await?;
    match &args.output {
        Some(path) => to_file(body, path).await,
        None => to_stdout(body).await,
    }
}
