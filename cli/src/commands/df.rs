//! `system df`.

use cooper_daemon::api::{BuildCacheItem, ContainerSummary, DiskUsage, ImageSummary};
use serde_json::Value;

use super::{images, print, ps};
use crate::args::system::DfArgs;
use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::human;
use crate::output::list::{self, Column, Row};

const COLUMNS: &[Column] = &[
    Column {
        field: "Type",
        heading: "TYPE",
    },
    Column {
        field: "TotalCount",
        heading: "TOTAL",
    },
    Column {
        field: "Active",
        heading: "ACTIVE",
    },
    Column {
        field: "Size",
        heading: "SIZE",
    },
    Column {
        field: "Reclaimable",
        heading: "RECLAIMABLE",
    },
];

/// `system df`.
pub(super) async fn run(client: &Client, args: &DfArgs) -> Result {
    let usage: DiskUsage = client.get("/system/df").await?;
    if args.verbose && args.format.is_none() {
        return print::data(&verbose(&usage)?);
    }
    let columns = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    let text =
        list::render(args.format.as_deref(), &columns, COLUMNS, &summary(&usage)).map_err(Failure::new)?;
    print::data(&text)
}

/// One row a kind of thing, counted as docker counts.
fn summary(usage: &DiskUsage) -> Vec<Row> {
    let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
    let active_images: Vec<&ImageSummary> =
        usage.images.iter().filter(|image| image.containers > 0).collect();
    let used: u64 = active_images
        .iter()
        .map(|image| bytes(image.size).saturating_sub(bytes(image.shared_size)))
        .fold(0, u64::saturating_add);
    let layers = bytes(usage.layers_size);
    let unused = if active_images.is_empty() {
        layers
    } else {
        layers.saturating_sub(used)
    };

    let is_active = |container: &&ContainerSummary| {
        matches!(container.state.as_str(), "running" | "paused" | "restarting")
    };
    let total = |containers: &mut dyn Iterator<Item = &ContainerSummary>| -> u64 {
        containers
            .map(|container| bytes(container.size_rw.unwrap_or(0)))
            .sum()
    };
    let containers = total(&mut usage.containers.iter());
    let stopped = total(&mut usage.containers.iter().filter(|container| !is_active(container)));

    let cache = |items: &mut dyn Iterator<Item = &BuildCacheItem>| -> u64 {
        items
            .filter(|item| !item.shared)
            .map(|item| bytes(item.size))
            .sum()
    };
    let cached = cache(&mut usage.build_cache.iter());
    let in_use = cache(&mut usage.build_cache.iter().filter(|item| item.in_use));
    vec![
        row("Images", usage.images.len(), active_images.len(), layers, unused),
        row(
            "Containers",
            usage.containers.len(),
            usage.containers.iter().filter(is_active).count(),
            containers,
            stopped,
        ),
        row("Local Volumes", usage.volumes.len(), 0, 0, 0),
        row(
            "Build Cache",
            usage.build_cache.len(),
            usage.build_cache.iter().filter(|item| item.in_use).count(),
            cached,
            cached.saturating_sub(in_use),
        ),
    ]
}

fn row(kind: &'static str, count: usize, active: usize, size: u64, reclaimable: u64) -> Row {
    let text = match (u128::from(reclaimable) * 100).checked_div(u128::from(size)) {
        Some(percent) => format!("{} ({percent}%)", human::size(reclaimable)),
        None => human::size(reclaimable),
    };
    Row::from([
        ("Type", Value::from(kind)),
        ("TotalCount", Value::from(count.to_string())),
        ("Active", Value::from(active.to_string())),
        ("Size", Value::from(human::size(size))),
        ("Reclaimable", Value::from(text)),
    ])
}

fn verbose(usage: &DiskUsage) -> Result<String> {
    let now = jiff::Timestamp::now().as_second();
    let table = |columns: &[&'static str], known: &[Column], rows: &[Row]| {
        list::render(None, columns, known, rows).map_err(Failure::new)
    };
    let mut text = "Images space usage:\n\n".to_owned();
    let rows: Vec<Row> = usage
        .images
        .iter()
        .flat_map(|image| images::rows(image, false, false, now))
        .collect();
    let columns = [
        "Repository",
        "Tag",
        "ID",
        "CreatedSince",
        "Size",
        "SharedSize",
        "UniqueSize",
        "Containers",
    ];
    text.push_str(&table(&columns, images::COLUMNS, &rows)?);

    text.push_str("\nContainers space usage:\n\n");
    let rows: Vec<Row> = usage
        .containers
        .iter()
        .map(|container| ps::row(container, false, now))
        .collect();
    let columns = [
        "ID",
        "Image",
        "Command",
        "LocalVolumes",
        "Size",
        "RunningFor",
        "Status",
        "Names",
    ];
    text.push_str(&table(&columns, ps::COLUMNS, &rows)?);

    let size: u64 = usage
        .build_cache
        .iter()
        .map(|item| u64::try_from(item.size).unwrap_or(0))
        .sum();
    text.push_str(&format!("\nBuild cache usage: {}\n\n", human::size(size)));
    let known = [
        ("ID", "CACHE ID"),
        ("Type", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsed", "LAST USED"),
        ("Usage", "USAGE"),
        ("Shared", "SHARED"),
    ]
    .map(|(field, heading)| Column { field, heading });
    let rows: Vec<Row> = usage
        .build_cache
        .iter()
        .map(|item| cache_row(item, now))
        .collect();
    text.push_str(&table(&known.map(|column| column.field), &known, &rows)?);
    Ok(text)
}

fn cache_row(item: &BuildCacheItem, now: i64) -> Row {
    let ago = |time: &str| {
        time.parse::<jiff::Timestamp>()
            .map_or_else(|_| String::new(), |time| human::ago(time.as_second(), now))
    };
    Row::from([
        ("ID", Value::from(human::short_id(&item.id))),
        ("Type", Value::from(item.kind.as_str())),
        (
            "Size",
            Value::from(human::size(u64::try_from(item.size).unwrap_or(0))),
        ),
        ("CreatedSince", Value::from(ago(&item.created_at))),
        (
            "LastUsed",
            Value::from(item.last_used_at.as_deref().map(ago).unwrap_or_default()),
        ),
        ("Usage", Value::from(item.usage_count.to_string())),
        ("Shared", Value::from(item.shared.to_string())),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn summary_as_docker() {
        let usage: DiskUsage = serde_json::from_value(json!({
            "LayersSize": 1_984_000,
            "Images": [{"Id": "sha256:1", "Size": 1_984_000, "SharedSize": 0, "Containers": 1}],
            "Containers": [{"Id": "1", "State": "exited", "SizeRw": 1000}, {"Id": "2", "State": "running", "SizeRw": 3000}],
            "BuildCache": [{"ID": "x", "Size": 500, "InUse": false}],
        }))
        .unwrap();
        let columns = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
        assert_eq!(
            list::render(None, &columns, COLUMNS, &summary(&usage)).unwrap(),
            "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images          1         1         1.984MB   0B (0%)\n\
             Containers      2         1         4kB       1kB (25%)\n\
             Local Volumes   0         0         0B        0B\n\
             Build Cache     1         0         500B      500B (100%)\n"
        );
    }
}
