//! `stats`.

use std::time::Duration;

use cooper_daemon::api::{BlkioEntry, ContainerSummary, Stats};
use futures_util::future::join_all;
use serde_json::Value;

use super::print;
use crate::args::data::StatsArgs;
use crate::client::{Client, escape, query};
use crate::failure::{FAILURE, Failure, Result};
use crate::output::human;
use crate::output::list::{self, Column, Row};
use crate::output::messages::stdout_is_terminal;

/// From one table to the next.
const TICK: Duration = Duration::from_millis(500);
/// Up to the upper left corner, erasing below.
const HOME: &str = "\x1b[H\x1b[J";

/// Fields of docker's stats formatter.
const COLUMNS: &[Column] = &[
    Column {
        field: "ID",
        heading: "CONTAINER ID",
    },
    Column {
        field: "Container",
        heading: "CONTAINER",
    },
    Column {
        field: "Name",
        heading: "NAME",
    },
    Column {
        field: "CPUPerc",
        heading: "CPU %",
    },
    Column {
        field: "MemUsage",
        heading: "MEM USAGE / LIMIT",
    },
    Column {
        field: "MemPerc",
        heading: "MEM %",
    },
    Column {
        field: "NetIO",
        heading: "NET I/O",
    },
    Column {
        field: "BlockIO",
        heading: "BLOCK I/O",
    },
    Column {
        field: "PIDs",
        heading: "PIDS",
    },
];
const SHOWN: [&str; 8] = [
    "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs",
];

/// `stats`.
pub(super) async fn run(client: &Client, args: &StatsArgs) -> Result {
    let live = !args.no_stream && stdout_is_terminal();
    loop {
        let names = if args.containers.is_empty() {
            let path = query("/containers/json", &[("all", if args.all { "1" } else { "0" })]);
            let found: Vec<ContainerSummary> = client.get(&path).await?;
            found.into_iter().map(|container| container.id).collect()
        } else {
            args.containers.clone()
        };
        let taken = join_all(names.iter().map(|name| sample(client, name))).await;
        let mut rows = Vec::new();
        let mut failed = false;
        for (name, taken) in names.iter().zip(taken) {
            match taken {
                Ok(stats) => rows.push(row(name, &stats, args.no_trunc)),
                // One that was listed and has gone since is no failure.
                Err(Failure::Said { .. }) if args.containers.is_empty() => {}
                Err(failure @ Failure::Said { .. }) => {
                    print::talk(&failure.to_string());
                    failed = true;
                }
                Err(other) => return Err(other),
            }
        }
        if failed {
            return Err(Failure::Exit(FAILURE));
        }
        let text = list::render(args.format.as_deref(), &SHOWN, COLUMNS, &rows).map_err(Failure::new)?;
        if live {
            print::data(HOME)?;
        }
        print::data(&text)?;
        if args.no_stream {
            return Ok(());
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Two looks a second apart.
async fn sample(client: &Client, name: &str) -> Result<Stats> {
    let path = format!("/containers/{}/stats", escape(name));
    Ok(client.get(&query(&path, &[("stream", "0")])).await?)
}

fn row(name: &str, stats: &Stats, no_trunc: bool) -> Row {
    let id = if no_trunc {
        stats.id.as_str()
    } else {
        human::short_id(&stats.id)
    };
    let (used, limit) = (memory(stats), stats.memory_stats.limit);
    let percent = |share: f64| format!("{share:.2}%");
    let (read, written) = block_io(stats);
    let text = |text: String| Value::from(text);
    Row::from([
        ("ID", text(id.to_owned())),
        ("Container", text(name.to_owned())),
        ("Name", text(stats.name.trim_start_matches('/').to_owned())),
        ("CPUPerc", text(percent(cpu_percent(stats)))),
        (
            "MemUsage",
            text(format!(
                "{} / {}",
                human::binary_size(used),
                human::binary_size(limit)
            )),
        ),
        ("MemPerc", text(percent(100.0 * ratio(used, limit)))),
        ("NetIO", text("0B / 0B".to_owned())),
        (
            "BlockIO",
            text(format!(
                "{} / {}",
                human::short_size(read),
                human::short_size(written)
            )),
        ),
        ("PIDs", text(stats.pids_stats.current.unwrap_or(0).to_string())),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a percentage with two digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// The container's share of the time that all CPUs had, in percent of one.
fn cpu_percent(stats: &Stats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = now
        .cpu_usage
        .total_usage
        .saturating_sub(before.cpu_usage.total_usage);
    let all = now.system_cpu_usage.saturating_sub(before.system_cpu_usage);
    let cpus = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as u64,
        cpus => cpus,
    };
    ratio(used.saturating_mul(cpus), all) * 100.0
}

/// Without page cache that the kernel could give up at once, as docker's command line counts it.
fn memory(stats: &Stats) -> u64 {
    let usage = stats.memory_stats.usage;
    ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|key| stats.memory_stats.stats.get(*key))
        .filter(|cache| **cache < usage)
        .map_or(usage, |cache| usage - cache)
}

fn block_io(stats: &Stats) -> (u64, u64) {
    let sum = |first: char| {
        let entries = stats.blkio_stats.io_service_bytes_recursive.iter().flatten();
        let of_kind = |entry: &&BlkioEntry| {
            let op = entry.op.chars().next();
            op.is_some_and(|op| op.eq_ignore_ascii_case(&first))
        };
        entries.filter(of_kind).map(|entry| entry.value).sum()
    };
    (sum('r'), sum('w'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_as_dockers() {
        let stats: Stats = serde_json::from_value(json!({
            "name": "/c", "id": "f532ab56a92a3a35f0ebd28e6a4c9e0c", "pids_stats": {"current": 1},
            "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000_u64}, "system_cpu_usage": 22_000_000_000_u64,
                "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 1_000_000_000_u64}, "system_cpu_usage": 20_000_000_000_u64},
            "memory_stats": {"usage": 872_448, "stats": {"total_inactive_file": 237_568}, "limit": 25_276_502_016_u64},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": "Read", "value": 4096},
                {"major": 8, "minor": 0, "op": "write", "value": 1}, {"major": 8, "minor": 0, "op": "Total", "value": 9}]},
        }))
        .unwrap();
        let row = row("c", &stats, false);
        let fields: Vec<String> = SHOWN
            .iter()
            .map(|field| row[field].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            fields,
            [
                "f532ab56a92a",
                "c",
                "50.00%",
                "620KiB / 23.54GiB",
                "0.00%",
                "0B / 0B",
                "4.1kB / 1B",
                "1"
            ]
        );
        let empty = super::row("c", &Stats::default(), false);
        assert_eq!(empty["MemPerc"], "0.00%");
    }
}
