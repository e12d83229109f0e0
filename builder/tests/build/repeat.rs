//! Builds that repeat to the byte, and telling where one does not.

use std::fs;

use cooper_builder::build::{Event, Request, Verification, verify};
use cooper_registry::store::Store;

use crate::world::{Test, World, set_mtime};

pub(crate) const TESTS: &[Test] = &[
    ("repeat_to_the_byte", repeat_to_the_byte),
    ("verify_differences", verify_differences),
    ("verify_leaves_no_trace", verify_leaves_no_trace),
];

const EPOCH: i64 = 1_700_000_000;

/// Deterministic Dockerfiles give the same manifest in stores of their own, whatever the times of the context's files and
/// the number of threads.
fn repeat_to_the_byte() {
    let cases = [
        (
            "copy",
            "FROM busybox\nCOPY src /src\nCOPY --chmod=700 --chown=1:2 src/a /b/\n",
        ),
        (
            "run",
            "FROM busybox\nRUN echo x > /x; mkdir -p /d/e; ln -s x /d/l; ln /x /d/h; chmod 4755 /x\n",
        ),
        (
            "deletions",
            "FROM busybox\nRUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b && echo 3 > /f\nRUN rm -r /d /f && mkdir /d && echo 4 > /d/b\n",
        ),
        (
            "touched only",
            "FROM busybox\nRUN touch /etc/passwd; chmod 600 /etc/group; ls / > /dev/null\n",
        ),
        (
            "parallel stages",
            "FROM busybox AS a\nRUN sleep 0.0$((RANDOM % 9)); echo a > /a\nFROM busybox AS b\nRUN sleep 0.0$((RANDOM % 9)); echo b > /b\n\
          FROM busybox AS c\nCOPY src /c\nFROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /c/\nWORKDIR /w/x\n",
        ),
        (
            "archive and here-documents",
            "FROM busybox\nADD src/archive.tar /t/\nCOPY <<one <<two /h/\n1\none\n2\ntwo\nRUN <<EOF\necho $(cat /h/one) > /sum\nEOF\n",
        ),
        (
            "config",
            "FROM busybox\nENV A=1\nLABEL b=2 a=1\nVOLUME /v\nUSER user\nWORKDIR /home\nHEALTHCHECK CMD true\nCMD x\n",
        ),
        (
            "future times",
            "FROM busybox\nRUN touch -d @4000000000 /future; touch -d @1 /past\n",
        ),
    ];
    for (name, dockerfile) in cases {
        let manifests: Vec<_> = [(1, 1_000_000_000), (0, 1_800_000_000)]
            .into_iter()
            .map(|(parallelism, time)| {
                let world = world();
                for path in ["src", "src/a", "src/sub", "src/sub/c"] {
                    set_mtime(&world.context().join(path), 1_600_000_000);
                }
                // Its own time is not copied; after the epoch it would be clamped, before it be kept.
                set_mtime(&world.context(), time);
                let request = Request {
                    source_date_epoch: Some(EPOCH),
                    no_cache: true,
                    parallelism,
                    ..world.request(dockerfile)
                };
                let (first, _) = world.build_request(&request);
                let (second, _) = world.build_request(&request);
                assert_eq!(
                    first.manifest_digest, second.manifest_digest,
                    "{name}, in one store"
                );
                first.manifest_digest
            })
            .collect();
        assert_eq!(manifests[0], manifests[1], "{name}");
    }
}

fn world() -> World {
    let world = World::new();
    world.write("src/a", "A");
    world.write("src/sub/c", "c");
    fs::hard_link(world.context().join("src/a"), world.context().join("src/hard")).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    header.set_mtime(5);
    archive
        .append_data(&mut header, "in/the/archive", &b"hi"[..])
        .unwrap();
    fs::write(
        world.context().join("src/archive.tar"),
        archive.into_inner().unwrap(),
    )
    .unwrap();
    set_mtime(&world.context().join("src/archive.tar"), 5);
    world
}

fn run_verify(world: &World, request: &Request) -> (Verification, Vec<Event>) {
    let events = std::sync::Mutex::new(Vec::new());
    let sink = |event: Event| events.lock().unwrap().push(event);
    let services = world.services();
    let cancelled = std::sync::atomic::AtomicBool::new(false);
    let verified = verify(
        &world.store,
        &world.exec_root(),
        request,
        &services,
        &sink,
        &cancelled,
    )
    .unwrap();
    (verified, events.into_inner().unwrap())
}

/// A build, a change, and what a second build is said to differ in.
fn verify_differences() {
    type Change = fn(&World, &mut Request);
    let base = "FROM busybox\nARG V=1\nCOPY src /src\nRUN echo $V > /out; chmod 600 /out; touch -d @7 /out\nLABEL v=1\nCMD a\n";
    let cases: &[(&str, &str, Change, &[&str])] = &[
        ("the same", base, |_, _| {}, &[]),
        (
            "context file",
            base,
            |world, _| world.write("src/sub/c", "d"),
            &["layer 1 (COPY src /src # buildkit): /src/sub/c: content: 0x63 at byte 0 -> 0x64 at byte 0"],
        ),
        (
            "file more",
            base,
            |world, _| {
                world.write("src/zzz", "z");
                set_mtime(&world.context().join("src"), 1_600_000_000);
            },
            &["layer 1 (COPY src /src # buildkit): /src/zzz: missing: missing -> present"],
        ),
        (
            "time",
            base,
            |world, _| set_mtime(&world.context().join("src/sub/c"), 1_600_000_001),
            &["layer 1 (COPY src /src # buildkit): /src/sub/c: mtime: 1600000000 -> 1600000001"],
        ),
        (
            "mode",
            base,
            |_, request| replace(request, "chmod 600", "chmod 640"),
            &[
                "layer 2 (RUN |1 V=1 /bin/sh -c echo $V > /out; chmod 600 /out; touch -d @7 /out # buildkit): /out: mode: 600 -> 640",
            ],
        ),
        (
            "argument",
            base,
            |_, request| drop(request.build_args.insert("V".into(), Some("2".into()))),
            &[
                "layer 2 (RUN |1 V=1 /bin/sh -c echo $V > /out; chmod 600 /out; touch -d @7 /out # buildkit): /out: content: 0x31 at byte 0 -> 0x32 at byte 0",
            ],
        ),
        (
            "owner",
            base,
            |_, request| replace(request, "; touch", "; chown 1:2 /out; touch"),
            &[
                "layer 2 (RUN |1 V=1 /bin/sh -c echo $V > /out; chmod 600 /out; touch -d @7 /out # buildkit): /out: owner: 0:0 -> 1:2",
            ],
        ),
        (
            "label",
            base,
            |_, request| replace(request, "LABEL v=1", "LABEL v=2"),
            &["config: config.Labels.v: \"1\" -> \"2\""],
        ),
        (
            "command",
            base,
            |_, request| replace(request, "CMD a", "CMD b"),
            &["config: config.Cmd[2]: \"a\" -> \"b\""],
        ),
        (
            "layer more",
            base,
            |_, request| replace(request, "LABEL", "RUN true\nLABEL"),
            &["the image has 3 layers, the new one 4"],
        ),
        (
            "deletion",
            "FROM busybox\nRUN rm -r /tmp\n",
            |_, request| replace(request, "rm -r /tmp", "rm -r /root"),
            &["layer 1 (RUN /bin/sh -c rm -r /tmp # buildkit): /root: missing: missing -> present"],
        ),
    ];
    for (name, dockerfile, change, expected) in cases {
        let world = world();
        for path in ["src/a", "src/archive.tar", "src/sub/c", "src/sub", "src"] {
            set_mtime(&world.context().join(path), 1_600_000_000);
        }
        let mut request = Request {
            source_date_epoch: Some(EPOCH),
            ..world.request(dockerfile)
        };
        request.targets[0].names = vec!["made".parse().unwrap()];
        world.build_request(&request);
        change(&world, &mut request);
        // The epoch is taken from the image.
        request.source_date_epoch = None;
        request.verify = Some("made".parse().unwrap());
        let (verified, events) = run_verify(&world, &request);
        let texts: Vec<String> = verified.differences.iter().map(ToString::to_string).collect();
        // A changed instruction is in the history, too.
        let told: Vec<&String> = texts
            .iter()
            .filter(|text| !text.starts_with("config: history"))
            .collect();
        assert!(told.len() >= expected.len(), "{name}: {texts:?}");
        assert_eq!(told[..expected.len()], expected[..], "{name}");
        assert_eq!(
            verified.differences.is_empty(),
            expected.is_empty(),
            "{name}: {texts:?}"
        );
        assert_eq!(verified.image == verified.rebuilt, expected.is_empty(), "{name}");
        let json = serde_json::to_string(&verified).unwrap();
        assert_eq!(serde_json::from_str::<Verification>(&json).unwrap(), verified);
        assert_eq!(events.last(), Some(&Event::Verified { result: verified }));
    }
}

fn replace(request: &mut Request, from: &str, to: &str) {
    let text = String::from_utf8(request.dockerfile.take().unwrap()).unwrap();
    assert!(text.contains(from));
    request.dockerfile = Some(text.replace(from, to).into_bytes());
}

/// The image keeps its name, the cache its records, and the rebuilt image is gone.
fn verify_leaves_no_trace() {
    let world = World::new();
    let mut request = world.request("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n");
    request.targets[0].names = vec!["made".parse().unwrap()];
    let (image, _) = world.build_request(&request);
    let state = |store: &Store| {
        let mut images: Vec<_> = store
            .images()
            .unwrap()
            .into_iter()
            .map(|image| (image.id, image.names))
            .collect();
        images.sort_by(|a, b| a.0.cmp(&b.0));
        let cache: Vec<_> = store
            .usage()
            .unwrap()
            .cache
            .into_iter()
            .map(|record| record.0)
            .collect();
        (images, cache, store.notes("").unwrap().len())
    };
    let before = state(&world.store);
    request.verify = Some("made".parse().unwrap());
    let (verified, _) = run_verify(&world, &request);
    assert_ne!(verified.image, verified.rebuilt);
    assert_eq!(state(&world.store), before);
    request.verify = None;
    let (again, outcome) = world.build_request(&request);
    assert_eq!(outcome.executed(), Vec::<String>::new());
    assert_eq!(again.id, image.id);
    world.assert_clean();
}
