use super::*;

/// A directory that looks like a v2 tree to those who only read and write files. Real groups get their files from the kernel.
struct Fake {
    root: tempfile::TempDir,
}

const FILES: [&str; 14] = [
    "cgroup.subtree_control",
    "cgroup.procs",
    "cgroup.freeze",
    "memory.max",
    "memory.low",
    "memory.swap.max",
    "cpu.weight",
    "cpu.max",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "memory.events",
    "cgroup.events",
    "cgroup.kill",
];

impl Fake {
    fn new(controllers: &str) -> Self {
        let fake = Self {
            root: tempfile::tempdir().unwrap(),
        };
        for dir in ["", "cooper", "cooper/x"] {
            let dir = fake.root.path().join(dir);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("cgroup.controllers"), controllers).unwrap();
            for file in FILES {
                std::fs::write(dir.join(file), "").unwrap();
            }
        }
        fake
    }

    fn put(&self, file: &str, text: &str) {
        std::fs::write(self.root.path().join("cooper/x").join(file), text).unwrap();
    }

    fn get(&self, file: &str) -> String {
        std::fs::read_to_string(self.root.path().join("cooper/x").join(file)).unwrap()
    }

    fn create(&self, resources: &Resources) -> Result<(Group, Vec<String>), CgroupError> {
        Group::create(self.root.path(), "cooper/x", resources, &[])
    }
}

const ALL: &str = "cpuset cpu io memory hugetlb pids rdma misc\n";

#[test]
fn limits_become_files() {
    let check = |resources: Resources, expected: &[(&str, &str)]| {
        let fake = Fake::new(ALL);
        let (_, warnings) = fake.create(&resources).unwrap();
        // A plain directory takes no device filter.
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for file in FILES
            .iter()
            .filter(|file| file.contains(['m', 'x', 'w']) && !file.starts_with("cgroup."))
        {
            let wanted = expected
                .iter()
                .find(|(name, _)| name == file)
                .map_or("", |(_, value)| value);
            assert_eq!(fake.get(file), wanted, "{file} of {resources:?}");
        }
    };
    let none = Resources::default;
    check(none(), &[]);
    check(
        Resources {
            memory: Some(100 << 20),
            ..none()
        },
        &[("memory.max", "104857600"), ("memory.swap.max", "104857600")],
    );
    check(
        Resources {
            memory: Some(100),
            memory_swap: Some(100),
            memory_reservation: Some(50),
            ..none()
        },
        &[
            ("memory.max", "100"),
            ("memory.swap.max", "0"),
            ("memory.low", "50"),
        ],
    );
    check(
        Resources {
            memory: Some(100),
            memory_swap: Some(-1),
            ..none()
        },
        &[("memory.max", "100"), ("memory.swap.max", "max")],
    );
    check(
        Resources {
            memory: Some(-1),
            ..none()
        },
        &[("memory.max", "max"), ("memory.swap.max", "max")],
    );
    check(
        Resources {
            cpu_quota: Some(50_000),
            cpu_shares: Some(512),
            ..none()
        },
        &[("cpu.max", "50000 100000"), ("cpu.weight", "59")],
    );
    check(
        Resources {
            cpu_quota: Some(-1),
            cpu_period: Some(20_000),
            ..none()
        },
        &[("cpu.max", "max 20000")],
    );
    check(
        Resources {
            cpu_period: Some(20_000),
            ..none()
        },
        &[("cpu.max", "max 20000")],
    );
    check(
        Resources {
            cpu_quota: Some(0),
            cpu_shares: Some(0),
            memory: Some(0),
            ..none()
        },
        &[],
    );
    check(
        Resources {
            pids_limit: Some(7),
            ..none()
        },
        &[("pids.max", "7")],
    );
    check(
        Resources {
            pids_limit: Some(0),
            ..none()
        },
        &[("pids.max", "max")],
    );
    check(
        Resources {
            pids_limit: Some(-1),
            ..none()
        },
        &[("pids.max", "max")],
    );
    check(
        Resources {
            cpuset_cpus: Some("0-1".into()),
            cpuset_mems: Some("0".into()),
            ..none()
        },
        &[("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
    );
    check(
        Resources {
            cpuset_cpus: Some(String::new()),
            ..none()
        },
        &[],
    );
}

#[test]
fn controllers_are_enabled_above_the_group_only() {
    let fake = Fake::new(ALL);
    fake.create(&Resources::default()).unwrap();
    let control = |dir: &str| {
        std::fs::read_to_string(fake.root.path().join(dir).join("cgroup.subtree_control")).unwrap()
    };
    // A plain file keeps what was written last, shorter writes over longer ones included.
    assert!(control("").starts_with("+pids"), "{}", control(""));
    assert!(control("cooper").starts_with("+pids"), "{}", control("cooper"));
    assert_eq!(control("cooper/x"), "");
}

#[test]
fn missing_controllers_are_warnings() {
    let fake = Fake::new("cpu\n");
    let resources = Resources {
        memory: Some(100),
        pids_limit: Some(1),
        cpu_shares: Some(1024),
        ..Resources::default()
    };
    let (_, warnings) = fake.create(&resources).unwrap();
    assert_eq!(
        warnings[0],
        "memory limit ignored: the memory cgroup controller is not available"
    );
    assert_eq!(
        warnings[1],
        "PIDs limit ignored: the pids cgroup controller is not available"
    );
    assert_eq!(fake.get("cpu.weight"), "100");
    assert_eq!(fake.get("memory.max"), "");
}

#[test]
fn kernels_without_swap_accounting_only_warn_those_who_ask() {
    let check = |memory_swap: Option<i64>, expected: &[&str]| {
        let fake = Fake::new(ALL);
        let swap = fake.root.path().join("cooper/x/memory.swap.max");
        std::fs::remove_file(&swap).unwrap();
        let resources = Resources {
            memory: Some(100),
            memory_swap,
            ..Resources::default()
        };
        let (_, mut warnings) = fake.create(&resources).unwrap();
        warnings.retain(|warning| warning.contains("swap"));
        assert_eq!(warnings, expected, "{memory_swap:?}");
        assert_eq!(fake.get("memory.max"), "100");
        assert!(!swap.exists());
    };
    check(None, &[]);
    check(
        Some(200),
        &["swap limit ignored: the kernel does not account swap"],
    );
}

#[test]
fn groups_in_use_are_left_alone() {
    let fake = Fake::new(ALL);
    fake.put("cgroup.procs", "4242\n");
    let error = fake
        .create(&Resources {
            pids_limit: Some(1),
            ..Resources::default()
        })
        .unwrap_err();
    assert!(matches!(error, CgroupError::InUse(_)), "{error}");
    assert_eq!(fake.get("pids.max"), "");
}

#[test]
fn shares_map_to_weights() {
    for (shares, expected) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
    let mut last = 0;
    for shares in 2..=262_144 {
        assert!(weight(shares) >= last, "{shares}");
        last = weight(shares);
    }
}

#[test]
fn events_are_read() {
    let fake = Fake::new(ALL);
    let (group, _) = fake.create(&Resources::default()).unwrap();
    fake.put("memory.events", "low 0\noom 3\noom_kill 0\noom_group_kill 9\n");
    assert!(!group.oom_killed());
    fake.put("memory.events", "low 0\noom 3\noom_kill 2\n");
    assert!(group.oom_killed());

    fake.put("cgroup.events", "populated 1\nfrozen 1\n");
    group.freeze().unwrap();
    assert_eq!(fake.get("cgroup.freeze"), "1");
    group.thaw().unwrap();
    assert_eq!(fake.get("cgroup.freeze"), "0");
    group.kill_all().unwrap();
    assert_eq!(fake.get("cgroup.kill"), "1");

    fake.put("cgroup.procs", "7\n0\n3\n7\n");
    assert_eq!(group.pids().unwrap(), [3, 7]);
    group.add_process(12).unwrap();
    assert!(fake.get("cgroup.procs").starts_with("12"));
}

/// A group in a real v2 tree, if one is mounted. In the hybrid layout it has no controllers, but devices, freezing and killing
/// work all the same.
fn real(name: &str, rules: &[DeviceRule]) -> Option<Group> {
    let base = super::super::layout::Mounts::read()
        .ok()
        .and_then(|mounts| mounts.v2_base());
    let (Some(base), true) = (base, rustix::process::geteuid().is_root()) else {
        println!("skipped: needs root and a mounted v2 tree");
        return None;
    };
    let path = format!("cooper-test/{name}-{}", std::process::id());
    let (group, warnings) = Group::create(&base, &path, &Resources::default(), rules).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    Some(group)
}

fn start(group: &Group, script: &str) -> std::process::Child {
    use std::io::Write;
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("read _; {script}")])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    group.add_process(i32::try_from(child.id()).unwrap()).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

#[test]
fn the_kernel_enforces_device_rules() {
    let mut rules = super::super::docker_default_devices();
    rules.push(DeviceRule {
        allow: false,
        kind: 'c',
        major: Some(1),
        minor: Some(9),
        access: "r".into(),
    });
    let Some(group) = real("devices", &rules) else {
        return;
    };
    let script = "exec 3<>/dev/null || exit 1; (exec 3</dev/urandom) && exit 2; exec 3>/dev/urandom || exit 3; \
                  (exec 3</dev/kmsg) && exit 4; exit 0";
    assert_eq!(start(&group, script).wait().unwrap().code(), Some(0));
    group.delete().unwrap();
}

#[test]
fn real_groups_freeze_and_die() {
    let Some(group) = real("freeze", &super::super::docker_default_devices()) else {
        return;
    };
    let mut child = start(&group, "sleep 60 & sleep 60");
    assert!(files::wait_until(KILL, || Ok(group.pids()?.len() >= 2)).unwrap());
    group.freeze().unwrap();
    assert_eq!(
        files::keyed_number(&group.dir.join("cgroup.events"), "frozen"),
        Some(1)
    );
    group.thaw().unwrap();
    group.kill_all().unwrap();
    child.wait().unwrap();
    assert!(!group.oom_killed());
    let dir = group.dir.clone();
    std::fs::create_dir(dir.join("below")).unwrap();
    group.delete().unwrap();
    assert!(!dir.exists());
}
