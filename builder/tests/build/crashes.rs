//! Killed in the middle of an export, an import or a clean-up.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cooper_builder::build::{
    CacheExport, CacheImport, CacheLocation, CacheMode, Compression, Context, Request, build,
};
use cooper_builder::cache::{self, Prune};
use cooper_registry::store::{GcOptions, Store};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[("killed", killed)];

/// Names the directory that a child works on.
const VARIABLE: &str = "COOPER_TEST_CRASH";
const DOCKERFILE: &str = "FROM busybox AS build
COPY a /a
COPY a /b
FROM busybox
WORKDIR /w
COPY --from=build /a /b ./
";

fn location(dir: &Path) -> CacheLocation {
    CacheLocation::Local {
        path: dir.join("cache"),
        tag: None,
    }
}

fn request(dir: &Path, exporting: bool) -> Request {
    let export = CacheExport {
        location: location(dir),
        mode: CacheMode::Max,
        mounts: false,
        compression: Compression::default(),
        ignore_error: false,
    };
    Request {
        context: Context::Directory(dir.join("context")),
        dockerfile: Some(DOCKERFILE.into()),
        cache_to: exporting.then_some(export).into_iter().collect(),
        cache_from: vec![CacheImport {
            location: location(dir),
        }],
        ..Request::default()
    }
}

/// What a child does until it is killed; false if this process is none.
pub(crate) fn child() -> bool {
    let Some(dir) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        return false;
    };
    let store = Store::open(&dir.join("store")).unwrap();
    let world = World::with_store(store);
    let (store, services) = (&world.store, world.services());
    for exporting in [true, false].into_iter().cycle() {
        let never = AtomicBool::new(false);
        let request = request(&dir, exporting);
        build(store, &dir.join("exec"), &request, &services, &|_| {}, &never).unwrap();
        let collect = |options: &GcOptions| {
            let options = GcOptions {
                dangling: true,
                ..options.clone()
            };
            Ok(store.gc(&options, &|_| true)?.freed_bytes)
        };
        let all = Prune {
            all: true,
            ..Prune::default()
        };
        cache::prune(store, &all, &collect).unwrap();
    }
    true
}

/// Whenever a process is killed, what it leaves is sound: store and cache directory can be used at once.
fn killed() {
    let world = World::new();
    world.write(
        "a",
        &"some text that is long enough to take a while\n".repeat(40_000),
    );
    let dir = world.dir.path().to_owned();
    for round in 0..25u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(VARIABLE, &dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Different moments of the loop, not a wait for something.
        std::thread::sleep(Duration::from_millis(20 + (round * 37) % 400));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child ended: {:?}",
            child.wait_with_output()
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            world.store.check(true).unwrap(),
            Vec::<String>::new(),
            "round {round}"
        );
        let outcome = world.run(&request(&dir, true));
        assert!(outcome.result.is_ok(), "round {round}: {:?}", outcome.result);
        assert_eq!(
            world.store.check(true).unwrap(),
            Vec::<String>::new(),
            "round {round}"
        );
    }
    // Nothing that nobody names stays: one collection, and only the image and its cache are there.
    world.store.gc(&GcOptions::default(), &|_| true).unwrap();
    world.assert_clean();
    for left in ["trash", "ingest", "leases"] {
        let names: Vec<_> = std::fs::read_dir(dir.join("store").join(left)).unwrap().collect();
        assert!(names.len() <= 1, "{left}: {names:?}");
    }
    let temporary = std::fs::read_dir(dir.join("cache/blobs/sha256"))
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("tmp")
        })
        .count();
    assert_eq!(temporary, 0);
}
