//! Why a step was not cached: a build, one change, a second build, and exactly these causes.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use cooper_builder::build::{Cause, Event, Request, render_causes};
use cooper_registry::oci::RunConfig;
use cooper_registry::store::GcOptions;
use cooper_runner::spec::NetworkMode;

use crate::world::{Outcome, Test, World, set_mtime};

pub(crate) const TESTS: &[Test] = &[
    ("explain_files", || check(FILES)),
    ("explain_instructions", || check(INSTRUCTIONS)),
    ("explain_surroundings", || check(SURROUNDINGS)),
    ("explain_inputs", || check(INPUTS)),
    ("explain_records", || check(RECORDS)),
    ("explain_is_asked_for", explain_is_asked_for),
    ("explain_never_tells_secrets", explain_never_tells_secrets),
];

/// Name, Dockerfile, change, and `INSTRUCTION | cause` for each cause in the order of the steps.
type Case = (
    &'static str,
    &'static str,
    fn(&World, &mut Request),
    &'static [&'static str],
);

const DIR: &str = "FROM busybox\nCOPY src /src\n";
const GLOB: &str = "FROM busybox\nCOPY *.txt /texts/\n";
const RUN: &str = "FROM busybox\nARG V=1\nARG LATE\nENV E=1 F=2\nRUN echo $V > /out\n";
const TWO: &str = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n";
const STAGES: &str = "FROM busybox AS build\nARG V=1\nRUN echo $V > /out; echo same > /same\nFROM busybox\nCOPY --from=build /out /out\nCOPY --from=build /same /same\n";

const FILES: &[Case] = &[
    ("nothing", DIR, |_, _| {}, &[]),
    (
        "time",
        DIR,
        |world, _| set_mtime(&world.context().join("src/a"), 5),
        &[],
    ),
    ("unselected file", DIR, |world, _| world.write("other", "x"), &[]),
    (
        "owner of a context file",
        DIR,
        |world, _| {
            std::os::unix::fs::chown(world.context().join("src/a"), Some(5), Some(6)).unwrap();
        },
        &[],
    ),
    (
        "content",
        DIR,
        |world, _| world.write("src/a", "changed"),
        &["COPY src /src | src/a: content changed"],
    ),
    (
        "content below",
        DIR,
        |world, _| world.write("src/sub/c", "C"),
        &["COPY src /src | src/sub/c: content changed"],
    ),
    (
        "added",
        DIR,
        |world, _| world.write("src/new", ""),
        &["COPY src /src | src/new: added"],
    ),
    (
        "removed",
        DIR,
        |world, _| remove(world, "src/b"),
        &["COPY src /src | src/b: removed"],
    ),
    (
        "renamed",
        DIR,
        |world, _| rename(world, "src/b", "src/z"),
        &["COPY src /src | src/z: added", "COPY src /src | src/b: removed"],
    ),
    (
        "mode",
        DIR,
        |world, _| mode(world, "src/a", 0o755),
        &["COPY src /src | src/a: mode changed: 644 -> 755"],
    ),
    (
        "mode of the directory itself",
        DIR,
        |world, _| mode(world, "src", 0o700),
        &["COPY src /src | src: mode changed: 755 -> 700"],
    ),
    (
        "content and mode",
        DIR,
        |world, _| {
            world.write("src/a", "changed");
            mode(world, "src/a", 0o600);
        },
        &[
            "COPY src /src | src/a: content changed",
            "COPY src /src | src/a: mode changed: 644 -> 600",
        ],
    ),
    (
        "type",
        DIR,
        |world, _| {
            remove(world, "src/b");
            symlink("a", world.context().join("src/b")).unwrap();
        },
        &["COPY src /src | src/b: type changed: file -> link"],
    ),
    (
        "target of a link",
        DIR,
        |world, _| {
            remove(world, "src/l");
            symlink("b", world.context().join("src/l")).unwrap();
        },
        &["COPY src /src | src/l: content changed"],
    ),
    (
        "extended attribute",
        DIR,
        |world, _| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(world.context().join("src/a"), "user.test", b"1", flags).unwrap();
        },
        &["COPY src /src | src/a: extended attributes changed"],
    ),
    (
        "extended attribute of a directory",
        DIR,
        |world, _| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(world.context().join("src/sub"), "user.test", b"1", flags).unwrap();
        },
        &["COPY src /src | src/sub: extended attributes changed"],
    ),
    (
        "added directory, once",
        DIR,
        |world, _| {
            world.write("src/n/x", "");
            world.write("src/n/y/z", "");
        },
        &["COPY src /src | src/n: added"],
    ),
    (
        "removed directory, once",
        DIR,
        |world, _| fs::remove_dir_all(world.context().join("src/sub")).unwrap(),
        &["COPY src /src | src/sub: removed"],
    ),
    (
        "several files",
        DIR,
        |world, _| {
            world.write("src/a", "x");
            remove(world, "src/b");
        },
        &[
            "COPY src /src | src/a: content changed",
            "COPY src /src | src/b: removed",
        ],
    ),
    (
        "ignored from now on",
        DIR,
        |world, _| world.write(".dockerignore", "src/b\n"),
        &["COPY src /src | src/b: removed"],
    ),
    (
        "new match of a pattern",
        GLOB,
        |world, _| world.write("three.txt", "3"),
        &["COPY *.txt /texts/ | three.txt: added"],
    ),
    (
        "renamed match of a pattern",
        GLOB,
        |world, _| rename(world, "one.txt", "uno.txt"),
        &[
            "COPY *.txt /texts/ | uno.txt: added",
            "COPY *.txt /texts/ | one.txt: removed",
        ],
    ),
    (
        "archive",
        "FROM busybox\nADD one.txt /x/\n",
        |world, _| world.write("one.txt", "!"),
        &["ADD one.txt /x/ | one.txt: content changed"],
    ),
    (
        "renamed single file to a file",
        "FROM busybox\nCOPY one.txt /x\n",
        |world, request| {
            rename(world, "one.txt", "uno.txt");
            edit(request, "one.txt", "uno.txt");
        },
        &[],
    ),
    (
        "moved single file to a file",
        "FROM busybox\nCOPY one.txt /x\n",
        |world, request| {
            fs::create_dir(world.context().join("deep")).unwrap();
            rename(world, "one.txt", "deep/one.txt");
            edit(request, "one.txt", "deep/one.txt");
        },
        &[],
    ),
    (
        "renamed single file to a directory",
        "FROM busybox\nCOPY one.txt /x/\n",
        |world, request| {
            rename(world, "one.txt", "uno.txt");
            edit(request, "one.txt", "uno.txt");
        },
        &["COPY uno.txt /x/ | instruction changed: COPY one.txt /x/ -> COPY uno.txt /x/"],
    ),
    (
        "renamed single file to a directory that has no slash",
        "FROM busybox\nCOPY one.txt /tmp\n",
        |world, request| {
            rename(world, "one.txt", "uno.txt");
            edit(request, "one.txt", "uno.txt");
        },
        &["COPY uno.txt /tmp | instruction changed: COPY one.txt /tmp -> COPY uno.txt /tmp"],
    ),
    (
        "prefix of a directory",
        "FROM busybox\nCOPY src/sub /s\n",
        |world, request| {
            fs::create_dir(world.context().join("deep")).unwrap();
            rename(world, "src/sub", "deep/sub");
            edit(request, "src/sub", "deep/sub");
        },
        &[],
    ),
];

const INSTRUCTIONS: &[Case] = &[
    (
        "comment",
        RUN,
        |_, request| edit(request, "FROM", "# nothing\nFROM"),
        &[],
    ),
    (
        "label and cmd",
        RUN,
        |_, request| edit(request, "RUN", "LABEL a=b\nCMD x\nRUN"),
        &[],
    ),
    (
        "command",
        RUN,
        |_, request| edit(request, "> /out", ">> /out"),
        &["RUN echo $V >> /out | instruction changed: RUN echo $V > /out -> RUN echo $V >> /out"],
    ),
    (
        "argument given",
        RUN,
        |_, request| arg(request, "V", "2"),
        &["RUN echo $V > /out | build argument V changed: \"1\" -> \"2\""],
    ),
    (
        "default of an argument",
        RUN,
        |_, request| edit(request, "V=1", "V=3"),
        &["RUN echo $V > /out | build argument V changed: \"1\" -> \"3\""],
    ),
    (
        "argument without a default",
        RUN,
        |_, request| arg(request, "LATE", "x"),
        &["RUN echo $V > /out | build argument LATE is new: \"x\""],
    ),
    (
        "argument no longer declared",
        RUN,
        |_, request| edit(request, "ARG V=1\n", ""),
        &["RUN echo $V > /out | build argument V is gone, it was \"1\""],
    ),
    (
        "argument nobody declares",
        RUN,
        |_, request| arg(request, "NOBODY", "x"),
        &[],
    ),
    (
        "proxy",
        RUN,
        |_, request| arg(request, "HTTP_PROXY", "http://p"),
        &[],
    ),
    (
        "variable",
        RUN,
        |_, request| edit(request, "E=1", "E=2"),
        &["RUN echo $V > /out | variable E changed: \"1\" -> \"2\""],
    ),
    (
        "new variable",
        RUN,
        |_, request| edit(request, "E=1", "E=1 G=3"),
        &["RUN echo $V > /out | variable G is new: \"3\""],
    ),
    (
        "variable gone",
        RUN,
        |_, request| edit(request, " F=2", ""),
        &["RUN echo $V > /out | variable F is gone, it was \"2\""],
    ),
    (
        "order of variables",
        RUN,
        |_, request| edit(request, "E=1 F=2", "F=2 E=1"),
        &["RUN echo $V > /out | option order of variables changed: \"PATH V E F\" -> \"PATH V F E\""],
    ),
    (
        "inserted step",
        TWO,
        |_, request| edit(request, "RUN echo one", "RUN echo zero > /zero\nRUN echo one"),
        &[
            "RUN echo zero > /zero | never built before",
            "RUN echo one > /one | an earlier step has another result: [2/4] RUN echo zero > /zero",
            "RUN echo two > /two | an earlier step has another result: [3/4] RUN echo one > /one",
        ],
    ),
    (
        "removed step",
        TWO,
        |_, request| edit(request, "RUN echo one > /one\n", ""),
        &[
            "RUN echo two > /two | an earlier step has another result: [1/2] FROM docker.io/library/busybox:latest",
        ],
    ),
    (
        "changed step before",
        TWO,
        |_, request| edit(request, "echo one", "echo uno"),
        &[
            "RUN echo uno > /one | instruction changed: RUN echo one > /one -> RUN echo uno > /one",
            "RUN echo two > /two | an earlier step has another result: [2/3] RUN echo uno > /one",
        ],
    ),
    (
        "here-document",
        "FROM busybox\nRUN <<EOF\necho 1\nEOF\n",
        |_, request| edit(request, "echo 1", "echo 2"),
        &["RUN <<EOF (echo 2) | instruction changed: RUN <<EOF (echo 1) -> RUN <<EOF (echo 2)"],
    ),
    (
        "script",
        "FROM busybox\nRUN <<EOF\n#!/bin/sh\necho 1\nEOF\n",
        |_, request| edit(request, "echo 1", "echo 2"),
        &[
            "RUN <<EOF (#!/bin/sh...) | option here-document changed: \"EOF #!/bin/sh…\" -> \"EOF #!/bin/sh…\"",
        ],
    ),
    (
        "file in the Dockerfile",
        "FROM busybox\nCOPY <<f /\nold\nf\n",
        |_, request| edit(request, "old", "new"),
        &["COPY <<f / | instruction changed: <<f… -> <<f…"],
    ),
    (
        "destination",
        DIR,
        |_, request| edit(request, " /src", " /dst"),
        &["COPY src /dst | instruction changed: COPY src /src -> COPY src /dst"],
    ),
    (
        "chmod",
        DIR,
        |_, request| edit(request, "COPY", "COPY --chmod=700"),
        &["COPY --chmod=700 src /src | instruction changed: COPY src /src -> COPY --chmod=700 src /src"],
    ),
    (
        "chown",
        DIR,
        |_, request| edit(request, "COPY", "COPY --chown=user"),
        &["COPY --chown=user src /src | instruction changed: COPY src /src -> COPY --chown=user src /src"],
    ),
    (
        "argument in a destination",
        "FROM busybox\nARG D=/a\nCOPY one.txt $D\n",
        |_, request| arg(request, "D", "/b"),
        &["COPY one.txt $D | build argument D changed: \"/a\" -> \"/b\""],
    ),
    (
        "variable in a path",
        "FROM busybox\nENV D=/a\nWORKDIR $D\n",
        |_, request| edit(request, "D=/a", "D=/b"),
        &["WORKDIR $D | variable D changed: \"/a\" -> \"/b\""],
    ),
    (
        "variable a COPY does not use",
        "FROM busybox\nENV D=/a\nCOPY one.txt /x\n",
        |_, request| edit(request, "D=/a", "D=/b"),
        &[],
    ),
];

const SURROUNDINGS: &[Case] = &[
    (
        "user",
        RUN,
        |_, request| edit(request, "RUN", "USER user\nRUN"),
        &["RUN echo $V > /out | option user changed: \"\" -> \"user\""],
    ),
    (
        "shell",
        RUN,
        |_, request| edit(request, "RUN", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN"),
        &["RUN echo $V > /out | option shell changed: \"/bin/sh -c\" -> \"/bin/sh -ec\""],
    ),
    (
        "network of the build",
        RUN,
        |_, request| request.network = NetworkMode::Host,
        &["RUN echo $V > /out | option network changed: \"none\" -> \"host\""],
    ),
    (
        "hostname",
        RUN,
        |_, request| arg(request, "BUILDKIT_SANDBOX_HOSTNAME", "other"),
        &["RUN echo $V > /out | option hostname changed: \"buildkitsandbox\" -> \"other\""],
    ),
    (
        "workdir",
        "FROM busybox\nWORKDIR /a\nRUN true\n",
        |_, request| edit(request, "/a", "/b"),
        &[
            "WORKDIR /b | instruction changed: WORKDIR /a -> WORKDIR /b",
            "RUN true | an earlier step has another result: [2/3] WORKDIR /b",
            "RUN true | option workdir changed: \"/a\" -> \"/b\"",
        ],
    ),
    (
        "owner of a workdir",
        "FROM busybox\nUSER root\nWORKDIR /a\n",
        |_, request| edit(request, "root", "user"),
        &["WORKDIR /a | option user changed: \"root\" -> \"user\""],
    ),
    (
        "epoch",
        DIR,
        |_, request| request.source_date_epoch = Some(5),
        &["COPY src /src | option SOURCE_DATE_EPOCH is new: \"5\""],
    ),
    (
        "no cache",
        TWO,
        |_, request| request.no_cache = true,
        &[
            "RUN echo one > /one | the cache is not used (--no-cache)",
            "RUN echo two > /two | the cache is not used (--no-cache)",
        ],
    ),
];

const INPUTS: &[Case] = &[
    (
        "base image with other layers",
        TWO,
        |world, _| add_layer(world, "busybox"),
        &[
            "RUN echo one > /one | base image moved: docker.io/library/busybox:latest@… -> docker.io/library/busybox:latest@…",
            "RUN echo two > /two | an earlier step has another result: [2/3] RUN echo one > /one",
        ],
    ),
    (
        "another base image",
        TWO,
        |world, request| {
            add_layer(world, "other");
            edit(request, "FROM busybox", "FROM other");
        },
        &[
            "RUN echo one > /one | base image moved: docker.io/library/busybox:latest@… -> docker.io/library/other:latest@…",
            "RUN echo two > /two | an earlier step has another result: [2/3] RUN echo one > /one",
        ],
    ),
    (
        "another name of the same layers",
        TWO,
        |world, request| {
            world.add_base("same", RunConfig::default());
            edit(request, "FROM busybox", "FROM same");
        },
        &[],
    ),
    (
        "another config of the same layers",
        TWO,
        |world, _| {
            let labels = Some([("a".to_owned(), "b".to_owned())].into());
            world.add_base(
                "busybox",
                RunConfig {
                    labels,
                    ..RunConfig::default()
                },
            );
        },
        &[],
    ),
    (
        "variable of the base image",
        "FROM busybox\nRUN true\n",
        |world, _| {
            let env = Some(vec!["PATH=/bin".to_owned(), "NEW=1".to_owned()]);
            world.add_base(
                "busybox",
                RunConfig {
                    env,
                    ..RunConfig::default()
                },
            );
        },
        &[
            "RUN true | variable NEW is new: \"1\"",
            "RUN true | variable PATH changed: \"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\" -> \"/bin\"",
        ],
    ),
    (
        "file of a stage",
        STAGES,
        |_, request| arg(request, "V", "2"),
        &[
            "RUN echo $V > /out; echo same > /same | build argument V changed: \"1\" -> \"2\"",
            "COPY --from=build /out /out | out: content changed (from [build 2/2] RUN echo 2 > /out; echo same > /same)",
            "COPY --from=build /same /same | an earlier step has another result: [stage-1 2/3] COPY --from=build /out /out",
        ],
    ),
    (
        "owner in a stage",
        "FROM busybox AS a\nARG V=1\nRUN touch /f; chown $V /f\nFROM scratch\nCOPY --from=a /f /\n",
        |_, request| arg(request, "V", "2"),
        &[
            "RUN touch /f; chown $V /f | build argument V changed: \"1\" -> \"2\"",
            "COPY --from=a /f / | f: owner changed: 1:0 -> 2:0 (from [a 2/2] RUN touch /f; chown 2 /f)",
        ],
    ),
    (
        "name of a stage",
        STAGES,
        |_, request| {
            edit(request, "AS build", "AS make");
            edit(request, "from=build", "from=make");
        },
        &[],
    ),
    (
        "new stage in between",
        STAGES,
        |_, request| {
            edit(
                request,
                "FROM busybox\n",
                "FROM busybox AS unused\nRUN false\nFROM busybox\n",
            );
        },
        &[],
    ),
];

const RECORDS: &[Case] = &[
    (
        "record collected",
        "FROM busybox\nRUN true\nRUN true again\n",
        |world, _| collect(world),
        &[
            "RUN true | built before, but the result is no longer in the cache",
            "RUN true again | built before, but the result is no longer in the cache",
        ],
    ),
    (
        "layer gone",
        "FROM busybox\nRUN echo gone > /gone\n",
        |world, request| {
            let (image, _) = world.build_request(request);
            let id = image.config.rootfs.diff_ids.last().unwrap();
            fs::remove_dir_all(world.store.root().join("layers/sha256").join(id.0.hex())).unwrap();
        },
        &["RUN echo gone > /gone | built before, but the result is no longer in the cache"],
    ),
    (
        "record collected and argument changed",
        RUN,
        |world, request| {
            collect(world);
            arg(request, "V", "2");
        },
        &["RUN echo $V > /out | build argument V changed: \"1\" -> \"2\""],
    ),
    (
        "back to a collected record",
        RUN,
        |world, request| {
            arg(request, "V", "2");
            world.build_request(request);
            collect(world);
            request.build_args.clear();
        },
        &[
            "RUN echo $V > /out | build argument V changed: \"2\" -> \"1\"",
            "RUN echo $V > /out | built before, but the result is no longer in the cache",
        ],
    ),
    (
        "compared with the last build, even a cached one",
        RUN,
        |world, request| {
            for value in ["2", "1"] {
                arg(request, "V", value);
                world.build_request(request);
            }
            arg(request, "V", "3");
        },
        &["RUN echo $V > /out | build argument V changed: \"1\" -> \"3\""],
    ),
    (
        "failed before",
        RUN,
        |world, request| {
            edit(request, "echo $V", "test -e /once; echo $V; false #");
            assert!(world.run(request).result.is_err());
        },
        &["RUN test -e /once; echo $V; false # > /out | the last attempt failed or was cancelled"],
    ),
    (
        "another file name of the Dockerfile",
        DIR,
        |world, request| {
            request.dockerfile_name = "Dockerfile.other".to_owned();
            world.write("src/a", "x");
        },
        &["COPY src /src | src/a: content changed"],
    ),
    (
        "most similar step of another Dockerfile",
        RUN,
        |_, request| {
            request.dockerfile_name = "Dockerfile.other".to_owned();
            edit(request, "> /out", ">> /out");
        },
        &["RUN echo $V >> /out | instruction changed: RUN echo $V > /out -> RUN echo $V >> /out"],
    ),
    (
        "nothing like it",
        DIR,
        |_, request| edit(request, "COPY src /src", "RUN echo new"),
        &["RUN echo new | never built before"],
    ),
    (
        "notes lost",
        RUN,
        |world, request| {
            fs::remove_dir_all(world.store.root().join("notes")).unwrap();
            arg(request, "V", "2");
        },
        &["RUN echo $V > /out | never built before"],
    ),
];

fn check(cases: &[Case]) {
    for (name, dockerfile, change, expected) in cases {
        let world = World::new();
        for (path, content) in [
            ("src/a", "A"),
            ("src/b", "B"),
            ("src/sub/c", "c"),
            ("one.txt", "1"),
            ("two.txt", "2"),
        ] {
            world.write(path, content);
            mode(&world, path, 0o644);
        }
        mode(&world, "src", 0o755);
        symlink("a", world.context().join("src/l")).unwrap();
        world.build(dockerfile);
        let mut request = world.request(dockerfile);
        change(&world, &mut request);
        request.explain = true;
        let outcome = world.run(&request);
        assert_eq!(told(&outcome), *expected, "{name}");
        // Nothing is executed without a cause, and nothing cached has one.
        let missed = outcome
            .events
            .iter()
            .filter(|event| matches!(event, Event::Missed { .. }))
            .count();
        assert_eq!(missed, outcome.executed().len(), "{name}");
    }
}

/// `INSTRUCTION | cause`, digests of images left out.
fn told(outcome: &Outcome) -> Vec<String> {
    let plan = outcome.events.iter().find_map(|event| match event {
        Event::Plan { steps } => Some(steps),
        _ => None,
    });
    let steps = plan.unwrap();
    let mut missed: Vec<(usize, &Vec<Cause>)> = outcome
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Missed { step, causes } => Some((*step, causes)),
            _ => None,
        })
        .collect();
    missed.sort_by_key(|(step, _)| *step);
    let mut lines = Vec::new();
    for (step, causes) in missed {
        assert!(!causes.is_empty());
        let json = serde_json::to_string(causes).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Cause>>(&json).unwrap(), *causes);
        let name = steps[step].name.split_once("] ").unwrap().1;
        for line in render_causes(causes).lines() {
            let mut line = line.to_owned();
            while let Some(at) = line.find("@sha256:") {
                line.replace_range(at..at + 72, "@…");
            }
            lines.push(format!("{name} | {line}"));
        }
    }
    lines
}

fn edit(request: &mut Request, from: &str, to: &str) {
    let text = String::from_utf8(request.dockerfile.take().unwrap()).unwrap();
    assert!(text.contains(from));
    request.dockerfile = Some(text.replace(from, to).into_bytes());
}

fn arg(request: &mut Request, name: &str, value: &str) {
    request.build_args.insert(name.to_owned(), Some(value.to_owned()));
}

fn remove(world: &World, path: &str) {
    fs::remove_file(world.context().join(path)).unwrap();
}

fn rename(world: &World, from: &str, to: &str) {
    fs::rename(world.context().join(from), world.context().join(to)).unwrap();
}

fn mode(world: &World, path: &str, mode: u32) {
    fs::set_permissions(world.context().join(path), fs::Permissions::from_mode(mode)).unwrap();
}

fn collect(world: &World) {
    let options = GcOptions {
        dangling: true,
        cache: true,
        ..GcOptions::default()
    };
    world.store.gc(&options, &|_| false).unwrap();
}

/// Makes `name` an image of busybox with one more layer.
fn add_layer(world: &World, name: &str) {
    let mut request = world.request("FROM busybox\nCOPY <<f /more\nmore\nf\n");
    request.targets[0].names = vec![name.parse().unwrap()];
    request.dockerfile_name = "Dockerfile.base".to_owned();
    world.build_request(&request);
}

fn explain_is_asked_for() {
    let world = World::new();
    let (_, outcome) = world.build(TWO);
    assert!(
        !outcome
            .events
            .iter()
            .any(|event| matches!(event, Event::Missed { .. }))
    );
}

/// What is not part of a key is not kept beside it.
fn explain_never_tells_secrets() {
    let world = World::new();
    let mut request = world.request("FROM busybox\nRUN true\n");
    arg(&mut request, "HTTP_PROXY", "http://user:hunter2@proxy");
    request.explain = true;
    let outcome = world.run(&request);
    assert_eq!(told(&outcome), ["RUN true | never built before"]);
    for entry in fs::read_dir(world.store.root().join("notes")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let body = &bytes[30..];
        let plain = zstd::decode_all(body).unwrap_or_else(|_| body.to_vec());
        assert!(!String::from_utf8_lossy(&plain).contains("hunter2"));
    }
}
