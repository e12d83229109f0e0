//! `system prune`, `container prune`, `image prune`.

use std::io::{self, BufRead, Write};

use cooper_daemon::api::{PruneBuildReport, PruneContainersReport, PruneImagesReport};

use super::{print, rmi};
use crate::args::system::PruneArgs;
use crate::client::{Client, Payload, query};
use crate::failure::{Failure, Result};
use crate::output::human;
use crate::settings::filters;

/// `system prune`.
pub(super) async fn system(client: &Client, args: &PruneArgs) -> Result {
    let images = if args.all {
        "all images without a container"
    } else {
        "all images without a name"
    };
    confirm(
        args.force,
        &format!("This removes all stopped containers, {images} and unused build cache."),
    )?;
    let mut freed = prune_containers(client, args).await?;
    freed += prune_images(client, args).await?;
    freed += prune_cache(client, args).await?;
    total(freed)
}

/// `container prune`.
pub(super) async fn containers(client: &Client, args: &PruneArgs) -> Result {
    confirm(args.force, "This removes all stopped containers.")?;
    total(prune_containers(client, args).await?)
}

/// `image prune`.
pub(super) async fn images(client: &Client, args: &PruneArgs) -> Result {
    let what = if args.all {
        "This removes all images without a container."
    } else {
        "This removes all images without a name."
    };
    confirm(args.force, what)?;
    total(prune_images(client, args).await?)
}

async fn prune_containers(client: &Client, args: &PruneArgs) -> Result<u64> {
    let path = with_filters("/containers/prune", args.filter.clone())?;
    let report: PruneContainersReport = client.post(&path, Payload::Empty).await?;
    let deleted = report.containers_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        print::data(&format!("Deleted Containers:\n{}\n\n", deleted.join("\n")))?;
    }
    Ok(report.space_reclaimed)
}

async fn prune_images(client: &Client, args: &PruneArgs) -> Result<u64> {
    let mut wanted = args.filter.clone();
    wanted.push(format!("dangling={}", !args.all));
    let report: PruneImagesReport = client
        .post(&with_filters("/images/prune", wanted)?, Payload::Empty)
        .await?;
    let deleted = report.images_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        let lines: String = deleted.iter().map(rmi::describe).collect();
        print::data(&format!(
            "Deleted Images:\n{}\n",
            lines
                .replace("Untagged: ", "untagged: ")
                .replace("Deleted: ", "deleted: ")
        ))?;
    }
    Ok(report.space_reclaimed)
}

async fn prune_cache(client: &Client, args: &PruneArgs) -> Result<u64> {
    let path = with_filters(
        if args.all {
            "/build/prune?all=1"
        } else {
            "/build/prune"
        },
        Vec::new(),
    )?;
    let report: PruneBuildReport = client.post(&path, Payload::Empty).await?;
    let deleted = report.caches_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        print::data(&format!(
            "Deleted build cache objects:\n{}\n\n",
            deleted.join("\n")
        ))?;
    }
    Ok(report.space_reclaimed)
}

pub(super) fn with_filters(path: &str, wanted: Vec<String>) -> Result<String> {
    Ok(match filters::encode(&wanted).map_err(Failure::new)? {
        Some(filters) => query(path, &[("filters", &filters)]),
        None => path.to_owned(),
    })
}

pub(super) fn total(freed: u64) -> Result {
    print::line(&format!("Total reclaimed space: {}", human::size(freed)))
}

/// Asks on the terminal; anything but y is no. The end of stdin is no, too.
pub(super) fn confirm(force: bool, what: &str) -> Result {
    if force {
        return Ok(());
    }
    print::warning(what);
    let mut stderr = io::stderr().lock();
    // Without a stderr the answer is still read.
    let _ = write!(stderr, "Are you sure you want to continue? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new("nothing removed").hint("--force does not ask"))
    }
}
