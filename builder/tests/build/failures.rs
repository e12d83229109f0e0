//! Builds that fail or are cancelled, and what they leave.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cooper_builder::build::{Context, Error, Event, Request, Target};
use cooper_builder::context::tar_directory;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("failing_run", failing_run),
    ("failure_stops_the_rest", failure_stops_the_rest),
    ("cancelled", cancelled),
    ("dockerfiles", dockerfiles),
    (
        "special_files_are_no_dockerfiles",
        special_files_are_no_dockerfiles,
    ),
    ("sandbox", sandbox),
    ("packed_context", packed_context),
];

fn failing_run() {
    let world = World::new();
    for (instruction, code, output) in [
        ("RUN echo before; echo why >&2; exit 3", 3, "before\nwhy\n"),
        ("RUN [\"/bin/nosuch\"]", 127, ""),
        ("RUN [\"/etc/passwd\"]", 126, ""),
        ("RUN sh -c 'kill -9 $$'; exit $?", 137, "Killed\n"),
    ] {
        let outcome = world.run(&world.request(&format!("FROM busybox\n{instruction}\n")));
        match outcome.result {
            Err(Error::Run {
                code: found,
                excerpt,
                command,
            }) => {
                assert_eq!(found, code, "{instruction}: {excerpt}");
                let (step, rest) = excerpt.split_once('\n').unwrap();
                assert!(
                    step.starts_with(" > [2/2] RUN ") && step.ends_with(':'),
                    "{excerpt}"
                );
                assert!(rest.starts_with(output), "{excerpt}");
                assert!(
                    excerpt.contains("Dockerfile:2:1") && excerpt.contains("^^^"),
                    "{excerpt}"
                );
                assert!(!command.is_empty());
            }
            other => panic!("{instruction}: {other:?}"),
        }
        assert!(
            outcome
                .events
                .iter()
                .any(|event| matches!(event, Event::Failed { step: 1, .. }))
        );
        assert!(world.store.images().unwrap().len() == 1, "only the base");
        world.assert_clean();
    }
}

fn failure_stops_the_rest() {
    let world = World::new();
    let dockerfile = "FROM busybox AS slow\nRUN sleep 60\nFROM busybox AS bad\nRUN sleep 0.2; exit 5\nFROM scratch\nCOPY --from=slow / /\nCOPY --from=bad / /\n";
    let started = Instant::now();
    let outcome = world.run(&Request {
        parallelism: 2,
        ..world.request(dockerfile)
    });
    assert!(
        matches!(outcome.result, Err(Error::Run { code: 5, .. })),
        "{:?}",
        outcome.result
    );
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    world.assert_clean();
}

fn cancelled() {
    let world = World::new();
    let flag = AtomicBool::new(false);
    let asked = std::sync::Mutex::new(None);
    // Cancelled once the processes run, of which one has left its parent.
    let watch = |event: &Event| {
        if matches!(event, Event::Output { .. }) {
            *asked.lock().unwrap() = Some(Instant::now());
            flag.store(true, Ordering::Relaxed);
        }
    };
    let request =
        world.request("FROM busybox\nRUN sh -c 'trap \"\" TERM INT; sleep 61 & echo up'; sleep 62\n");
    let outcome = world.run_watched(&request, &flag, &watch);
    let took = asked.lock().unwrap().unwrap().elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(
        matches!(outcome.result, Err(Error::Cancelled)),
        "{:?}",
        outcome.result
    );
    let alive = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line == b"sleep\x0061\0" || line == b"sleep\x0062\0"
    });
    assert!(!alive, "a process of the build lives on");
    world.assert_clean();
}

/// Where the Dockerfile comes from.
fn dockerfiles() {
    let world = World::new();
    let from = |name: &str| Request {
        dockerfile_name: name.to_owned(),
        dockerfile: None,
        ..world.request("")
    };
    let missing = "failed to read dockerfile: open Dockerfile: no such file or directory";
    assert_eq!(world.run(&from("Dockerfile")).error(), missing);
    world.write("dockerfile", "FROM busybox\nENV lower=1\n");
    world.build_request(&from("Dockerfile"));
    world.write("sub/x", "FROM nosuch\n");
    let error = world.run(&from("sub/x")).error();
    assert!(error.contains("nosuch") && error.contains("sub/x:1:6"), "{error}");
    std::os::unix::fs::symlink("/etc/passwd", world.context().join("escape")).unwrap();
    assert!(
        world
            .run(&from("escape"))
            .error()
            .starts_with("failed to read dockerfile: open escape:")
    );
    let empty = Request {
        context: Context::Empty,
        ..world.request("FROM busybox\nCOPY a /\n")
    };
    assert!(world.run(&empty).error().contains("\"/a\": not found"));
    let unknown = Request {
        targets: vec![Target {
            stage: Some("bilud".to_owned()),
            ..Target::default()
        }],
        ..world.request("FROM busybox AS build\n")
    };
    assert!(
        world
            .run(&unknown)
            .error()
            .contains("target stage \"bilud\" could not be found")
    );
    world.assert_clean();
}

/// What a RUN sees.
fn sandbox() {
    let world = World::new();
    let mut request = world.request("FROM busybox\nARG A\nENV B=b\nWORKDIR /w\nUSER user\nRUN echo $A $B $(pwd) $(id -u):$(id -g) $(hostname) $HTTP_PROXY\n");
    request.build_args.insert("A".to_owned(), Some("a".to_owned()));
    request
        .build_args
        .insert("http_proxy".to_owned(), Some("proxy".to_owned()));
    let (image, outcome) = world.build_request(&request);
    assert_eq!(outcome.output(), "a b /w 1000:1001 buildkitsandbox proxy\n");
    let text = String::from_utf8(image.config_bytes).unwrap();
    assert!(!text.contains("proxy"), "{text}");
    world.assert_clean();
}

fn packed_context() {
    let world = World::new();
    for (path, content) in [
        ("Dockerfile", "FROM x"),
        (".dockerignore", "*\n!keep\n"),
        ("keep/a", "A"),
        ("secret", "S"),
    ] {
        world.write(path, content);
    }
    let pack = || {
        let mut out = Vec::new();
        tar_directory(&world.context(), None, &mut out).unwrap();
        out
    };
    let packed = pack();
    let mut archive = tar::Archive::new(packed.as_slice());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names, [".dockerignore", "Dockerfile", "keep", "keep/a"]);
    assert_eq!(packed, pack());
    let target = tempfile::tempdir().unwrap();
    let limits = cooper_builder::context::UnpackLimits::default();
    cooper_builder::context::untar(&mut packed.as_slice(), target.path(), limits).unwrap();
    assert_eq!(fs::read_to_string(target.path().join("keep/a")).unwrap(), "A");
}

/// Nothing waits for a writer of a pipe, and the error says what is wrong.
fn special_files_are_no_dockerfiles() {
    for (name, expected) in [
        (
            "Dockerfile",
            "failed to read dockerfile: open Dockerfile: not a regular file",
        ),
        (".dockerignore", "read .dockerignore: not a regular file"),
    ] {
        let world = World::new();
        let path = world.context().join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let outcome = world.run(&Request {
            dockerfile: None,
            ..world.request("")
        });
        assert_eq!(outcome.result.unwrap_err().to_string(), expected);
    }
}
