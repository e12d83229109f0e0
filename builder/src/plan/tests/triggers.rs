//! ONBUILD

use super::world::{plan, request};
use crate::build::{NamedContext, Request};

#[test]
fn inserted_behind_from() {
    let texts = |file: &str, images: super::world::Images<'_>| {
        let plan = plan(file, &Request::default(), images).unwrap();
        let state = &plan.images[0].state;
        assert_eq!(state.image.config.on_build, None, "{file}");
        let history: Vec<_> = state
            .history
            .iter()
            .map(|entry| entry.created_by.clone())
            .collect();
        (plan.first, plan.names, history)
    };
    // Of an image: announced once it is known; all triggers count, as in BuildKit.
    let (first, names, history) = texts(
        "FROM golang:onbuild\nRUN echo $Z\n",
        &[("golang", &["ENV Z=1", "COPY . /src", "RUN make"])],
    );
    assert_eq!(
        first,
        ["[1/2] FROM docker.io/library/golang:onbuild", "[2/2] RUN echo $Z"]
    );
    assert_eq!(
        names,
        [
            "[1/5] FROM docker.io/library/golang:onbuild",
            "[4/5] RUN echo 1",
            "[2/5] ONBUILD COPY . /src",
            "[3/5] ONBUILD RUN make",
        ]
    );
    assert_eq!(
        history,
        [
            "ENV Z=1",
            "COPY . /src # buildkit",
            "RUN /bin/sh -c make # buildkit",
            "RUN /bin/sh -c echo 1 # buildkit"
                .replace("echo 1", "echo $Z")
                .as_str(),
        ]
    );
    // Between stages of one file; not again in a stage on the one that ran them.
    let (_, names, history) = texts(
        "FROM scratch AS a\nONBUILD RUN <<E\nx\nE\nFROM a AS b\nENV in=b\nFROM b\nENV in=c\n",
        &[],
    );
    assert_eq!(names, ["[b 1/1] ONBUILD RUN <<E (x)"]);
    assert_eq!(history, ["RUN /bin/sh -c x\n # buildkit", "ENV in=b", "ENV in=c"]);
    // Triggers bring stages and images of the child's file, those bring more.
    let (first, names, _) = texts(
        "FROM alpine AS assets\nRUN assets\nFROM child AS unused\nFROM base:1\n",
        &[
            (
                "base",
                &[
                    "COPY --from=assets /a /",
                    "RUN --network=none make",
                    "COPY --from=busybox /b /",
                ],
            ),
            ("alpine", &["COPY x /"]),
        ],
    );
    assert_eq!(first, ["[stage-2 1/1] FROM docker.io/library/base:1"]);
    assert_eq!(
        names,
        [
            "[stage-2 1/4] FROM docker.io/library/base:1",
            "[assets 1/3] FROM docker.io/library/alpine:latest",
            "[assets 3/3] RUN assets",
            "[stage-2 2/4] ONBUILD COPY --from=assets /a /",
            "[stage-2 3/4] ONBUILD RUN --network=none make",
            "FROM docker.io/library/busybox:latest",
            "[stage-2 4/4] ONBUILD COPY --from=busybox /b /",
            "[assets 2/3] ONBUILD COPY x /",
        ]
    );
}

#[test]
fn refused() {
    for (trigger, expected) in [
        (
            "ONBUILD RUN x",
            "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("MAINTAINER x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("NOSUCH x", "unknown instruction: NOSUCH"),
        ("", "empty ONBUILD trigger"),
        ("RUN a\nRUN b", "an ONBUILD trigger is one instruction"),
        ("COPY --from=3 / /", "invalid stage index 3"),
        ("COPY --from=later / /", "cannot copy from stage \"later\""),
        ("EXPOSE nan", "invalid containerPort: nan"),
        ("ENV a=${b:?none}", "none"),
    ] {
        let file = "# a comment\nFROM base\nRUN x\nFROM scratch AS later\n";
        let request = super::world::target("0");
        let error = plan(file, &request, &[("base", &[trigger])]).unwrap_err();
        assert!(error.contains(expected), "{trigger}: {error}");
        let about = format!("ONBUILD trigger {:?}", trigger.lines().next().unwrap_or_default());
        if trigger.lines().count() < 2 {
            assert!(error.contains(&about), "{trigger}: {error}");
        }
        assert!(
            error.contains("docker.io/library/base:latest"),
            "{trigger}: {error}"
        );
        assert!(error.contains("Dockerfile:2:6"), "{trigger}: {error}");
    }
}

/// A trigger sees the platform it is built for, though its stage reads the same for all.
#[test]
fn by_platform() {
    let file = "FROM --platform=$BUILDPLATFORM base\nRUN x\n";
    let plan = plan(
        file,
        &request(&["linux/amd64", "linux/arm64"]),
        &[("base", &["ARG TARGETARCH", "RUN make $TARGETARCH"])],
    )
    .unwrap();
    let runs = plan.names.iter().filter(|name| name.contains("RUN")).count();
    assert_eq!(runs, 4, "{:?}", plan.names);
    assert_ne!(plan.images[0].state.rootfs, plan.images[1].state.rootfs);
}

/// A named context in place of a stage has that stage's name only.
#[test]
fn not_of_contexts_in_place_of_stages() {
    let request = Request {
        named_contexts: [("x".to_owned(), NamedContext::Image("base".parse().unwrap()))].into(),
        ..Request::default()
    };
    let file = "FROM nosuch AS x\nRUN never\nFROM x\nRUN y\n";
    let plan = plan(file, &request, &[("base", &["RUN trigger"])]).unwrap();
    assert_eq!(
        plan.names,
        [
            "[x 1/1] FROM docker.io/library/base:latest",
            "[stage-1 1/1] RUN y"
        ]
    );
}
