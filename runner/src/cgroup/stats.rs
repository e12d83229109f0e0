//! What a group has used, in the units of Docker's API.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::{keyed_number, read};

/// Length of the kernel's user-space tick (`USER_HZ` is 100 on every Linux).
const TICK: u64 = 10_000_000;

/// Use of one group. What the kernel does not tell is zero, empty or `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Tasks now.
    pub pids: u64,
    /// Most tasks allowed.
    pub pids_limit: Option<u64>,
    /// Bytes read from and written to block devices.
    pub io_bytes: Vec<BlockIo>,
    /// Operations on block devices.
    pub io_operations: Vec<BlockIo>,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In all.
    pub total: u64,
    /// For each processor; v1 only.
    pub per_cpu: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user mode.
    pub user: u64,
    /// Enforcement periods that have passed.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// For how long processes were held back.
    pub throttled: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Charged now, page cache included.
    pub usage: u64,
    /// The most that ever was; v1 only.
    pub max_usage: Option<u64>,
    /// How often the limit was met; v1 only.
    pub failures: Option<u64>,
    /// The limit; `None` if there is none.
    pub limit: Option<u64>,
    /// `memory.stat` as it is.
    pub stats: BTreeMap<String, u64>,
}

/// A number for one device and operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockIo {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// `Read`, `Write`, ….
    pub operation: String,
    /// Bytes or operations.
    pub value: u64,
}

/// From v1 controllers; `dir` gives the group's directory in one.
pub(super) fn v1<'a>(dir: impl Fn(&str) -> Option<&'a Path>) -> Stats {
    let text = |controller: &str, file: &str| {
        dir(controller)
            .and_then(|dir| read(&dir.join(file)).ok())
            .unwrap_or_default()
    };
    let number = |controller: &str, file: &str| text(controller, file).trim().parse::<u64>().ok();
    let keyed = |controller: &str, file: &str, key: &str| {
        dir(controller)
            .and_then(|dir| keyed_number(&dir.join(file), key))
            .unwrap_or(0)
    };
    let blkio = |files: [&str; 2]| {
        files
            .into_iter()
            .map(|file| parse_v1_io(&text("blkio", file)))
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    };
    Stats {
        cpu: Cpu {
            total: number("cpuacct", "cpuacct.usage").unwrap_or(0),
            per_cpu: text("cpuacct", "cpuacct.usage_percpu")
                .split_whitespace()
                .filter_map(|time| time.parse().ok())
                .collect(),
            kernel: keyed("cpuacct", "cpuacct.stat", "system").saturating_mul(TICK),
            user: keyed("cpuacct", "cpuacct.stat", "user").saturating_mul(TICK),
            periods: keyed("cpu", "cpu.stat", "nr_periods"),
            throttled_periods: keyed("cpu", "cpu.stat", "nr_throttled"),
            throttled: keyed("cpu", "cpu.stat", "throttled_time"),
        },
        memory: Memory {
            usage: number("memory", "memory.usage_in_bytes").unwrap_or(0),
            max_usage: number("memory", "memory.max_usage_in_bytes"),
            failures: number("memory", "memory.failcnt"),
            limit: number("memory", "memory.limit_in_bytes"),
            stats: parse_keyed(&text("memory", "memory.stat")),
        },
        pids: number("pids", "pids.current").unwrap_or(0),
        pids_limit: number("pids", "pids.max"),
        io_bytes: blkio([
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ]),
        io_operations: blkio([
            "blkio.bfq.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
        ]),
    }
}

/// From the v2 directory.
pub(super) fn v2(dir: &Path) -> Stats {
    let text = |file: &str| read(&dir.join(file)).unwrap_or_default();
    let number = |file: &str| text(file).trim().parse::<u64>().ok();
    let cpu = parse_keyed(&text("cpu.stat"));
    let cpu = |key: &str| cpu.get(key).copied().unwrap_or(0);
    let micros = |key: &str| cpu(key).saturating_mul(1000);
    let (io_bytes, io_operations) = parse_v2_io(&text("io.stat"));
    Stats {
        cpu: Cpu {
            total: micros("usage_usec"),
            per_cpu: Vec::new(),
            kernel: micros("system_usec"),
            user: micros("user_usec"),
            periods: cpu("nr_periods"),
            throttled_periods: cpu("nr_throttled"),
            throttled: micros("throttled_usec"),
        },
        memory: Memory {
            usage: number("memory.current").unwrap_or(0),
            max_usage: None,
            failures: None,
            limit: number("memory.max"),
            stats: parse_keyed(&text("memory.stat")),
        },
        pids: number("pids.current").unwrap_or(0),
        pids_limit: number("pids.max"),
        io_bytes,
        io_operations,
    }
}

/// Lines of `key number`.
fn parse_keyed(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn parse_device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 Read 4096`; the line of the total has no device.
fn parse_v1_io(text: &str) -> Vec<BlockIo> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = parse_device(words.next()?)?;
        Some(BlockIo {
            major,
            minor,
            operation: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`, with containerd's names of the operations.
fn parse_v2_io(text: &str) -> (Vec<BlockIo>, Vec<BlockIo>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(parse_device) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut bytes, "read"),
                "wbytes" => (&mut bytes, "write"),
                "rios" => (&mut operations, "read"),
                "wios" => (&mut operations, "write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                list.push(BlockIo {
                    major,
                    minor,
                    operation: operation.to_owned(),
                    value,
                });
            }
        }
    }
    (bytes, operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn v1_files() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("cpuacct.usage", "125959894\n"),
                ("cpuacct.usage_percpu", "93543948 32415946 \n"),
                ("cpuacct.stat", "user 10\nsystem 2\n"),
                ("cpu.stat", "nr_periods 7\nnr_throttled 3\nthrottled_time 99\n"),
                ("memory.usage_in_bytes", "872448\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.stat", "cache 507904\nrss 49152\n"),
                ("pids.current", "1\n"),
                ("pids.max", "max\n"),
                (
                    "blkio.throttle.io_service_bytes_recursive",
                    "8:0 Read 4096\n8:0 Write 1\nTotal 4097\n",
                ),
            ],
        );
        let stats = v1(|controller| (controller != "hugetlb").then_some(dir.path()));
        assert_eq!((stats.cpu.total, stats.cpu.kernel), (125_959_894, 20_000_000));
        assert_eq!(stats.cpu.per_cpu, [93_543_948, 32_415_946]);
        assert_eq!((stats.cpu.periods, stats.cpu.throttled), (7, 99));
        assert_eq!((stats.memory.usage, stats.memory.stats["rss"]), (872_448, 49_152));
        assert_eq!((stats.pids, stats.pids_limit), (1, None));
        let io: Vec<_> = stats
            .io_bytes
            .iter()
            .map(|io| (io.operation.as_str(), io.value))
            .collect();
        assert_eq!(io, [("Read", 4096), ("Write", 1)]);
        assert_eq!(v1(|_| None), Stats::default());
    }

    #[test]
    fn v2_files() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                (
                    "cpu.stat",
                    "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 1\nthrottled_usec 4\n",
                ),
                ("memory.current", "4096\n"),
                ("memory.max", "max\n"),
                ("memory.stat", "anon 1\ninactive_file 1024\n"),
                ("pids.current", "2\n"),
                ("pids.max", "10\n"),
                (
                    "io.stat",
                    "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\nbad\n",
                ),
            ],
        );
        let stats = v2(dir.path());
        assert_eq!(
            (stats.cpu.total, stats.cpu.user, stats.cpu.throttled),
            (5_000_000, 3_000_000, 4000)
        );
        assert_eq!((stats.memory.usage, stats.memory.limit), (4096, None));
        assert_eq!((stats.pids, stats.pids_limit), (2, Some(10)));
        assert_eq!(stats.io_bytes.len(), 2);
        assert_eq!(
            (stats.io_operations[1].minor, stats.io_operations[1].value),
            (16, 4)
        );
    }
}
