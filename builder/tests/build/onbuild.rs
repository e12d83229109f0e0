//! Triggers of base images and of stages.

use cooper_builder::build::Request;
use cooper_registry::oci::RunConfig;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("onbuild_of_images", of_images),
    ("onbuild_of_stages", of_stages),
    ("onbuild_failures", failures),
];

fn with_triggers(world: &World, name: &str, triggers: &[&str]) {
    world.add_base(
        name,
        RunConfig {
            on_build: Some(triggers.iter().map(|&text| text.to_owned()).collect()),
            ..RunConfig::default()
        },
    );
}

fn of_images() {
    let world = World::new();
    world.write("app", "application");
    with_triggers(
        &world,
        "triggers",
        &[
            "ARG KIND=plain",
            "WORKDIR /src",
            "COPY app ./",
            "COPY --from=assets /asset /asset",
            "COPY <<END /document\nkind $KIND\nEND",
            "RUN <<END\ncat app /asset /document\nEND",
            "ENV BUILT=yes",
        ],
    );
    // The stage that the trigger copies from is needed by it alone, and has a base with triggers itself.
    with_triggers(&world, "inner", &["RUN echo asset > /asset"]);
    let dockerfile = "FROM inner AS assets\nFROM nosuch AS unused\nFROM triggers\nRUN echo $BUILT $(pwd)\n";
    let (image, outcome) = world.build(dockerfile);
    assert_eq!(outcome.output(), "applicationasset\nkind plain\nyes /src\n");
    assert_eq!(image.config.config.on_build, None);
    let history: Vec<&str> = image.config.history[1..]
        .iter()
        .map(|entry| entry.created_by.as_str())
        .collect();
    assert_eq!(
        history,
        [
            "ARG KIND=plain",
            "WORKDIR /src",
            "COPY app ./ # buildkit",
            "COPY /asset /asset # buildkit",
            "COPY <<END /document # buildkit",
            "RUN |1 KIND=plain /bin/sh -c cat app /asset /document\n # buildkit",
            "ENV BUILT=yes",
            "RUN |1 KIND=plain /bin/sh -c echo $BUILT $(pwd) # buildkit",
        ]
    );
    let names: Vec<&str> = outcome.steps().iter().map(|step| step.name.as_str()).collect();
    assert!(names.contains(&"[stage-2 3/9] ONBUILD COPY app ./"), "{names:?}");
    assert!(
        names.contains(&"[stage-2 6/9] ONBUILD RUN <<END (cat app /asset /document)"),
        "{names:?}"
    );
    let (again, outcome) = world.build(dockerfile);
    assert_eq!((again.id, outcome.executed()), (image.id, Vec::new()));
    // A build argument that only a trigger declares is one that is used.
    let mut request = world.request(dockerfile);
    request.build_args = [("KIND", "other"), ("NONE", "x")]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
        .into();
    let (_, outcome) = world.build_request(&request);
    assert_eq!(
        outcome.warnings(),
        "one or more build-args [NONE] were not consumed"
    );
    // An image that has triggers keeps them for its own children.
    // They are stored as BuildKit 0.25 stores them.
    let (image, _) = world.build(
        "FROM busybox\nONBUILD RUN a\nONBUILD COPY <<E /x\nbody\nE\nONBUILD RUN <<E cat\n  x\nE\nONBUILD  RUN  a \\\n  b\n",
    );
    assert_eq!(
        image.config.config.on_build.unwrap(),
        [
            "RUN a",
            "COPY <<E /x\nbody\nE",
            "RUN <<E cat\n  x\nE",
            "RUN  a   b"
        ]
    );
    world.assert_clean();
}

fn of_stages() {
    let world = World::new();
    let dockerfile = "FROM busybox AS base\nARG A=1\nONBUILD RUN echo trigger $A\nFROM base AS child\nRUN echo child\nFROM child\nRUN echo grandchild\n";
    let (image, outcome) = world.build(dockerfile);
    assert_eq!(outcome.output(), "trigger 1\nchild\ngrandchild\n");
    assert_eq!(image.config.config.on_build, None);
    world.assert_clean();
}

fn failures() {
    let world = World::new();
    for (trigger, expected) in [
        (
            "ONBUILD RUN true",
            "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("COPY nosuch /", "\"/nosuch\": not found"),
        ("COPY --from=nosuch / /", "nosuch"),
        ("RUN exit 7", "exit code: 7"),
        (
            "USER nobody-here\nRUN true",
            "an ONBUILD trigger is one instruction",
        ),
    ] {
        with_triggers(&world, "bad", &[trigger]);
        let outcome = world.run(&world.request("FROM scratch AS x\nFROM bad\n"));
        let error = match outcome.result.unwrap_err() {
            cooper_builder::build::Error::Run { excerpt, .. } => excerpt,
            error => error.to_string(),
        };
        assert!(
            error.contains(expected) && error.contains("Dockerfile:2:"),
            "{trigger}: {error}"
        );
        world.assert_clean();
    }
    // Stages that are not needed have no triggers.
    let request = Request {
        targets: vec![cooper_builder::build::Target {
            stage: Some("x".to_owned()),
            ..Default::default()
        }],
        ..world.request("FROM scratch AS x\nFROM bad\n")
    };
    world.build_request(&request);
}
