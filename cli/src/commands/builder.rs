//! `builder du`, `builder prune`.

use cooper_daemon::api::{BuildCacheItem, DiskUsage, PruneBuildReport};
use serde_json::Value;

use super::{print, prune};
use crate::args::builder::{BuilderPruneArgs, DuArgs};
use crate::client::{Client, Payload, query};
use crate::failure::{Failure, Result};
use crate::output::human;
use crate::output::list::{self, Column, Row};
use crate::settings::values;

const COLUMNS: &[Column] = &[
    Column {
        field: "ID",
        heading: "ID",
    },
    Column {
        field: "Reclaimable",
        heading: "RECLAIMABLE",
    },
    Column {
        field: "Size",
        heading: "SIZE",
    },
    Column {
        field: "LastUsed",
        heading: "LAST ACCESSED",
    },
];

/// `builder du`.
pub(super) async fn du(client: &Client, args: &DuArgs) -> Result {
    let usage = entries(client, &args.filter).await?;
    let now = jiff::Timestamp::now().as_second();
    if args.verbose && args.format.is_none() {
        let blocks: Vec<String> = usage.iter().map(|item| block(item, now)).collect();
        print::data(&blocks.join("\n"))?;
        return print::data(&totals(&usage));
    }
    let rows: Vec<Row> = usage.iter().map(|item| row(item, now)).collect();
    let columns = ["ID", "Reclaimable", "Size", "LastUsed"];
    print::data(&list::render(args.format.as_deref(), &columns, COLUMNS, &rows).map_err(Failure::new)?)?;
    match args.format.as_deref() {
        None | Some("table") => print::data(&totals(&usage)),
        Some(_) => Ok(()),
    }
}

/// `builder prune`.
pub(super) async fn prune(client: &Client, args: &BuilderPruneArgs) -> Result {
    let what = if args.all {
        "This removes all build cache."
    } else {
        "This removes all build cache that no image shares."
    };
    prune::confirm(args.force, what)?;
    let before = if args.verbose {
        entries(client, &[]).await?
    } else {
        Vec::new()
    };
    let mut path = prune::with_filters("/build/prune", conditions(&args.filter))?;
    let limits = [
        ("reserved-space", &args.reserved_space),
        // The name that API versions before 1.48 know.
        ("keep-storage", &args.reserved_space),
        ("max-used-space", &args.max_used_space),
        ("min-free-space", &args.min_free_space),
    ];
    for (name, text) in limits {
        if let Some(text) = text {
            let bytes = values::bytes(text).map_err(Failure::new)?;
            path = query(&path, &[(name, &bytes.to_string())]);
        }
    }
    if args.all {
        path = query(&path, &[("all", "1")]);
    }
    let report: PruneBuildReport = client.post(&path, Payload::Empty).await?;
    let deleted = report.caches_deleted.unwrap_or_default();
    if args.verbose {
        let now = jiff::Timestamp::now().as_second();
        let gone = before.iter().filter(|item| deleted.contains(&item.id));
        let blocks: Vec<String> = gone.map(|item| block(item, now)).collect();
        print::data(&format!("{}\n", blocks.join("\n")))?;
    } else if !deleted.is_empty() {
        print::data(&format!(
            "Deleted build cache objects:\n{}\n\n",
            deleted.join("\n")
        ))?;
    }
    prune::total(report.space_reclaimed)
}

async fn entries(client: &Client, filter: &[String]) -> Result<Vec<BuildCacheItem>> {
    let path = prune::with_filters("/system/df?type=build-cache", conditions(filter))?;
    let usage: DiskUsage = client.get(&path).await?;
    Ok(usage.build_cache)
}

/// Conditions may stand without a value here.
fn conditions(filters: &[String]) -> Vec<String> {
    let with_value = |filter: &String| match filter.contains('=') {
        true => filter.clone(),
        false => format!("{filter}=true"),
    };
    filters.iter().map(with_value).collect()
}

fn bytes(item: &BuildCacheItem) -> u64 {
    u64::try_from(item.size).unwrap_or(0)
}

fn reclaimable(item: &BuildCacheItem) -> bool {
    !item.in_use && !item.shared
}

fn ago(time: &str, now: i64) -> String {
    time.parse::<jiff::Timestamp>()
        .map_or_else(|_| String::new(), |time| human::ago(time.as_second(), now))
}

fn row(item: &BuildCacheItem, now: i64) -> Row {
    Row::from([
        ("ID", Value::from(item.id.as_str())),
        ("Parents", Value::from(item.parents.clone().unwrap_or_default())),
        ("Type", Value::from(item.kind.as_str())),
        ("Description", Value::from(item.description.as_str())),
        ("InUse", Value::from(item.in_use)),
        ("Shared", Value::from(item.shared)),
        ("Reclaimable", Value::from(reclaimable(item).to_string())),
        ("Size", Value::from(human::size(bytes(item)))),
        ("CreatedAt", Value::from(item.created_at.as_str())),
        (
            "LastUsedAt",
            Value::from(item.last_used_at.clone().unwrap_or_default()),
        ),
        (
            "LastUsed",
            Value::from(
                item.last_used_at
                    .as_deref()
                    .map(|time| ago(time, now))
                    .unwrap_or_default(),
            ),
        ),
        ("UsageCount", Value::from(item.usage_count)),
    ])
}

/// One entry as `buildx du --verbose` shows it.
fn block(item: &BuildCacheItem, now: i64) -> String {
    let mut text = format!("ID:\t\t{}\n", item.id);
    if let Some(parents) = &item.parents {
        text.push_str(&format!("Parents:\n - {}\n", parents.join("\n - ")));
    }
    text.push_str(&format!(
        "Created at:\t{}\nReclaimable:\t{}\nShared:\t\t{}\nSize:\t\t{}\n",
        item.created_at,
        reclaimable(item),
        item.shared,
        human::size(bytes(item)),
    ));
    if !item.description.is_empty() {
        text.push_str(&format!("Description:\t{}\n", item.description));
    }
    text.push_str(&format!("Usage count:\t{}\n", item.usage_count));
    if let Some(time) = &item.last_used_at {
        text.push_str(&format!("Last used:\t{}\n", ago(time, now)));
    }
    text.push_str(&format!("Type:\t\t{}\n", item.kind));
    text
}

fn totals(items: &[BuildCacheItem]) -> String {
    let sum = |wanted: &dyn Fn(&BuildCacheItem) -> bool| {
        human::size(items.iter().filter(|item| wanted(item)).map(bytes).sum())
    };
    let shared = sum(&|item| item.shared);
    let private = sum(&|item| !item.shared);
    let reclaimable = sum(&reclaimable);
    let total = sum(&|_| true);
    format!("Shared:\t\t{shared}\nPrivate:\t{private}\nReclaimable:\t{reclaimable}\nTotal:\t\t{total}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_as_buildx() {
        let item: BuildCacheItem = serde_json::from_str(
            r#"{"ID":"abc","Parents":["x","y"],"Type":"regular","Description":"RUN make","Shared":false,"InUse":false,
                "Size":1500,"CreatedAt":"2026-01-01T00:00:00Z","LastUsedAt":"2026-01-01T00:00:00Z","UsageCount":3}"#,
        )
        .unwrap();
        let now = "2026-01-01T02:00:00Z"
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_second();
        assert_eq!(
            block(&item, now),
            "ID:\t\tabc\nParents:\n - x\n - y\nCreated at:\t2026-01-01T00:00:00Z\nReclaimable:\ttrue\nShared:\t\tfalse\n\
             Size:\t\t1.5kB\nDescription:\tRUN make\nUsage count:\t3\nLast used:\t2 hours ago\nType:\t\tregular\n"
        );
        assert_eq!(
            totals(&[item]),
            "Shared:\t\t0B\nPrivate:\t1.5kB\nReclaimable:\t1.5kB\nTotal:\t\t1.5kB\n"
        );
        assert_eq!(
            conditions(&["inuse".into(), "type=x".into()]),
            ["inuse=true", "type=x"]
        );
    }
}
