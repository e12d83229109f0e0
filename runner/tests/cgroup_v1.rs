//! Control groups against the real kernel. Needs root and v1 controllers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail and speak as tests do"
)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cooper_runner::cgroup::{
    Cgroup, CgroupError, DeviceRule, Layout, Resources, detect, docker_default_devices,
};

/// A group of this test, or `None` with the reason printed if it cannot be made here.
fn group(name: &str, resources: &Resources, extra: &[DeviceRule]) -> Option<(Cgroup, String)> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return None;
    }
    if detect() != Layout::V1 {
        println!("skipped: no cgroup v1 controllers here");
        return None;
    }
    let path = format!("cooper-test/{name}-{}", std::process::id());
    let mut devices = docker_default_devices();
    devices.extend_from_slice(extra);
    let (group, warnings) = Cgroup::create(&path, resources, &devices).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    Some((group, path))
}

/// A file of the group, found as an administrator would.
fn file(controller: &str, path: &str, name: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(controller).join(path).join(name)
}

fn value(controller: &str, path: &str, name: &str) -> String {
    std::fs::read_to_string(file(controller, path, name))
        .unwrap()
        .trim()
        .to_owned()
}

/// A shell in the group, which runs `script` once it is in.
fn start(group: &Cgroup, script: &str) -> Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("read _; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    group.add_process(i32::try_from(child.id()).unwrap()).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_gone(path: &str) -> bool {
    ["memory", "pids", "devices", "cpu", "cpuset", "freezer"]
        .iter()
        .all(|c| !file(c, path, "").exists())
}

#[test]
fn memory_limit_kills_and_tells() {
    let resources = Resources {
        memory: Some(16 << 20),
        ..Resources::default()
    };
    let Some((group, path)) = group("memory", &resources, &[]) else {
        return;
    };
    assert_eq!(value("memory", &path, "memory.limit_in_bytes"), "16777216");
    assert!(!group.oom_killed());
    // tail keeps the whole of an endless line.
    let status = start(&group, "exec tail /dev/zero").wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert!(group.oom_killed());
    assert!(Cgroup::open(&path).unwrap().oom_killed());
    group.delete().unwrap();
    assert!(is_gone(&path));
    assert!(matches!(Cgroup::open(&path), Err(CgroupError::NotFound(_))));
}

#[test]
fn memory_can_be_raised_and_lowered() {
    let resources = Resources {
        memory: Some(64 << 20),
        ..Resources::default()
    };
    let Some((group, path)) = group("update", &resources, &[]) else {
        return;
    };
    for memory in [256 << 20, 32 << 20] {
        let resources = Resources {
            memory: Some(memory),
            ..Resources::default()
        };
        assert_eq!(group.update(&resources).unwrap(), Vec::<String>::new());
        assert_eq!(
            value("memory", &path, "memory.limit_in_bytes"),
            memory.to_string()
        );
        if file("memory", &path, "memory.memsw.limit_in_bytes").exists() {
            assert_eq!(
                value("memory", &path, "memory.memsw.limit_in_bytes"),
                (2 * memory).to_string()
            );
        }
    }
    group.delete().unwrap();
}

#[test]
fn pids_limit_is_enforced() {
    let resources = Resources {
        pids_limit: Some(4),
        ..Resources::default()
    };
    let Some((group, path)) = group("pids", &resources, &[]) else {
        return;
    };
    assert_eq!(value("pids", &path, "pids.max"), "4");
    // The shell itself is one: the fourth fork must fail.
    let output = lines_of(start(&group, "for i in 1 2 3 4 5 6; do sleep 60 & echo $i; done"));
    assert_eq!(output, 3);
    assert_eq!(group.pids().unwrap().len(), 3);
    group.kill_all().unwrap();
    group.delete().unwrap();
    assert!(is_gone(&path));
}

/// Waits for the shell, then counts the lines it wrote. Its children hold the pipe open, so the end of it is not awaited.
fn lines_of(mut shell: Child) -> usize {
    shell.wait().unwrap();
    let mut buffer = [0; 256];
    let got = shell.stdout.take().unwrap().read(&mut buffer).unwrap();
    buffer[..got].iter().filter(|b| **b == b'\n').count()
}

#[test]
fn limits_are_in_the_files() {
    let resources = Resources {
        memory: Some(64 << 20),
        memory_reservation: Some(32 << 20),
        cpu_shares: Some(512),
        cpu_quota: Some(25_000),
        cpu_period: Some(50_000),
        cpuset_cpus: Some("0".into()),
        pids_limit: Some(0),
        ..Resources::default()
    };
    let Some((group, path)) = group("files", &resources, &[]) else {
        return;
    };
    let check = |controller: &str, name: &str, expected: &str| {
        assert_eq!(value(controller, &path, name), expected, "{name}");
    };
    check("memory", "memory.soft_limit_in_bytes", "33554432");
    check("cpu", "cpu.shares", "512");
    check("cpu", "cpu.cfs_quota_us", "25000");
    check("cpu", "cpu.cfs_period_us", "50000");
    check("cpuset", "cpuset.cpus", "0");
    check("cpuset", "cpuset.mems", "0");
    check("pids", "pids.max", "max");
    assert!(group.clone_into_fd().is_none());
    // A value that the kernel refuses is an error and says where.
    let bad = Resources {
        cpuset_cpus: Some("999".into()),
        ..Resources::default()
    };
    assert!(
        group
            .update(&bad)
            .unwrap_err()
            .to_string()
            .contains("cpuset.cpus")
    );
    group.delete().unwrap();
}

#[test]
fn refused_values_leave_nothing_behind() {
    if group("probe", &Resources::default(), &[])
        .map(|(group, _)| group.delete().unwrap())
        .is_none()
    {
        return;
    }
    let path = format!("cooper-test/refused-{}", std::process::id());
    let bad = Resources {
        cpuset_cpus: Some("999".into()),
        ..Resources::default()
    };
    assert!(Cgroup::create(&path, &bad, &[]).is_err());
    assert!(is_gone(&path));
}

#[test]
fn device_rules_are_enforced() {
    let urandom = DeviceRule {
        allow: false,
        kind: 'c',
        major: Some(1),
        minor: Some(9),
        access: "rwm".into(),
    };
    let Some((group, path)) = group("devices", &Resources::default(), &[urandom]) else {
        return;
    };
    let list = value("devices", &path, "devices.list");
    assert!(
        list.contains("c 1:3 rwm") && list.contains("c 136:* rwm") && list.contains("b *:* m"),
        "{list}"
    );
    let script = "exec 3<>/dev/null || exit 1; (exec 3</dev/urandom) && exit 2; exit 0";
    assert_eq!(start(&group, script).wait().unwrap().code(), Some(0));
    group.delete().unwrap();
}

#[test]
fn frozen_processes_stop_and_go_on() {
    let Some((group, _)) = group("freeze", &Resources::default(), &[]) else {
        return;
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("while :; do echo x >>{}; done", file.path().display());
    let mut child = start(&group, &script);
    let size = || std::fs::metadata(file.path()).unwrap().len();
    eventually("the first write", || size() > 0);
    group.freeze().unwrap();
    let frozen = size();
    assert_eq!(group.pids().unwrap(), [i32::try_from(child.id()).unwrap()]);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(size(), frozen);
    group.thaw().unwrap();
    eventually("a write after thawing", || size() > frozen);
    group.kill_all().unwrap();
    child.wait().unwrap();
    group.delete().unwrap();
}

#[test]
fn kill_all_stops_a_forking_tree_even_when_frozen() {
    let Some((group, path)) = group("kill", &Resources::default(), &[]) else {
        return;
    };
    let mut child = start(
        &group,
        "while :; do sh -c 'sleep 60 & sleep 60' & sleep 0.01; done",
    );
    eventually("a few forks", || group.pids().unwrap().len() > 6);
    let busy = Cgroup::create(&path, &Resources::default(), &[]);
    assert!(matches!(busy, Err(CgroupError::InUse(_))));
    group.freeze().unwrap();
    group.kill_all().unwrap();
    child.wait().unwrap();
    eventually("an empty group", || group.pids().unwrap().is_empty());
    group.delete().unwrap();
    assert!(is_gone(&path));
}

#[test]
fn groups_with_processes_are_not_deleted() {
    let Some((group, path)) = group("busy", &Resources::default(), &[]) else {
        return;
    };
    let mut child = start(&group, "exec sleep 60");
    let begun = Instant::now();
    assert!(matches!(group.delete(), Err(CgroupError::Delete(_))));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "one wait for all hierarchies, not one each"
    );
    let group = Cgroup::open(&path).unwrap();
    group.kill_all().unwrap();
    child.wait().unwrap();
    group.delete().unwrap();
    assert!(is_gone(&path));
}

#[test]
fn groups_below_are_deleted_first() {
    let Some((group, path)) = group("nested", &Resources::default(), &[]) else {
        return;
    };
    std::fs::create_dir_all(file("pids", &path, "a/b")).unwrap();
    std::fs::create_dir_all(file("memory", &path, "c")).unwrap();
    group.delete().unwrap();
    assert!(is_gone(&path));
}
