//! `top`.

use cooper_daemon::api::TopResponse;

use super::print;
use crate::args::container::TopArgs;
use crate::client::{Client, escape, query};
use crate::failure::{Failure, Result};
use crate::output::table;

/// `top`.
pub(super) async fn run(client: &Client, args: &TopArgs) -> Result {
    let [container, options @ ..] = &args.rest[..] else {
        return Err(Failure::new("`cooper top` requires a container"));
    };
    let options = options.join(" ");
    let path = format!("/containers/{}/top", escape(container));
    let path = if options.is_empty() {
        path
    } else {
        query(&path, &[("ps_args", &options)])
    };
    let answer: TopResponse = client.get(&path).await?;
    let mut rows = vec![answer.titles];
    rows.extend(answer.processes);
    print::data(&table::render(&rows))
}
