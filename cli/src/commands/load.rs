//! `load`.

use std::io;

use super::import::upload;
use crate::args::image::LoadArgs;
use crate::client::{Client, Payload, query};
use crate::failure::{Failure, Result};
use crate::output::messages;

/// `load`.
pub(super) async fn run(client: &Client, args: &LoadArgs) -> Result {
    if args.input.is_none() && crate::session::is_terminal_stdin() {
        return Err(
            Failure::new("requested load from stdin, but stdin is a terminal").hint("use --input FILE")
        );
    }
    let quiet = args.quiet || !messages::stdout_is_terminal();
    let path = query("/images/load", &[("quiet", if quiet { "1" } else { "0" })]);
    let payload = Payload::Stream("application/x-tar", upload(args.input.as_deref())?);
    let lines = client.stream(&path, payload, &[]).await?;
    messages::show(lines, &mut io::stdout(), messages::stdout_is_terminal()).await?;
    Ok(())
}
