//! `pull` and `push`.

use std::io::{self, Write};

use super::print;
use super::tag::split;
use crate::args::image::{PullArgs, PushArgs};
use crate::client::{Client, Payload, escape, query};
use crate::failure::{Failure, Result};
use crate::output::messages;

/// `pull`.
pub(super) async fn run(client: &Client, args: &PullArgs) -> Result {
    let platform = args.platform.as_deref();
    if args.quiet {
        pull(client, &args.reference, platform, &mut io::sink(), false).await?;
        return print::line(&args.reference);
    }
    pull(
        client,
        &args.reference,
        platform,
        &mut io::stdout(),
        messages::stdout_is_terminal(),
    )
    .await
}

/// Downloads an image, showing the progress on `output`.
pub(super) async fn pull(
    client: &Client,
    reference: &str,
    platform: Option<&str>,
    output: &mut dyn Write,
    terminal: bool,
) -> Result {
    let (repository, tag) = match reference.split_once('@') {
        Some((name, digest)) => (split(name).0, digest),
        None => {
            let (name, tag) = split(reference);
            (name, tag.unwrap_or("latest"))
        }
    };
    if !reference.contains('@') && split(reference).1.is_none() {
        writeln!(output, "Using default tag: latest")?;
    }
    let mut pairs = vec![("fromImage", repository), ("tag", tag)];
    pairs.extend(platform.map(|platform| ("platform", platform)));
    let lines = client
        .stream(&query("/images/create", &pairs), Payload::Empty, &[])
        .await?;
    messages::show(lines, output, terminal).await?;
    Ok(())
}

/// `push`.
pub(super) async fn push(client: &Client, args: &PushArgs) -> Result {
    let (repository, tag) = split(&args.reference);
    if args.reference.contains('@') {
        return Err(Failure::new("cannot push a digest reference: name a tag"));
    }
    let path = query(
        &format!("/images/{}/push", escape(repository)),
        &[("tag", tag.unwrap_or("latest"))],
    );
    // The API insists on the header; without credentials of the client the engine uses its own.
    let headers = [("X-Registry-Auth", "e30=".to_owned())];
    let lines = client.stream(&path, Payload::Empty, &headers).await?;
    if args.quiet {
        messages::show(lines, &mut io::sink(), false).await?;
        return print::line(&args.reference);
    }
    messages::show(lines, &mut io::stdout(), messages::stdout_is_terminal()).await?;
    Ok(())
}
