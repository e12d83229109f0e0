//! `RUN --mount=type=cache`: contents that stay, sharing, and the API on what is kept.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use cooper_builder::build::{Error, Event, Request};
use cooper_builder::mounts::{CacheMounts, MountIdentity};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("cache_mounts::contents", contents),
    ("cache_mounts::beginnings", beginnings),
    ("cache_mounts::shared", shared),
    ("cache_mounts::private", private),
    ("cache_mounts::locked", locked),
    ("cache_mounts::locked_in_two_orders", locked_in_two_orders),
    ("cache_mounts::killed", killed),
    ("cache_mounts::management", management),
];

fn uncached(world: &World, run: &str) -> Request {
    Request {
        no_cache: true,
        ..world.request(&format!("FROM busybox\nWORKDIR /w\nRUN {run}\n"))
    }
}

fn output(world: &World, run: &str) -> String {
    world.build_request(&uncached(world, run)).1.output()
}

fn contents() {
    let world = World::new();
    let append = "sh -c 'echo x >> /c/f; cat /c/f | busybox tr -d \"\\n\"; echo'";
    for (flags, expected) in [
        ("target=/c", "x\n"),
        ("target=/c/../c", "xx\n"),
        ("target=/c,id=/c,sharing=private", "xxx\n"),
        ("target=/c,id=other", "x\n"),
        ("dst=/c,id=other,sharing=locked", "xx\n"),
    ] {
        assert_eq!(
            output(&world, &format!("--mount=type=cache,{flags} {append}")),
            expected,
            "{flags}"
        );
    }
    // Without a target it is the working directory; the id is the target as it is written.
    assert_eq!(
        output(&world, "--mount=type=cache sh -c 'echo 1 > f; ls /w'"),
        "f\n"
    );
    assert_eq!(output(&world, "--mount=type=cache,id=.,target=/z ls /z"), "f\n");
    assert_eq!(
        output(
            &world,
            "--mount=type=cache,target=rel sh -c 'echo 1 > rel/r; ls /w'"
        ),
        "rel\n"
    );
    assert_eq!(output(&world, "--mount=type=cache,id=rel,target=/z ls /z"), "r\n");
    // Read-only, twice in one step, and in a namespace of its own.
    let denied = "sh -c 'echo > /c/new || echo denied' 2>/dev/null";
    assert_eq!(
        output(&world, &format!("--mount=type=cache,target=/c,ro {denied}")),
        "denied\n"
    );
    let twice = "--mount=type=cache,target=/c,sharing=locked --mount=type=cache,id=/c,target=/d,sharing=locked ls /c /d";
    assert_eq!(output(&world, twice), "/c:\nf\n\n/d:\nf\n");
    let mut request = uncached(&world, &format!("--mount=type=cache,target=/c {append}"));
    request
        .build_args
        .insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), Some("ns".to_owned()));
    assert_eq!(world.build_request(&request).1.output(), "x\n");
    // Nothing of it is in the image.
    let (image, _) = world.build_request(&uncached(
        &world,
        "--mount=type=cache,target=/c/d sh -c 'echo > /c/d/f'",
    ));
    assert_eq!(world.layer(&image, 0), Vec::<String>::new());
    let usage = world.store.usage().unwrap();
    assert_eq!(usage.total_bytes, du(&world.dir.path().join("store")));
    world.assert_clean();
}

fn du(path: &std::path::Path) -> u64 {
    let out = std::process::Command::new("du")
        .args(["-s", "-B1"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(out.stdout)
        .unwrap()
        .split('\t')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

fn beginnings() {
    let world = World::new();
    let show = "stat -c '%a %u:%g' /c";
    assert_eq!(
        output(&world, &format!("--mount=type=cache,target=/c,id=i {show}")),
        "755 0:0\n"
    );
    let made = "--mount=type=cache,target=/c,id=i,mode=0700,uid=5,gid=6";
    assert_eq!(output(&world, &format!("{made} {show}")), "700 5:6\n");
    // They count at its making only.
    assert_eq!(
        output(
            &world,
            &format!("{made} sh -c 'chmod 711 /c; {}'", show.replace('\'', "\""))
        ),
        "711 5:6\n"
    );
    assert_eq!(output(&world, &format!("{made} {show}")), "711 5:6\n");
    let from = |mount: &str, run: &str| {
        let dockerfile = format!(
            "FROM busybox AS s\nRUN mkdir -p /a/b && echo seed > /a/b/f && chmod 700 /a && chown 7:8 /a/b/f\nFROM busybox\nRUN --mount=type=cache,target=/c,id=j,from=s{mount} {run}\n"
        );
        // The first stage is cached: made again it would be another beginning, and so another cache.
        world.build(&dockerfile).1.output()
    };
    assert_eq!(
        from(
            ",source=/a",
            "sh -c 'cat /c/b/f; stat -c \"%a %u:%g\" /c /c/b/f; echo more >> /c/b/f'"
        ),
        "seed\n700 0:0\n644 7:8\n"
    );
    assert_eq!(from(",source=a/../a", "cat /c/b/f"), "seed\nmore\n");
    assert_eq!(from(",source=/a/b/f", "cat /c"), "seed\n");
    assert_eq!(from("", "cat /c/a/b/f"), "seed\n");
    let world_dir = world.dir.path().join("outside");
    fs::write(&world_dir, "host").unwrap();
    for source in ["/a/b/nosuch", "../../../../../../tmp"] {
        let dockerfile = format!(
            "FROM scratch AS s\nCOPY x /a/b/\nFROM busybox\nRUN --mount=type=cache,target=/c,from=s,source={source} ls /c\n"
        );
        world.write("x", "x");
        let error = world.run(&world.request(&dockerfile)).error();
        assert!(
            error.contains("not found") && error.contains("Dockerfile:4:"),
            "{source}: {error}"
        );
    }
    // A link in the stage leads nowhere but into the stage.
    let dockerfile = "FROM busybox AS s\nRUN ln -s / /etc/top && ln -s ../../../../../../etc /up\nFROM busybox\nRUN --mount=type=cache,target=/c,from=s,source=/up test -f /c/group && test -h /c/top\n";
    let error = world.run(&world.request(dockerfile));
    assert!(error.result.is_ok(), "{}", error.error());
    world.assert_clean();
}

/// How many builds have begun to use the mount.
struct Meeting {
    arrived: Mutex<u32>,
    changed: Condvar,
}

impl Meeting {
    fn new() -> Self {
        Self {
            arrived: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    fn arrive(&self) {
        *self.arrived.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    /// Whether as many have arrived in time.
    fn wait_for(&self, count: u32, time: Duration) -> bool {
        let arrived = self.arrived.lock().unwrap();
        let (arrived, _) = self
            .changed
            .wait_timeout_while(arrived, time, |arrived| *arrived < count)
            .unwrap();
        *arrived >= count
    }
}

const LONG: Duration = Duration::from_secs(20);

/// Output of builds that run at once: each notes its number in the cache, says `up`, waits for a file in another cache that
/// all of them share, and shows all numbers.
fn together(world: &World, sharing: &str, count: u32, expect_meeting: bool) -> Vec<String> {
    let meeting = Meeting::new();
    let gate = format!("gate-{sharing}");
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..count)
            .map(|number| {
                let (meeting, gate) = (&meeting, &gate);
                scope.spawn(move || {
                    let run = format!(
                        "--mount=type=cache,target=/c,id=m,sharing={sharing} --mount=type=cache,id={gate},target=/g \
                         sh -c 'echo {number} >> /c/f; echo up; until test -e /g/go; do sleep 0.02; done; cat /c/f | busybox tr -d \"\\n\"'"
                    );
                    let seen = |event: &Event| {
                        if matches!(event, Event::Output { text, .. } if text == "up\n") {
                            meeting.arrive();
                        }
                    };
                    let outcome = world.run_watched(&uncached(world, &run), &AtomicBool::new(false), &seen);
                    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
                    outcome.output().replace("up\n", "")
                })
            })
            .collect();
        if expect_meeting {
            assert!(
                meeting.wait_for(count, LONG),
                "{sharing}: they did not run at the same time"
            );
        } else {
            assert!(meeting.wait_for(1, LONG));
            assert!(
                !meeting.wait_for(2, Duration::from_millis(400)),
                "{sharing}: two at once"
            );
        }
        output(
            world,
            &format!("--mount=type=cache,id={gate},target=/g touch /g/go"),
        );
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    })
}

fn shared() {
    let world = World::new();
    let found = together(&world, "shared", 2, true);
    assert!(
        found.iter().all(|text| text.len() == 2),
        "one directory: {found:?}"
    );
}

fn private() {
    let world = World::new();
    let mut found = together(&world, "private", 2, true);
    found.sort();
    assert_eq!(found, ["0", "1"], "a directory each");
    // Both stay, and the first one is the one that is used next.
    let mounts = CacheMounts::open(&world.store).unwrap().list().unwrap();
    let numbers: Vec<u32> = mounts
        .iter()
        .filter(|mount| mount.identity.id == "m")
        .map(|mount| mount.instance)
        .collect();
    assert_eq!(numbers, [0, 1]);
    let next = output(
        &world,
        "--mount=type=cache,target=/c,id=m,sharing=private sh -c 'cat /c/f'",
    );
    assert!(next == "0\n" || next == "1\n", "{next}");
}

fn locked() {
    let world = World::new();
    let mut found = together(&world, "locked", 2, false);
    found.sort_by_key(String::len);
    assert_eq!(
        (found[0].len(), found[1].len()),
        (1, 2),
        "one after the other: {found:?}"
    );
    assert!(found[1].starts_with(&found[0]));
    // One that waits can be cancelled.
    let flag = AtomicBool::new(false);
    let holder = CacheMounts::open(&world.store).unwrap();
    let key = holder
        .list()
        .unwrap()
        .into_iter()
        .find(|mount| mount.identity.id == "m")
        .unwrap()
        .key;
    let reader = holder.read(&key).unwrap().unwrap();
    let started = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let build = scope.spawn(|| {
            world.run_cancellable(
                &uncached(&world, "--mount=type=cache,target=/c,id=m,sharing=locked true"),
                &flag,
            )
        });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!build.is_finished());
        flag.store(true, Ordering::Relaxed);
        build.join().unwrap()
    });
    assert!(
        matches!(outcome.result, Err(Error::Cancelled)),
        "{:?}",
        outcome.result
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(reader);
    world.assert_clean();
}

/// Two steps that lock the same mounts in different orders do not wait for each other for ever.
fn locked_in_two_orders() {
    let world = World::new();
    let run = |first: &str, second: &str| {
        format!(
            "--mount=type=cache,target=/{first},sharing=locked --mount=type=cache,target=/{second},sharing=locked sh -c 'sleep 0.05; echo {first}'"
        )
    };
    let (ab, ba) = (run("a", "b"), run("b", "a"));
    std::thread::scope(|scope| {
        for round in 0..6 {
            let (world, line) = (&world, if round % 2 == 0 { &ab } else { &ba });
            scope.spawn(move || world.build_request(&uncached(world, line)));
        }
    });
    world.assert_clean();
}

/// A killed build leaves a mount that the next one uses with all that was written.
fn killed() {
    let world = World::new();
    let flag = AtomicBool::new(false);
    let seen = |event: &Event| {
        if matches!(event, Event::Output { .. }) {
            flag.store(true, Ordering::Relaxed);
        }
    };
    let run = "--mount=type=cache,target=/c,sharing=locked sh -c 'echo half > /c/f; echo up; sleep 60'";
    let outcome = world.run_watched(&uncached(&world, run), &flag, &seen);
    assert!(matches!(outcome.result, Err(Error::Cancelled)));
    assert_eq!(
        output(&world, "--mount=type=cache,target=/c,sharing=locked cat /c/f"),
        "half\n"
    );
    // What a crash leaves half made goes at the next opening.
    let root = world.dir.path().join("store/cache-mounts");
    fs::create_dir_all(root.join("trash/left/data/deep")).unwrap();
    fs::create_dir_all(root.join("mounts/0123/0/data")).unwrap();
    CacheMounts::open(&world.store).unwrap();
    assert_eq!(fs::read_dir(root.join("trash")).unwrap().count(), 0);
    assert!(!root.join("mounts/0123").exists());
    fs::write(root.join("format"), "cooper-cache-mounts 2\n").unwrap();
    let error = CacheMounts::open(&world.store).unwrap_err().to_string();
    assert!(error.contains("cooper-cache-mounts 2"), "{error}");
}

fn management() {
    let world = World::new();
    let before = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .cast_signed();
    output(
        &world,
        "--mount=type=cache,target=/c,id=big dd if=/dev/zero of=/c/f bs=1024 count=1000",
    );
    let mounts = CacheMounts::open(&world.store).unwrap();
    let listed = mounts.list().unwrap();
    assert_eq!(listed.len(), 1);
    let info = listed[0].clone();
    assert_eq!(
        (
            info.identity.id.as_str(),
            info.identity.namespace.as_str(),
            info.instance,
            info.in_use
        ),
        ("big", "", 0, false)
    );
    let dir = world
        .dir
        .path()
        .join("store/cache-mounts/mounts")
        .join(&info.key)
        .join("0");
    assert_eq!(info.bytes, du(&dir));
    assert!(info.bytes >= 1000 << 10 && info.last_used >= before, "{info:?}");

    let reader = mounts.read(&info.key).unwrap().unwrap();
    assert_eq!(fs::metadata(reader.data().join("f")).unwrap().size(), 1_024_000);
    assert!(mounts.list().unwrap()[0].in_use);
    assert_eq!(mounts.remove(&info.key, 0).unwrap(), None, "in use");
    drop(reader);
    assert!(mounts.write(&info.identity).unwrap().is_none(), "it is there");
    assert_eq!(mounts.remove(&info.key, 0).unwrap(), Some(info.bytes));
    assert_eq!(mounts.remove(&info.key, 0).unwrap(), None);
    assert_eq!(mounts.remove("../../x", 0).unwrap(), None);
    assert_eq!(mounts.list().unwrap(), []);
    assert!(mounts.read(&info.key).unwrap().is_none());

    let writer = mounts.write(&info.identity).unwrap().unwrap();
    fs::write(writer.data().join("f"), "imported").unwrap();
    let late = mounts.write(&info.identity).unwrap().unwrap();
    assert!(writer.commit().unwrap());
    assert!(!late.commit().unwrap(), "the first one stays");
    drop(
        mounts
            .write(&MountIdentity {
                id: "dropped".to_owned(),
                namespace: String::new(),
                origin: String::new(),
            })
            .unwrap(),
    );
    assert_eq!(mounts.list().unwrap().len(), 1);
    assert_eq!(
        output(&world, "--mount=type=cache,target=/c,id=big cat /c/f"),
        "imported"
    );
    assert_eq!(
        fs::read_dir(world.dir.path().join("store/cache-mounts/trash"))
            .unwrap()
            .count(),
        0
    );
    world.assert_clean();
}
