//! What the build cache takes, and making it smaller.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use cooper_builder::build::{Error, Event};
use cooper_builder::cache::{self, CacheKind, Filter, GcPolicy, Limits, Prune, Pruned};
use cooper_registry::store::GcOptions;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("prune_all", prune_all),
    ("prune_shared", prune_shared),
    ("prune_limits", prune_limits),
    ("prune_while_building", prune_while_building),
    ("prune_policy", prune_policy),
    ("du_equals_du", du_equals_du),
];

const DOCKERFILE: &str = "FROM busybox AS build
RUN cat /bin/busybox /bin/busybox > /big
FROM busybox
COPY --from=build /bin/sh /tool
";

fn collect(world: &World) -> impl Fn(&GcOptions) -> Result<u64, Error> {
    |options| Ok(world.store.gc(options, &|_| true)?.freed_bytes)
}

fn prune(world: &World, options: &Prune) -> Pruned {
    cache::prune(&world.store, options, &collect(world)).unwrap()
}

/// Steps of the cache by their instruction.
fn steps(world: &World) -> BTreeSet<String> {
    let items = cache::items(&world.store).unwrap();
    let steps = items.into_iter().filter(|item| item.kind == CacheKind::Regular);
    steps
        .map(|item| item.description.split_once("] ").unwrap().1.to_owned())
        .collect()
}

fn prune_all() {
    let world = World::new();
    world.write("a", "A");
    world.build(&format!("{DOCKERFILE}COPY a /a\n"));
    let items = cache::items(&world.store).unwrap();
    let find = |text: &str| {
        let item = items
            .iter()
            .find(|item| item.description.contains(text) && item.bytes > 0);
        item.unwrap()
    };
    let (run, copied) = (find("RUN cat"), find("COPY --from"));
    assert!(!run.shared && copied.shared && !run.in_use && run.bytes > 1 << 20);
    // One of the two keys under which it is known names the stage that it copies from.
    let from_run = items.iter().filter(|item| item.parents == [run.id.clone()]);
    assert!(from_run.count() == 1);
    let pruned = prune(
        &world,
        &Prune {
            all: true,
            ..Prune::default()
        },
    );
    assert_eq!(pruned.deleted.len(), items.len());
    assert!(pruned.freed > 1 << 20);
    assert_eq!(cache::items(&world.store).unwrap(), []);
    world.assert_clean();
    let (_, outcome) = world.build(&format!("{DOCKERFILE}COPY a /a\n"));
    assert_eq!(outcome.executed().len(), 3);
}

/// What images share stays unless all is to go.
fn prune_shared() {
    let world = World::new();
    world.build(DOCKERFILE);
    let pruned = prune(&world, &Prune::default());
    assert_eq!(
        (pruned.deleted.len(), pruned.freed > 1 << 20),
        (1, true),
        "{pruned:?}"
    );
    assert_eq!(
        steps(&world),
        BTreeSet::from(["COPY --from=build /bin/sh /tool".to_owned()])
    );
    let recent = Prune {
        all: true,
        unused_for: Some(3600),
        ..Prune::default()
    };
    assert_eq!(prune(&world, &recent), Pruned::default());
    let other = Prune {
        all: true,
        filters: vec![Filter::new("type", "exec.cachemount").unwrap()],
        ..Prune::default()
    };
    assert_eq!(prune(&world, &other), Pruned::default());
}

fn prune_limits() {
    let world = World::new();
    for i in 0..6 {
        world.build(&format!(
            "FROM busybox AS x\nRUN cat /bin/busybox > /b; echo {i} >> /b\nFROM busybox\nCOPY --from=x /etc/passwd /x{i}\n"
        ));
    }
    let bytes = |world: &World| -> u64 {
        let items = cache::items(&world.store).unwrap();
        items
            .iter()
            .filter(|item| !item.shared)
            .map(|item| item.bytes)
            .sum()
    };
    let before = bytes(&world);
    let max_used = before * 2 / 3;
    let limits = Limits {
        max_used,
        ..Limits::default()
    };
    let options = Prune {
        limits,
        ..Prune::default()
    };
    let pruned = prune(&world, &options);
    let after = bytes(&world);
    assert!(after <= max_used && after > 0, "{before} {max_used} {after}");
    assert_eq!(before - after, pruned.freed);
    assert_eq!(prune(&world, &options), Pruned::default());
    world.assert_clean();
}

/// A build that goes on keeps what it has.
fn prune_while_building() {
    let world = World::new();
    let request = world.request("FROM busybox\nRUN echo one > /one\nRUN echo begun; sleep 1; cat /one\n");
    let begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let build = scope.spawn(|| {
            let sink = |event: Event| {
                if matches!(&event, Event::Output { text, .. } if text.contains("begun")) {
                    begun.store(true, Ordering::Relaxed);
                }
            };
            world.run_telling(&request, &sink)
        });
        while !begun.load(Ordering::Relaxed) {
            assert!(!build.is_finished());
            std::thread::yield_now();
        }
        let items = cache::items(&world.store).unwrap();
        assert!(
            items
                .iter()
                .all(|item| item.in_use == (item.kind == CacheKind::Regular)),
            "{items:?}"
        );
        let all = Prune {
            all: true,
            ..Prune::default()
        };
        let kept = prune(&world, &all);
        assert!(kept.deleted.is_empty(), "{kept:?}");
        assert!(build.join().unwrap().is_ok());
    });
    world.assert_clean();
}

/// The policy acts when there is too much, and looks at nothing when there is not.
fn prune_policy() {
    let world = World::new();
    world.build(DOCKERFILE);
    let policy = |max_used| GcPolicy {
        limits: Limits {
            max_used,
            reserved: 1,
            min_free: 1,
        },
        ..GcPolicy::default()
    };
    let run = |policy: &GcPolicy| cache::collect_after_build(&world.store, policy, &collect(&world)).unwrap();
    assert_eq!(run(&policy(1 << 40)), Pruned::default());
    assert!(steps(&world).len() == 2);
    let off = GcPolicy {
        enabled: false,
        ..policy(1)
    };
    assert_eq!(run(&off), Pruned::default());
    let start = std::time::Instant::now();
    assert_eq!(run(&policy(1 << 40)), Pruned::default());
    println!("a look without need: {:?}", start.elapsed());
    let pruned = run(&policy(1 << 20));
    assert!(pruned.freed > 1 << 20, "{pruned:?}");
    assert!(!steps(&world).contains("RUN cat /bin/busybox /bin/busybox > /big"));
    world.assert_clean();
}

/// The sum of all entries and images is what `du` says, within one percent.
fn du_equals_du() {
    let world = World::new();
    for i in 0..5 {
        world.build(&format!("FROM busybox AS x\nRUN cat /bin/busybox > /b{i}; mkdir -p /d/{i}; touch /d/{i}/a /d/{i}/b\nFROM busybox\nCOPY --from=x /b{i} /b\n"));
    }
    let du = |path: &std::path::Path| -> u64 {
        let out = std::process::Command::new("du")
            .args(["-s", "-B1"])
            .arg(path)
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    let close = |what: &str, ours: u64, theirs: u64| {
        assert!(
            ours.abs_diff(theirs) * 100 <= theirs,
            "{what}: {ours}, du says {theirs}"
        );
    };
    let root = world.dir.path().join("store");
    let usage = world.store.usage().unwrap();
    close("the store", usage.total_bytes, du(&root));
    let items = cache::items(&world.store).unwrap();
    let regular = items.iter().filter(|item| item.kind == CacheKind::Regular);
    // All layers but the base image's are the cache's.
    let base = world.store.image("busybox").unwrap();
    let base = base.config.rootfs.diff_ids[0].digest().hex().to_owned();
    let layers = root.join("layers/sha256");
    let theirs: u64 = std::fs::read_dir(&layers)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with(&base))
        .map(|path| du(&path))
        .sum();
    close("the cache", regular.map(|item| item.bytes).sum(), theirs);
}
