//! Several results of one build, and what the request says about stages.

use cooper_builder::build::{Request, Target};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("several_targets", several),
    ("no_cache_filter", no_cache_filter),
    ("identical_steps", identical_steps),
    ("epoch_arguments", epoch_arguments),
    ("reserved_arguments", reserved_arguments),
    ("unused_stages", unused_stages),
];

fn target(stage: &str, names: &[&str]) -> Target {
    Target {
        stage: (!stage.is_empty()).then(|| stage.to_owned()),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

fn several() {
    let world = World::new();
    let dockerfile = "FROM busybox AS base\nRUN echo base\nFROM base AS one\nRUN echo one\nFROM base AS two\nENV TWO=2\nFROM nosuch\n";
    let request = Request {
        targets: vec![target("one", &["first", "also:1"]), target("TWO", &["second"])],
        ..world.request(dockerfile)
    };
    let outcome = world.run(&request);
    let built = outcome.result.as_ref().unwrap();
    assert_eq!(outcome.output(), "base\none\n");
    assert_eq!((built.images.len(), built.steps), (2, 3));
    for (image, names) in [
        (&built.images[0], &["first", "also:1"] as &[&str]),
        (&built.images[1], &["second"]),
    ] {
        for name in names {
            assert_eq!(world.store.image(name).unwrap().id, image.image, "{name}");
        }
    }
    let env = world.store.image("second").unwrap().config.config.env.unwrap();
    assert!(env.contains(&"TWO=2".to_owned()), "{env:?}");
    // All of what is wrong, before anything runs.
    let request = Request {
        targets: vec![target("oen", &[]), target("one", &[]), target("tow", &[])],
        ..world.request(dockerfile)
    };
    let error = world.run(&request).error();
    for part in [
        "target stage \"oen\" could not be found",
        "did you mean one?",
        "target stage \"tow\" could not be found",
        "did you mean two?",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let none = Request {
        targets: Vec::new(),
        ..world.request("FROM busybox\n")
    };
    assert_eq!(world.run(&none).result.unwrap().images.len(), 1);
    world.assert_clean();
}

fn no_cache_filter() {
    let world = World::new();
    world.write("a", "1");
    let dockerfile = "FROM busybox AS one\nWORKDIR /w\nCOPY a /\nRUN echo one\nFROM busybox AS two\nCOPY a /b\nRUN echo two\nFROM scratch\nCOPY --from=one /a /\nCOPY --from=two /b /\n";
    world.build(dockerfile);
    let request = Request {
        no_cache_filter: vec!["ONE".to_owned(), "tow".to_owned()],
        ..world.request(dockerfile)
    };
    let (_, outcome) = world.build_request(&request);
    assert_eq!(outcome.executed(), ["COPY a /", "RUN echo one"]);
    let warnings = outcome.warnings();
    assert!(
        warnings.contains("no stage has the name \"tow\" of --no-cache-filter, did you mean two?"),
        "{warnings}"
    );
    // What was executed again is remembered again.
    let (_, outcome) = world.build(dockerfile);
    assert_eq!(outcome.executed(), Vec::<String>::new());
    world.assert_clean();
}

/// What is the same is executed once, even where the cache is not asked.
fn identical_steps() {
    let world = World::new();
    let dockerfile = "FROM busybox AS a\nLABEL x=1\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM busybox AS b\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM busybox\nCOPY --from=a /id /a\nCOPY --from=b /id /b\nRUN cat /a /b\n";
    let request = Request {
        no_cache: true,
        ..world.request(dockerfile)
    };
    let (_, outcome) = world.build_request(&request);
    let output = outcome.output();
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{output}");
    world.assert_clean();
}

/// Where the clamp comes from, and that nothing else is taken for one.
fn epoch_arguments() {
    let world = World::new();
    for (dockerfile, arg, expected) in [
        (
            "ARG SOURCE_DATE_EPOCH=1600000000\nFROM busybox\nRUN touch /x\n",
            None,
            Ok(Some("2020-09-13T12:26:40Z")),
        ),
        (
            "ARG T=16\nARG SOURCE_DATE_EPOCH=${T}00000000\nFROM busybox\nRUN touch /x\n",
            None,
            Ok(Some("2020-09-13T12:26:40Z")),
        ),
        (
            "ARG SOURCE_DATE_EPOCH=5\nFROM busybox\nRUN touch /x\n",
            Some("1600000000"),
            Ok(Some("2020-09-13T12:26:40Z")),
        ),
        (
            "FROM busybox\nARG SOURCE_DATE_EPOCH=5\nRUN touch /x\n",
            None,
            Ok(None),
        ),
        ("FROM busybox\nRUN touch /x\n", Some(""), Ok(None)),
        // Files of this host have no time of their own.
        ("FROM busybox\nRUN touch /x\n", Some("context"), Ok(None)),
        (
            "ARG SOURCE_DATE_EPOCH=now\nFROM busybox\n",
            None,
            Err("invalid SOURCE_DATE_EPOCH: \"now\""),
        ),
        (
            "FROM busybox\n",
            Some("12x"),
            Err("invalid SOURCE_DATE_EPOCH: \"12x\""),
        ),
    ] {
        let mut request = world.request(dockerfile);
        if let Some(arg) = arg {
            let value = Some(arg.to_owned());
            request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), value);
        }
        match expected {
            Ok(expected) => {
                let (image, _) = world.build_request(&request);
                let created = image.config.created.unwrap();
                match expected {
                    Some(expected) => assert_eq!(created, expected, "{dockerfile}"),
                    None => assert!(!created.starts_with("1970") && !created.starts_with("2020-09")),
                }
            }
            Err(expected) => {
                let error = world.run(&request).error();
                assert!(error.contains(expected), "{dockerfile}: {error}");
            }
        }
    }
}

/// Arguments that mean something without being declared.
fn reserved_arguments() {
    let world = World::new();
    let mut request = world.request(
        "FROM busybox\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nARG BUILDKIT_X=1\nARG no_proxy\nRUN echo [$BUILDKIT_SBOM_SCAN_STAGE] [$BUILDKIT_X] [$no_proxy] [$NO_PROXY] [$ALL_PROXY]\n",
    );
    for name in [
        "no_proxy",
        "All_Proxy",
        "BUILDKIT_CACHE_MOUNT_NS",
        "BUILDKIT_INLINE_CACHE",
    ] {
        request
            .build_args
            .insert(name.to_owned(), Some(format!("v-{name}")));
    }
    let (image, outcome) = world.build_request(&request);
    assert_eq!(
        outcome.output(),
        "[] [1] [v-no_proxy] [v-no_proxy] [v-All_Proxy]\n"
    );
    assert_eq!(outcome.warnings(), "");
    let last = image.config.history.last().unwrap();
    assert_eq!(
        last.created_by,
        "RUN |3 BUILDKIT_SBOM_SCAN_STAGE=true BUILDKIT_X=1 no_proxy=v-no_proxy /bin/sh -c echo [$BUILDKIT_SBOM_SCAN_STAGE] [$BUILDKIT_X] [$no_proxy] [$NO_PROXY] [$ALL_PROXY] # buildkit"
    );
}

/// Nothing of a stage that no target needs is asked for: neither its base, nor its files, nor its platform.
fn unused_stages() {
    let world = World::new();
    world.build("FROM example.com/hang:1 AS a\nRUN a\nFROM --platform=linux/x/y/z nosuch\nADD nosuch /\nFROM a\nCOPY --from=9 / /\nFROM busybox\nRUN true\n");
    world.assert_clean();
}
