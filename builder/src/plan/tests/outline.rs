//! Names of steps, and which stages are needed, as BuildKit shows them.

use super::world::{plan, request, target};
use crate::build::{Request, Target};

const FILE: &str = "ARG TAG=1\nFROM busybox:$TAG AS Base\nrun true\nFROM nosuch AS unused\nRUN x\nFROM base\nCOPY --from=alpine / /\nWORKDIR /w\nENV a=b\n";

#[test]
fn names() {
    let with_tag = |mut request: Request| {
        request.build_args.insert("TAG".to_owned(), Some("2".to_owned()));
        request
    };
    let cases: &[(&str, Request, &[&str])] = &[
        (
            "FROM busybox\nRUN true\n",
            Request::default(),
            &["[1/2] FROM docker.io/library/busybox:latest", "[2/2] RUN true"],
        ),
        // A single stage's name is not shown, unless another image is.
        (
            "FROM busybox AS x\nRUN true\n",
            Request::default(),
            &["[1/2] FROM docker.io/library/busybox:latest", "[2/2] RUN true"],
        ),
        (
            "FROM busybox\nCOPY --from=alpine /a /\n",
            Request::default(),
            &[
                "[stage-0 1/2] FROM docker.io/library/busybox:latest",
                "FROM docker.io/library/alpine:latest",
                "[stage-0 2/2] COPY --from=alpine /a /",
            ],
        ),
        (
            "FROM scratch\nCOPY a /\n",
            Request::default(),
            &["[1/1] COPY a /"],
        ),
        (
            FILE,
            with_tag(Request::default()),
            &[
                "[base 1/2] FROM docker.io/library/busybox:2",
                "[base 2/2] RUN true",
                "FROM docker.io/library/alpine:latest",
                "[stage-2 1/2] COPY --from=alpine / /",
                "[stage-2 2/2] WORKDIR /w",
            ],
        ),
        (
            FILE,
            target("BASE"),
            &[
                "[base 1/2] FROM docker.io/library/busybox:1",
                "[base 2/2] RUN true",
            ],
        ),
        (
            FILE,
            target("0"),
            &[
                "[base 1/2] FROM docker.io/library/busybox:1",
                "[base 2/2] RUN true",
            ],
        ),
        // Of mounts, too.
        (
            "FROM a AS x\nRUN 1\nFROM b AS y\nRUN 2\nFROM scratch\nCOPY --from=x / /\n",
            Request::default(),
            &[
                "[x 1/2] FROM docker.io/library/a:latest",
                "[x 2/2] RUN 1",
                "[stage-2 1/1] COPY --from=x / /",
            ],
        ),
        // Variables have their values in the end; those RUN does not know stay.
        (
            "FROM scratch\nENV A=\"x y\"\nWORKDIR /$A\nRUN echo \"$A\" $B '$A'\nRUN <<E\necho $A\nb\nE\n",
            Request::default(),
            &[
                "[1/3] WORKDIR /x y",
                "[2/3] RUN echo \"x y\" $B '$A'",
                "[3/3] RUN <<E (echo x y...)",
            ],
        ),
        (
            "FROM --platform=$BUILDPLATFORM golang AS build\nRUN get\nARG TARGETARCH\nRUN make\nFROM alpine\nCOPY --from=build /a /\n",
            request(&["linux/amd64", "linux/arm64", "linux/arm/v7"]),
            &[
                "[linux/amd64 build 1/3] FROM docker.io/library/golang:latest",
                "[linux/amd64 build 2/3] RUN get",
                "[linux/amd64 build 3/3] RUN make",
                "[linux/amd64 stage-1 1/2] FROM docker.io/library/alpine:latest",
                "[linux/amd64 stage-1 2/2] COPY --from=build /a /",
                "[linux/amd64->arm64 build 3/3] RUN make",
                "[linux/arm64 stage-1 1/2] FROM docker.io/library/alpine:latest",
                "[linux/arm64 stage-1 2/2] COPY --from=build /a /",
                "[linux/amd64->arm/v7 build 3/3] RUN make",
                "[linux/arm/v7 stage-1 1/2] FROM docker.io/library/alpine:latest",
                "[linux/arm/v7 stage-1 2/2] COPY --from=build /a /",
            ],
        ),
    ];
    for (text, request, expected) in cases {
        let plan = plan(text, request, &[]).unwrap();
        assert_eq!(plan.names, *expected, "{text}");
    }
}

/// One platform shows it only if an index was asked for.
#[test]
fn one_platform() {
    let file = "FROM scratch\nCOPY a /\n";
    let mut one = request(&["linux/arm64"]);
    assert_eq!(plan(file, &one, &[]).unwrap().names, ["[1/1] COPY a /"]);
    one.build_args
        .insert("BUILDKIT_MULTI_PLATFORM".to_owned(), Some("1".to_owned()));
    let plan = plan(file, &one, &[]).unwrap();
    assert_eq!(plan.names, ["[linux/arm64 1/1] COPY a /"]);
    assert_eq!(plan.images[0].state.platform().to_string(), "linux/arm64");
    assert_eq!(plan.unused.0, Vec::<String>::new());
}

/// Values that FROM and ARG see.
#[test]
fn automatic_arguments() {
    let all = "$BUILDPLATFORM $BUILDOS $BUILDARCH [$BUILDVARIANT] [$BUILDOSVERSION] $TARGETPLATFORM $TARGETOS $TARGETARCH [$TARGETVARIANT] [$TARGETOSVERSION] $TARGETSTAGE";
    let names = all.replace(['$', '[', ']'], "");
    let host = cooper_registry::oci::Platform::host().normalized();
    let build = format!("{host} {} {} [] []", host.os, host.architecture);
    for (platform, stage, expected) in [
        ("linux/arm/v7", None, "linux/arm/v7 linux arm [v7] [] last"),
        (
            "linux/aarch64",
            Some("first"),
            "linux/arm64 linux arm64 [] [] first",
        ),
        (
            "windows(10.0)/x86_64",
            None,
            "windows(10.0)/amd64 windows amd64 [] [10.0] last",
        ),
    ] {
        let text = format!("FROM scratch AS first\nARG {names}\nLABEL x=\"{all}\"\nFROM first AS last\n");
        let request = Request {
            targets: vec![Target {
                stage: stage.map(str::to_owned),
                ..Target::default()
            }],
            ..request(&[platform])
        };
        let plan = plan(&text, &request, &[]).unwrap();
        let labels = plan.images[0].state.image.config.labels.clone().unwrap();
        assert_eq!(labels["x"], format!("{build} {expected}"), "{platform}");
    }
}

/// Of several targets each is finished, and what they share is there once.
#[test]
fn targets() {
    let file = "FROM busybox AS base\nRUN 1\nFROM base AS a\nRUN 2\nFROM base AS b\nARG TARGETSTAGE\nLABEL t=$TARGETSTAGE\nFROM never\n";
    let target = |stage: &str| Target {
        stage: Some(stage.to_owned()),
        ..Target::default()
    };
    let request = Request {
        targets: vec![target("a"), target("b"), target("b")],
        ..Request::default()
    };
    let plan = plan(file, &request, &[]).unwrap();
    let names = [
        "[base 1/2] FROM docker.io/library/busybox:latest",
        "[base 2/2] RUN 1",
        "[a 1/1] RUN 2",
    ];
    assert_eq!(plan.names, names);
    let rootfs: Vec<_> = plan.images.iter().map(|image| image.state.rootfs).collect();
    assert_eq!(rootfs, [Some(2), Some(1), Some(1)]);
    assert_eq!(
        plan.images[1].state.image.config.labels.as_ref().unwrap()["t"],
        "b"
    );
}

/// What the request says and nothing hears.
#[test]
fn unused() {
    let request = Request {
        build_args: ["A", "B", "C", "TARGETOS", "http_proxy", "BUILDKIT_X"]
            .into_iter()
            .map(|name| (name.to_owned(), Some("1".to_owned())))
            .collect(),
        no_cache_filter: vec!["BASE".to_owned(), "bsae".to_owned()],
        ..Request::default()
    };
    let file = "FROM busybox AS base\nARG A\nRUN 1\nFROM scratch AS other\nARG C\nFROM base\nRUN 2\nCOPY a /\nWORKDIR /w\n";
    let plan = plan(file, &request, &[]).unwrap();
    assert_eq!(
        plan.unused,
        (vec!["B".to_owned(), "C".to_owned()], vec!["bsae".to_owned()])
    );
    let ignoring: Vec<&str> = plan
        .steps
        .iter()
        .filter(|step| step.no_cache)
        .map(|step| step.info.name.as_str())
        .collect();
    assert_eq!(ignoring, ["[base 2/2] RUN 1"]);
}
