//! Build steps.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cooper_runner::container::{Error, ExitStatus, StartErrorKind};
use cooper_runner::sandbox::{self, Output};
use cooper_runner::spec::ContainerSpec;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("builds::output_and_code", output_and_code),
    ("builds::errors", errors),
    (
        "builds::unchanged_file_system_gives_an_empty_upper",
        unchanged_file_system_gives_an_empty_upper,
    ),
    ("builds::used_stubs_and_changes_stay", used_stubs_and_changes_stay),
    ("builds::cancel", cancel),
    ("builds::nothing_is_left", nothing_is_left),
];

fn step_spec(world: &World, args: &[&str]) -> ContainerSpec {
    world.spec_with(args, |spec| {
        let dir = world.path(&format!("steps/{}", spec.id));
        spec.rootfs.upper = dir.join("upper");
        spec.rootfs.work = dir.join("work");
        fs::create_dir_all(&spec.rootfs.upper).unwrap();
        fs::create_dir_all(&spec.rootfs.work).unwrap();
    })
}

fn run(world: &World, spec: &ContainerSpec) -> (Result<ExitStatus, Error>, Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut sink = |output: Output, bytes: &[u8]| match output {
        Output::Stdout => out.extend_from_slice(bytes),
        Output::Stderr => err.extend_from_slice(bytes),
    };
    let result = sandbox::run(spec, &world.path("exec"), &mut sink, &AtomicBool::new(false));
    (result, out, err)
}

pub(crate) fn step(world: &World, args: &[&str]) -> PathBuf {
    let spec = step_spec(world, args);
    let (result, out, err) = run(world, &spec);
    assert_eq!(
        result.unwrap().code,
        0,
        "{} {}",
        String::from_utf8_lossy(&out),
        String::from_utf8_lossy(&err)
    );
    spec.rootfs.upper
}

fn output_and_code() {
    let world = World::new();
    let spec = step_spec(
        &world,
        &["sh", "-c", "head -c 1000000 /dev/zero; echo err >&2; cat; exit 7"],
    );
    let (result, out, err) = run(&world, &spec);
    assert_eq!(result.unwrap().code, 7);
    assert_eq!((out.len(), err.as_slice()), (1_000_000, &b"err\n"[..]));
}

fn errors() {
    let world = World::new();
    let (result, ..) = run(&world, &step_spec(&world, &["nope"]));
    assert!(
        matches!(
            result,
            Err(Error::Start {
                kind: StartErrorKind::NotFound,
                ..
            })
        ),
        "{result:?}"
    );
}

/// Everything below a directory with what a layer records of it.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, i64)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let metadata = entry.path().symlink_metadata().unwrap();
            if metadata.is_dir() {
                todo.push(entry.path());
            }
            found.insert(entry.path(), (metadata.mode(), metadata.mtime()));
        }
    }
    found
}

fn unchanged_file_system_gives_an_empty_upper() {
    let world = World::new();
    let upper = step(
        &world,
        &[
            "sh",
            "-c",
            "cat /etc/hosts /etc/resolv.conf > /dev/null; test -d /dev/shm",
        ],
    );
    assert_eq!(tree(&upper), BTreeMap::new());
    // An image without any of the mount points.
    let lower = world.path("bare");
    fs::create_dir_all(lower.join("bin")).unwrap();
    fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
    let mut spec = step_spec(&world, &["/bin/busybox", "true"]);
    spec.rootfs.lowers = vec![lower];
    let before = fs::metadata(&spec.rootfs.upper).unwrap().mtime_nsec();
    assert_eq!(run(&world, &spec).0.unwrap().code, 0);
    assert_eq!(tree(&spec.rootfs.upper), BTreeMap::new());
    assert_eq!(fs::metadata(&spec.rootfs.upper).unwrap().mtime_nsec(), before);
}

fn used_stubs_and_changes_stay() {
    let world = World::new();
    let upper = step(&world, &["sh", "-c", "echo x > /etc/file; chmod 700 /home"]);
    let names: Vec<PathBuf> = tree(&upper)
        .into_keys()
        .map(|path| path.strip_prefix(&upper).unwrap().into())
        .collect();
    assert_eq!(names, [PathBuf::from("etc"), "etc/file".into(), "home".into()]);
    // A replaced directory stays replaced: removing its copy would bring the lower one back.
    let upper = step(&world, &["sh", "-c", "rm -r /home && mkdir /home"]);
    assert!(tree(&upper).contains_key(&upper.join("home")));
}

fn cancel() {
    let world = World::new();
    let spec = step_spec(&world, &["sleep", "1000"]);
    let cancelled = AtomicBool::new(false);
    let latency = std::thread::scope(|scope| {
        let step = scope.spawn(|| {
            let result = sandbox::run(&spec, &world.path("exec"), &mut |_, _| {}, &cancelled);
            (result, Instant::now())
        });
        std::thread::sleep(Duration::from_millis(150));
        let begun = Instant::now();
        cancelled.store(true, Ordering::Release);
        let (result, ended) = step.join().unwrap();
        assert!(result.is_err());
        ended - begun
    });
    assert!(latency < Duration::from_secs(1), "{latency:?}");
}

fn nothing_is_left() {
    let world = World::new();
    step(&world, &["true"]);
    let left: Vec<_> = fs::read_dir(world.path("exec"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        left.iter().all(|name| name == "empty" || name == "execs"),
        "{left:?}"
    );
}
