//! Builds of several processes that meet in one store, and what is left of one that is killed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use cooper_builder::build::{Error, Event, Request, build};
use cooper_registry::store::{GcOptions, Store};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("flight_of_processes", flight_of_processes),
    ("flight_of_a_cancelled_owner", flight_of_a_cancelled_owner),
    ("flight_of_a_killed_owner", flight_of_a_killed_owner),
    ("killed_again_and_again", killed_again_and_again),
];

/// Set in a process that is to run one build: its store, its run-time directory and its request, a line each.
const CHILD: &str = "COOPER_TEST_BUILD";

/// Runs the build that the environment describes, if it does: a line of JSON for each event.
pub(crate) fn child() -> Option<ExitCode> {
    let text = std::env::var(CHILD).ok()?;
    let [store, exec_root, request] = text.splitn(3, '\n').collect::<Vec<_>>()[..] else {
        return Some(ExitCode::from(2));
    };
    let store = Store::open(Path::new(store)).unwrap();
    let request: Request = serde_json::from_str(request).unwrap();
    let world = World::with_store(store);
    let output = Mutex::new(());
    let events = |event: Event| {
        let _one = output.lock().unwrap();
        println!("{}", serde_json::to_string(&event).unwrap());
    };
    let services = world.services();
    let result = build(
        &world.store,
        Path::new(exec_root),
        &request,
        &services,
        &events,
        &AtomicBool::new(false),
    );
    Some(match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn spawn(world: &World, exec_root: &str, request: &Request) -> Child {
    let text = format!(
        "{}\n{}\n{}",
        world.store.root().display(),
        world.dir.path().join(exec_root).display(),
        serde_json::to_string(request).unwrap()
    );
    Command::new(std::env::current_exe().unwrap())
        .env(CHILD, text)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Its output up to the end.
fn finish(mut child: Child) -> String {
    let text = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

/// Waits until the RUN of `child` has printed `text`.
fn wait_for(child: &mut Child, text: &str) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(&format!("\"text\":\"{text}"))));
}

/// Equal steps are executed once though nothing but the store is common to the processes.
fn flight_of_processes() {
    let world = World::new();
    let request = world.request("FROM busybox\nRUN echo ran; sleep 0.3\nRUN echo also; sleep 0.1\n");
    let children: Vec<Child> = (0..3)
        .map(|i| spawn(&world, &format!("exec-{i}"), &request))
        .collect();
    let output: String = children.into_iter().map(finish).collect();
    for text in ["ran", "also"] {
        assert_eq!(
            output.matches(&format!("\"text\":\"{text}")).count(),
            1,
            "{output}"
        );
    }
    world.assert_clean();
}

fn flight_of_a_cancelled_owner() {
    let world = World::new();
    let request = world.request("FROM busybox\nRUN echo begun; sleep 0.5\n");
    let cancelled = AtomicBool::new(false);
    let (sender, begun) = mpsc::channel();
    let (owner, waiter) = std::thread::scope(|scope| {
        let (world, request, cancelled) = (&world, &request, &cancelled);
        let owner = scope.spawn(move || {
            let events = |event: Event| {
                if let Event::Output { .. } = event {
                    sender.send(()).unwrap();
                }
            };
            let services = world.services();
            build(
                &world.store,
                &world.exec_root(),
                request,
                &services,
                &events,
                cancelled,
            )
        });
        begun.recv().unwrap();
        let waiter = scope.spawn(move || world.run(request));
        let held = || fs::read_dir(world.store.root().join("locks")).unwrap().count();
        assert_eq!(held(), 2, "the collector's lock and the step's");
        cancelled.store(true, Ordering::Relaxed);
        (owner.join().unwrap(), waiter.join().unwrap())
    });
    assert!(matches!(owner, Err(Error::Cancelled)));
    assert!(waiter.result.is_ok());
    assert_eq!(waiter.output(), "begun\n");
    world.assert_clean();
}

fn flight_of_a_killed_owner() {
    let world = World::new();
    let request = world.request("FROM busybox\nRUN echo begun; sleep 0.5\n");
    let mut owner = spawn(&world, "exec-owner", &request);
    wait_for(&mut owner, "begun");
    let waiter = spawn(&world, "exec-waiter", &request);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let killed = Instant::now();
    let output = finish(waiter);
    assert!(
        output.contains("\"text\":\"begun"),
        "the waiter executed the step itself"
    );
    assert!(killed.elapsed() < Duration::from_secs(5));
    let left = |name: &str| fs::read_dir(world.store.root().join(name)).unwrap().count();
    assert_eq!(left("locks"), 1, "only the collector's");
    world.store.gc(&GcOptions::default(), &|_| false).unwrap();
    world.assert_clean();
}

/// Wherever a build is killed, the next one goes on, and nothing of the killed ones stays.
fn killed_again_and_again() {
    let world = World::new();
    let mut request = world.request("FROM busybox\nRUN true\nRUN echo x > /x\nRUN true\nRUN true\n");
    request.no_cache = true;
    let run_time = |name: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(world.dir.path().join(name)).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("build-"))
            .collect()
    };
    for round in 0..30 {
        let mut child = spawn(&world, "exec", &request);
        std::thread::sleep(Duration::from_millis(5 + round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    finish(spawn(&world, "exec", &request));
    assert_eq!(run_time("exec"), Vec::<PathBuf>::new());
    world.store.gc(&GcOptions::default(), &|_| false).unwrap();
    world.assert_clean();
}
