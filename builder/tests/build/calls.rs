//! Runs the cases of `testdata/calls`: what a Dockerfile answers to each call.
//!
//! `BLESS=1 cargo test -p cooper-builder --test build -- calls` rewrites what is expected; read the difference before you commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use cooper_builder::build::{Context, Error, Request, Target};
use cooper_builder::call::{Call, Report, ask};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("calls::answers", answers),
    ("calls::json", json),
    ("calls::arguments", arguments),
];

fn request(directory: &Path, target: Option<&str>) -> Request {
    Request {
        context: Context::Directory(directory.to_owned()),
        targets: vec![Target {
            stage: target.map(str::to_owned),
            ..Target::default()
        }],
        ..Request::default()
    }
}

fn answer(world: &World, request: &Request, call: Call) -> Result<Report, Error> {
    ask(
        &world.store,
        request,
        &world.services(),
        call,
        &AtomicBool::new(false),
    )
}

fn cases() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/calls")
}

fn answers() {
    let world = World::new();
    let mut failures = String::new();
    let mut seen = 0;
    for case in fs::read_dir(cases()).expect("testdata/calls is there") {
        let case = case.unwrap().path();
        let mut found = String::new();
        for call in [Call::Check, Call::Targets, Call::Outline] {
            writeln!(found, "== {call:?}").unwrap();
            match answer(&world, &request(&case, None), call) {
                Ok(report) => writeln!(found, "{report}= exit code {}", report.exit_code()).unwrap(),
                Err(error) => write!(found, "{error}").unwrap(),
            }
        }
        let file = case.join("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &found).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if found != expected {
            writeln!(
                failures,
                "{}:\n--- expected\n{expected}\n--- found\n{found}",
                case.display()
            )
            .unwrap();
        }
        seen += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(seen >= 4, "only {seen} cases were found");
}

/// The JSON that tools read, field by field as BuildKit 0.26 writes it.
fn json() {
    let world = World::new();
    let value = |case: &str, target, call| {
        let report = answer(&world, &request(&cases().join(case), target), call).unwrap();
        serde_json::to_value(report).unwrap()
    };
    let check = value("suspicious", None, Call::Check);
    let warnings = check["warnings"].as_array().unwrap();
    let first = warnings
        .iter()
        .find(|found| found["ruleName"] == "StageNameCasing")
        .unwrap();
    assert_eq!(first["location"]["ranges"][0]["start"]["line"], 2);
    assert!(
        first["url"].as_str().unwrap().ends_with("/stage-name-casing/"),
        "{first}"
    );
    assert!(check["sources"][0]["data"].as_str().unwrap().len() > 100);
    let broken = value("broken", None, Call::Check);
    assert_eq!(broken["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
    let outline = value("documented", Some("test"), Call::Outline);
    assert_eq!(outline["name"], "test");
    assert_eq!(outline["secrets"][0]["name"], "token");
    assert_eq!(outline["secrets"][0]["required"], true);
    assert_eq!(outline["secrets"][1].get("required"), None);
    let targets = value("documented", None, Call::Targets);
    assert_eq!(targets["targets"][2]["default"], true);
    assert_eq!(targets["targets"][2]["platform"], "$BUILDPLATFORM");
}

/// Arguments of the command line: options that replace those of the file, values of an outline, a stage that is not there.
fn arguments() {
    let world = World::new();
    let with = |case: &str, target: Option<&str>, name: &str, value: &str, call| {
        let request = Request {
            build_args: BTreeMap::from([(name.to_owned(), Some(value.to_owned()))]),
            ..request(&cases().join(case), target)
        };
        answer(&world, &request, call).map_err(|error| error.to_string())
    };
    let rules = |options: &str| match with(
        "suspicious",
        None,
        "BUILDKIT_DOCKERFILE_CHECK",
        options,
        Call::Check,
    ) {
        Ok(Report::Check(found)) => found
            .warnings
            .iter()
            .map(|found| found.rule_name.clone())
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert!(rules("skip=all").is_empty());
    assert!(!rules("skip=StageNameCasing").contains(&"UnpinnedBaseImage".to_owned()));
    let error = with(
        "suspicious",
        None,
        "BUILDKIT_DOCKERFILE_CHECK",
        "skipp=all",
        Call::Check,
    )
    .unwrap_err();
    assert!(error.contains("did you mean skip"), "{error}");
    match with("documented", Some("test"), "VERSION", "9", Call::Outline) {
        Ok(Report::Outline(outline)) => {
            let version = outline.args.iter().find(|arg| arg.name == "VERSION").unwrap();
            assert_eq!(version.value.as_deref(), Some("9"));
            assert_eq!(version.description, "of the tool");
        }
        other => panic!("{other:?}"),
    }
    let error = with("documented", Some("relase"), "A", "", Call::Outline).unwrap_err();
    assert!(error.contains("did you mean release?"), "{error}");
}
