//! What makes a step run again, and what does not.

use std::collections::BTreeMap;
use std::fs;

use crate::world::{Test, World, set_mtime};

pub(crate) const TESTS: &[Test] = &[
    ("unchanged_context", unchanged_context),
    ("same_name", same_name),
    ("mutations", mutations),
    ("no_cache", no_cache),
    ("collected", collected),
    ("single_flight", single_flight),
];

const DOCKERFILE: &str = "FROM busybox AS build
ARG USED=1
ARG LATE
COPY src /src
RUN echo $USED > /out; touch -d @1 /out
COPY *.txt /texts/
FROM busybox
WORKDIR /w
COPY --from=build /out out
ENV E=1
RUN true
";

/// Applies one change to a built context and tells which steps were executed.
fn mutations() {
    type Change = fn(&World, &mut String, &mut BTreeMap<String, Option<String>>);
    let cases: &[(&str, Change, &[&str])] = &[
        ("nothing", |_, _, _| {}, &[]),
        (
            "touch",
            |world, _, _| set_mtime(&world.context().join("src/a"), 5),
            &[],
        ),
        ("unselected file", |world, _, _| world.write("other", "x"), &[]),
        (
            "ignored file",
            |world, _, _| world.write("src/ignored", "changed"),
            &[],
        ),
        (
            "content",
            |world, _, _| world.write("src/a", "changed"),
            &[
                "COPY *.txt /texts/",
                "COPY src /src",
                "RUN echo $USED > /out; touch -d @1 /out",
            ],
        ),
        (
            "content of equal size and time",
            |world, _, _| {
                world.write("src/a", "B");
                set_mtime(&world.context().join("src/a"), 1_000_000);
            },
            &[
                "COPY *.txt /texts/",
                "COPY src /src",
                "RUN echo $USED > /out; touch -d @1 /out",
            ],
        ),
        (
            "mode",
            |world, _, _| {
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(world.context().join("src/a"), fs::Permissions::from_mode(0o600))
                    .unwrap();
            },
            &[
                "COPY *.txt /texts/",
                "COPY src /src",
                "RUN echo $USED > /out; touch -d @1 /out",
            ],
        ),
        (
            "rename",
            |world, _, _| {
                fs::rename(world.context().join("one.txt"), world.context().join("three.txt")).unwrap();
            },
            &["COPY *.txt /texts/"],
        ),
        (
            "new match of a pattern",
            |world, _, _| world.write("three.txt", "3"),
            &["COPY *.txt /texts/"],
        ),
        (
            "argument used",
            |_, _, args| drop(args.insert("USED".to_owned(), Some("2".to_owned()))),
            &[
                "COPY *.txt /texts/",
                "COPY --from=build /out out",
                "RUN echo $USED > /out; touch -d @1 /out",
                "RUN true",
            ],
        ),
        (
            "argument declared but not used",
            |_, _, args| drop(args.insert("LATE".to_owned(), Some("2".to_owned()))),
            &["RUN echo $USED > /out; touch -d @1 /out"],
        ),
        (
            "argument unknown",
            |_, _, args| drop(args.insert("NOBODY".to_owned(), Some("2".to_owned()))),
            &[],
        ),
        (
            "proxy",
            |_, _, args| drop(args.insert("HTTP_PROXY".to_owned(), Some("p".to_owned()))),
            &[],
        ),
        ("label", |_, file, _| file.push_str("LABEL a=b\n"), &[]),
        (
            "env",
            |_, file, _| *file = file.replace("E=1", "E=2"),
            &["RUN true"],
        ),
        ("comment", |_, file, _| file.insert_str(0, "# nothing\n\n"), &[]),
        (
            "stage name",
            |_, file, _| *file = file.replace("build", "other"),
            &[],
        ),
        (
            "workdir",
            |_, file, _| *file = file.replace("/w\n", "/v\n"),
            &["COPY --from=build /out out", "RUN true", "WORKDIR /v"],
        ),
        (
            "user",
            |_, file, _| *file = file.replace("ENV E=1", "USER user"),
            &["RUN true"],
        ),
    ];
    for (name, change, expected) in cases {
        let world = World::new();
        world.write("src/a", "A");
        world.write("src/ignored", "x");
        world.write(".dockerignore", "src/ignored\n");
        world.write("one.txt", "1");
        world.write("two.txt", "2");
        set_mtime(&world.context().join("src/a"), 1_000_000);
        world.build(DOCKERFILE);
        let mut dockerfile = DOCKERFILE.to_owned();
        let mut request = world.request("");
        change(&world, &mut dockerfile, &mut request.build_args);
        request.dockerfile = Some(dockerfile.into_bytes());
        let (_, outcome) = world.build_request(&request);
        // Steps after one that ran again run too unless its result is the same; ones that end in an equal layer end the
        // chain, which is why the list is exact.
        let executed: Vec<String> = outcome
            .executed()
            .into_iter()
            .map(|name| name.replace("other", "build"))
            .collect();
        assert_eq!(executed, *expected, "{name}");
    }
}

fn no_cache() {
    let world = World::new();
    world.write("a", "1");
    let dockerfile = "FROM busybox\nWORKDIR /w\nCOPY a .\nRUN echo $$ > pid\n";
    let (first, _) = world.build(dockerfile);
    let request = cooper_builder::build::Request {
        no_cache: true,
        ..world.request(dockerfile)
    };
    let (second, outcome) = world.build_request(&request);
    assert_eq!(outcome.executed(), ["COPY a .", "RUN echo $$ > pid"]);
    let (third, outcome) = world.build(dockerfile);
    assert_eq!(
        outcome.executed(),
        Vec::<String>::new(),
        "what was executed without cache is recorded"
    );
    assert_eq!(second.id, third.id);
    assert_ne!(first.config.history, second.config.history);
}

/// A collection that takes a layer makes a miss, never a broken image.
fn collected() {
    use cooper_registry::store::GcOptions;
    let world = World::new();
    let dockerfile = "FROM busybox\nRUN echo x > /x\n";
    let (image, _) = world.build(dockerfile);
    let options = GcOptions {
        dangling: true,
        cache: true,
        ..GcOptions::default()
    };
    world.store.gc(&options, &|_| false).unwrap();
    assert!(world.store.image(&image.id.to_string()).is_err());
    let (_, outcome) = world.build(dockerfile);
    assert_eq!(outcome.executed(), ["RUN echo x > /x"]);
    world.assert_clean();
}

/// Equal steps of builds at the same time are executed once.
fn single_flight() {
    let world = World::new();
    let request = world.request("FROM busybox\nRUN sleep 0.3; echo ran\n");
    let outputs: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| world.build_request(&request).1.output()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outputs.concat(), "ran\n");
    world.assert_clean();
}

/// Files that did not change are not read again, once what `stat` says is old enough to be believed: a false digest in the
/// table about the context is taken for true.
fn unchanged_context() {
    use std::os::unix::fs::MetadataExt as _;
    let world = World::new();
    for i in 0..2000 {
        world.write(&format!("d{}/f{i}", i % 20), &i.to_string());
    }
    let dockerfile = "FROM busybox\nCOPY . /a\nRUN true\nCOPY . /b\nENV A=1\nCMD x\n";
    world.build(dockerfile);
    let context = fs::metadata(world.context()).unwrap();
    let note = format!("context-{}-{}", context.dev(), context.ino());
    let table = || world.store.note(&note).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    world.build(dockerfile);
    let mut bytes = table().unwrap();
    assert_eq!(bytes.len(), 18 + 2000 * 80);
    let (_, outcome) = world.build(dockerfile);
    assert_eq!(outcome.executed(), Vec::<String>::new());
    assert_eq!(table().unwrap(), bytes, "nothing was learnt");
    // A single changed file is read, and the others still are not.
    world.write("d3/new", "new");
    let (_, outcome) = world.build(dockerfile);
    assert_eq!(outcome.executed(), ["COPY . /a", "COPY . /b", "RUN true"]);
    bytes[18 + 40] ^= 1;
    world.store.put_note(&note, &bytes).unwrap();
    let (_, outcome) = world.build(dockerfile);
    assert_eq!(outcome.executed(), ["COPY . /a", "COPY . /b"]);
    // A damaged table costs time and nothing else.
    world.store.put_note(&note, &bytes[..100]).unwrap();
    let (_, outcome) = world.build(dockerfile);
    assert_eq!(outcome.executed(), Vec::<String>::new());
}

/// Files of one name in different directories of a stage are different sources.
fn same_name() {
    let world = World::new();
    let stage = "FROM busybox AS a\nRUN mkdir /x /y && echo x > /x/f && echo y > /y/f\nFROM scratch\n";
    for (name, expected) in [("x", "f 644 0:0 \"x\\n\""), ("y", "f 644 0:0 \"y\\n\"")] {
        let (image, _) = world.build(&format!("{stage}COPY --from=a /{name}/f /\n"));
        assert_eq!(world.layer(&image, 0), [expected]);
    }
}
