//! Configs and histories equal to those that BuildKit has made of the same files.

use std::fs;
use std::path::Path;

use cooper_builder::build::Request;
use serde_json::Value;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[("recorded_history", recorded), ("times_of_history", times)];

/// Every directory of `testdata/history` has a Dockerfile, a `context`, flags of `docker build`, and `recorded.json`, the
/// config that `record.py` got of BuildKit 0.25 for them; without times and layers, which are its own.
fn recorded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/history");
    let mut cases = 0;
    for entry in fs::read_dir(&root).unwrap() {
        let case = entry.unwrap().path();
        if !case.is_dir() {
            continue;
        }
        cases += 1;
        let world = World::new();
        for file in fs::read_dir(case.join("context")).unwrap() {
            let path = file.unwrap().path();
            fs::copy(&path, world.context().join(path.file_name().unwrap())).unwrap();
        }
        let dockerfile = fs::read_to_string(case.join("Dockerfile")).unwrap();
        let flags = fs::read_to_string(case.join("flags")).unwrap();
        let request = with_flags(world.request(&dockerfile), &flags);
        let (image, _) = world.build_request(&request);
        let mut found = serde_json::to_value(&image.config).unwrap();
        let mut expected: Value =
            serde_json::from_slice(&fs::read(case.join("recorded.json")).unwrap()).unwrap();
        for config in [&mut found, &mut expected] {
            let config = config.as_object_mut().unwrap();
            config.remove("created");
            config.remove("rootfs");
            let history = config["history"].as_array_mut().unwrap();
            for entry in history.iter_mut() {
                entry.as_object_mut().unwrap().remove("created");
            }
            // That of the base.
            if !dockerfile.starts_with("FROM scratch") {
                history.remove(0);
            }
        }
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
        let (found, expected) = (pretty(&found), pretty(&expected));
        let lines = found.lines().zip(expected.lines());
        let differing = lines.enumerate().find(|(_, (found, expected))| found != expected);
        assert_eq!(differing, None, "{}", case.display());
        assert_eq!(found.len(), expected.len(), "{}", case.display());
    }
    assert!(cases >= 6);
}

fn with_flags(mut request: Request, flags: &str) -> Request {
    let words: Vec<&str> = flags.split_whitespace().collect();
    for pair in words.chunks(2) {
        let [flag, value] = pair else { panic!("{flags}") };
        let (key, rest) = value.split_once('=').unwrap_or((value, ""));
        match *flag {
            "--build-arg" => {
                request.build_args.insert(key.to_owned(), Some(rest.to_owned()));
            }
            "--label" => {
                request.labels.insert(key.to_owned(), rest.to_owned());
            }
            "--platform" => request.platforms.push(value.parse().unwrap()),
            flag => panic!("{flag}"),
        }
    }
    request
}

/// Entries without a layer have the time of one beside them; with an epoch all are clamped to it, the base's too.
fn times() {
    let world = World::new();
    let dockerfile = "FROM busybox\nENV A=1\nRUN true\nENV B=1\n";
    for (epoch, expected) in [
        (Some(1_500_000_000), "2017-07-14T02:40:00Z"),
        (Some(1_600_000_000), "2020-09-13T12:26:40Z"),
    ] {
        let (image, _) = world.build_request(&Request {
            source_date_epoch: epoch,
            ..world.request(dockerfile)
        });
        let times: Vec<&str> = image
            .config
            .history
            .iter()
            .map(|entry| entry.created.as_deref().unwrap())
            .collect();
        let base = if expected < crate::world::BASE_TIME {
            expected
        } else {
            crate::world::BASE_TIME
        };
        assert_eq!(times, [base, expected, expected, expected]);
        assert_eq!(image.config.created.as_deref(), Some(expected));
    }
}
