//! What is wrong with a plan, all of it at once.

use super::world::{plan, request, target};
use crate::build::Request;

#[test]
fn refused() {
    for (text, request, expected) in [
        (
            "FROM $NOTHING\n",
            Request::default(),
            &["base name ($NOTHING) should not be blank", "Dockerfile:1:6"] as &[&str],
        ),
        (
            "ARG VERSION=1\nFROM $VERSOIN\n",
            Request::default(),
            &[
                "base name ($VERSOIN) should not be blank",
                "did you mean VERSION?",
            ],
        ),
        (
            "FROM a AS x\nCOPY --from=1 / /\n",
            Request::default(),
            &["invalid stage index 1", "Dockerfile:2:13"],
        ),
        (
            "FROM a AS x\nCOPY --from=0 / /\n",
            Request::default(),
            &["circular dependency detected on stage: 0"],
        ),
        (
            "FROM a AS x\nCOPY --from=x / /\n",
            Request::default(),
            &["circular dependency detected on stage: x"],
        ),
        (
            "FROM a AS x\nRUN --mount=type=bind,from=y,target=/m true\nFROM b AS y\nFROM x\n",
            Request::default(),
            &[
                "cannot copy from stage \"y\", it needs to be defined before",
                "Dockerfile:2:28",
            ],
        ),
        (
            "FROM UPPER AS upper\nFROM b\nCOPY --from=uper: / /\n",
            Request::default(),
            &["invalid image name \"uper:\"", "did you mean upper?"],
        ),
        (
            "FROM a AS build\n",
            target("bild"),
            &["target stage \"bild\" could not be found", "did you mean build?"],
        ),
        (
            "FROM --platform=$NONE a\n",
            Request::default(),
            &["empty platform value from expression $NONE", "Dockerfile:1:17"],
        ),
        (
            "FROM --platform=$TARGETPLATFROM a\n",
            Request::default(),
            &["did you mean TARGETPLATFORM?"],
        ),
        (
            "FROM --platform=linux/a/b/c a\n",
            Request::default(),
            &["failed to parse platform linux/a/b/c"],
        ),
        // All at once, whatever they are about, and each once for all platforms.
        (
            "FROM scratch AS x\nCOPY --from=7 / /\nEXPOSE nan\nFROM $Y AS y\nFROM x\nCOPY --from=y / /\nCOPY --from=z / /\nFROM scratch AS z\nCOPY --from=2 / /\n",
            request(&["linux/amd64", "linux/arm64"]),
            &[
                "invalid stage index 7",
                "base name ($Y) should not be blank",
                "cannot copy from stage \"z\"",
            ],
        ),
        (
            "FROM scratch\nSTOPSIGNAL x\nCOPY --chown=${A:?first} a /\nEXPOSE nan\n",
            request(&["linux/amd64", "linux/arm64"]),
            &["invalid signal: x", "first", "invalid containerPort: nan"],
        ),
    ] {
        let error = plan(text, &request, &[]).unwrap_err();
        let mut at = 0;
        for part in expected {
            let found = error.find(part);
            assert!(found.is_some(), "{text}: {part:?} in {error}");
            at += 1;
        }
        let errors = error.matches("error: ").count();
        let mentions = if at == 3 { 3 } else { 1 };
        assert_eq!(errors, mentions, "{text}: {error}");
    }
}

/// Faults of stages that nobody needs are nobody's.
#[test]
fn unused_stages_are_not_looked_at() {
    let text = "FROM --platform=nonsense/// a AS x\nCOPY --from=9 / /\nFROM $NOTHING AS y\nFROM scratch\n";
    assert_eq!(
        plan(text, &Request::default(), &[]).unwrap().names,
        Vec::<String>::new()
    );
}
