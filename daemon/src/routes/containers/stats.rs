//! `GET /containers/{id}/stats`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use cooper_runner::cgroup::BlockIo;
use cooper_runner::cgroup::Stats as Use;
use cooper_runner::container;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::api::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, PidsStats, Stats, ThrottlingData, ZERO_TIME,
};
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::body::receiver_stream;
use crate::http::query::Query;

/// From one sample to the next.
const TICK: Duration = Duration::from_secs(1);
/// Length of the kernel's user-space tick.
const USER_TICK: u64 = 10_000_000;

/// What one look gave: the present, to be the past of the next one.
struct Sample {
    read: String,
    cpu: CpuStats,
    stats: Stats,
    running: bool,
}

pub(super) async fn stats(State(engine): State<Engine>, Path(name): Path<String>, query: Query) -> ApiResult {
    // Absent means true, as in Docker.
    let stream = query.non_empty("stream").is_none() || query.flag("stream");
    let one_shot = query.flag("one-shot");
    if stream && one_shot {
        return Err(ApiError::bad(
            "cannot have stream=true and one-shot=true: invalid parameter",
        ));
    }
    let id = engine
        .blocking(move |engine| engine.resolve_container(&name))
        .await?;
    let first = take(&engine, &id).await?;
    if stream {
        return Ok(endless(engine, id, first));
    }
    if one_shot || !first.running {
        return Ok(json(StatusCode::OK, &first.stats));
    }
    tokio::time::sleep(TICK).await;
    let second = take(&engine, &id).await?;
    Ok(json(StatusCode::OK, &after(&first, second.stats)))
}

/// One line a tick until the container or the client is gone.
fn endless(engine: Engine, id: String, first: Sample) -> Response {
    let (send, receive) = mpsc::channel::<Result<Bytes, std::convert::Infallible>>(1);
    tokio::spawn(async move {
        let mut due = Instant::now();
        let mut before = first;
        let mut line = before.stats.clone();
        loop {
            let Ok(mut bytes) = serde_json::to_vec(&line) else {
                return;
            };
            bytes.push(b'\n');
            if send.send(Ok(bytes.into())).await.is_err() {
                return;
            }
            due = (due + TICK).max(Instant::now());
            tokio::select! {
                () = sleep_until(due) => {}
                () = send.closed() => return,
            }
            let Ok(now) = take(&engine, &id).await else { return };
            line = after(&before, now.stats.clone());
            before = now;
        }
    });
    let body = Body::from_stream(receiver_stream(receive));
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Puts the sample before into a later one.
fn after(before: &Sample, mut now: Stats) -> Stats {
    if now.read != ZERO_TIME && before.running {
        now.precpu_stats = before.cpu.clone();
        now.preread.clone_from(&before.read);
    }
    now
}

async fn take(engine: &Engine, id: &str) -> ApiResult<Sample> {
    let id = id.to_owned();
    engine
        .blocking(move |engine| {
            let containers = engine.containers()?;
            let mut stats = Stats {
                name: format!("/{}", containers.name(&id)?),
                read: ZERO_TIME.to_owned(),
                preread: ZERO_TIME.to_owned(),
                ..Stats::default()
            };
            let running = match containers.state(&id) {
                Ok(state) => state.is_running(),
                Err(container::Error::NotFound(_)) => return Err(ApiError::no_such_container(&id)),
                Err(error) => return Err(error.into()),
            };
            if running {
                let used = containers.stats(&id)?.unwrap_or_default();
                stats.read = format!("{:.9}", Timestamp::now());
                fill(&mut stats, &used, &Machine::read());
            }
            stats.id = id;
            Ok(Sample {
                read: stats.read.clone(),
                cpu: stats.cpu_stats.clone(),
                stats,
                running,
            })
        })
        .await
}

/// What the numbers are compared with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Machine {
    /// Nanoseconds of all processors since boot.
    cpu_time: u64,
    cpus: u64,
    memory: u64,
}

impl Machine {
    fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&text("/proc/stat"), &text("/proc/meminfo"))
    }

    fn parse(stat: &str, meminfo: &str) -> Self {
        // user, nice, system, idle, iowait, irq, softirq; time of guests is in the first two.
        let ticks = stat.lines().find_map(|line| line.strip_prefix("cpu "));
        let ticks: u64 = ticks
            .into_iter()
            .flat_map(|line| line.split_whitespace().take(7))
            .filter_map(|word| word.parse::<u64>().ok())
            .sum();
        let is_cpu =
            |line: &&str| line.starts_with("cpu") && line[3..].starts_with(|c: char| c.is_ascii_digit());
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: Option<u64> =
            total.and_then(|rest| rest.split_whitespace().next().and_then(|word| word.parse().ok()));
        Self {
            cpu_time: ticks.saturating_mul(USER_TICK),
            cpus: stat.lines().filter(is_cpu).count() as u64,
            memory: kib.unwrap_or(0).saturating_mul(1024),
        }
    }
}

fn fill(stats: &mut Stats, used: &Use, machine: &Machine) {
    let entries = |list: &[BlockIo]| {
        let entry = |io: &BlockIo| BlkioEntry {
            major: io.major,
            minor: io.minor,
            op: io.operation.clone(),
            value: io.value,
        };
        Some(list.iter().map(entry).collect())
    };
    let none = || Some(Vec::new());
    stats.pids_stats = PidsStats {
        current: Some(used.pids).filter(|pids| *pids > 0),
        limit: used.pids_limit,
    };
    stats.blkio_stats = BlkioStats {
        io_service_bytes_recursive: entries(&used.io_bytes),
        io_serviced_recursive: entries(&used.io_operations),
        io_queue_recursive: none(),
        io_service_time_recursive: none(),
        io_wait_time_recursive: none(),
        io_merged_recursive: none(),
        io_time_recursive: none(),
        sectors_recursive: none(),
    };
    stats.cpu_stats = CpuStats {
        cpu_usage: CpuUsage {
            total_usage: used.cpu.total,
            percpu_usage: used.cpu.per_cpu.clone(),
            usage_in_kernelmode: used.cpu.kernel,
            usage_in_usermode: used.cpu.user,
        },
        system_cpu_usage: machine.cpu_time,
        online_cpus: machine.cpus,
        throttling_data: ThrottlingData {
            periods: used.cpu.periods,
            throttled_periods: used.cpu.throttled_periods,
            throttled_time: used.cpu.throttled,
        },
    };
    stats.memory_stats = MemoryStats {
        usage: used.memory.usage,
        max_usage: used.memory.max_usage.unwrap_or(0),
        stats: used.memory.stats.clone(),
        failcnt: used.memory.failures.unwrap_or(0),
        // Without a limit of its own, or with one that means nothing, the machine's memory is the limit.
        limit: used.memory.limit.unwrap_or(u64::MAX).min(machine.memory),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine() {
        let stat = "cpu  10 1 20 300 4 5 6 7 8 9\ncpu0 1 2\ncpu1 3 4\nintr 5\n";
        assert_eq!(
            Machine::parse(stat, "MemTotal:       1024 kB\nMemFree: 1 kB\n"),
            Machine {
                cpu_time: 3_460_000_000,
                cpus: 2,
                memory: 1 << 20
            }
        );
        assert_eq!(Machine::parse("", ""), Machine::default());
    }

    #[test]
    fn the_limit_is_never_more_than_the_machine_has() {
        let machine = Machine {
            memory: 1000,
            ..Machine::default()
        };
        let check = |limit: Option<u64>, expected: u64| {
            let mut used = Use::default();
            used.memory.limit = limit;
            let mut stats = Stats::default();
            fill(&mut stats, &used, &machine);
            assert_eq!(stats.memory_stats.limit, expected, "{limit:?}");
        };
        check(None, 1000);
        check(Some(9_223_372_036_854_771_712), 1000);
        check(Some(10), 10);
    }
}
