//! Events: told by every process of the data root, seen by every engine.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::Test;
use crate::daemon::{Daemon, run};
use crate::world::{Service, World, tool};

pub(crate) const TESTS: &[Test] = &[
    ("events::of_one_run", of_one_run),
    ("events::of_other_engines", of_other_engines),
    ("events::docker", docker),
];

const ACTIONS: &str = "{{.Type}} {{.Action}}";

fn history(world: &World, more: &[&str]) -> Vec<String> {
    let arguments = [
        &["events", "--since", "1h", "--until", "0s", "--format", ACTIONS],
        more,
    ]
    .concat();
    world.ok(&arguments).lines().map(str::to_owned).collect()
}

fn of_one_run(world: &World) {
    world.ok(&[
        "run",
        "--rm",
        "--name",
        "one",
        "--label",
        "l=v",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    let filter = ["--filter", "type=container"];
    let expected = [
        "container create",
        "container start",
        "container die",
        "container destroy",
    ];
    assert_eq!(history(world, &filter), expected);
    let failed = world.cooper(&[
        "run",
        "--name",
        "two",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "exit 7",
    ]);
    assert_eq!(failed.code, 7);
    world.ok(&["rename", "two", "three"]);
    world.ok(&["rm", "three"]);
    world.ok(&["tag", "busybox", "other"]);
    world.ok(&["rmi", "other"]);
    let two = ["--filter", "container=three"];
    assert_eq!(history(world, &two), ["container rename", "container destroy"]);
    assert_eq!(history(world, &["--filter", "label=l=v"]), expected);
    assert_eq!(
        history(world, &["--filter", "type=image"]),
        ["image import", "image tag", "image untag"]
    );
    let die = [
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "event=die",
        "--format",
        "{{json .Actor.Attributes}}",
    ];
    let die = world.ok(&[&["events"], &die[..]].concat());
    let die: serde_json::Value = serde_json::from_str(die.lines().last().unwrap()).unwrap();
    assert_eq!(
        (die["exitCode"].as_str(), die["name"].as_str()),
        (Some("7"), Some("two"))
    );
    assert_eq!(die["image"], "busybox");
}

/// A follower in one process sees what engines and supervisors in others do; the engine that started a container has
/// long gone when it ends.
fn of_other_engines(world: &World) {
    let mut follower = Service(
        world
            .command(&["events", "--filter", "type=container", "--format", ACTIONS])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(follower.0.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    // Followers begin to follow at a time nobody can know, so something happens until one is seen.
    let id = loop {
        let id = world.ok(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]);
        if history(world, &[]).len() > 2 {
            break id;
        }
    };
    world.ok(&["exec", &id, "true"]);
    world.ok(&["pause", &id]);
    world.ok(&["unpause", &id]);
    world.ok(&["stop", "-t", "0", &id]);
    world.ok(&["rm", &id]);
    let mut seen = Vec::new();
    for line in &mut lines {
        let end = line == "container destroy";
        seen.push(line);
        if end {
            break;
        }
    }
    let from = seen
        .iter()
        .position(|line| line.starts_with("container exec_create"))
        .unwrap();
    let expected = [
        "container exec_create: true",
        "container exec_start: true",
        "container exec_die",
        "container pause",
        "container unpause",
        "container kill",
        "container kill",
        "container die",
        "container stop",
        "container destroy",
    ];
    assert_eq!(seen[from..], expected);
}

fn docker(world: &World) {
    let Some(docker) = tool("docker") else { return };
    let daemon = Daemon::start(world);
    world.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--name",
        "web",
        "busybox",
        "true",
    ]);
    // docker sends whole seconds, so that "now" may be before what has just happened.
    let until = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 1;
    let until = until.to_string();
    let arguments = [
        "events",
        "--since",
        "1h",
        "--until",
        &until,
        "--filter",
        "container=web",
        "--format",
        "{{.Action}} {{.Actor.Attributes.image}}",
    ];
    let ended = run(&docker, &daemon.host(), &arguments);
    let expected = "create busybox\nstart busybox\ndie busybox\ndestroy busybox\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (0, expected), "{ended:?}");
    let ended = run(
        &docker,
        &daemon.host(),
        &["events", "--since", "1h", "--until", "0s", "--filter", "nope=x"],
    );
    assert_ne!(ended.code, 0, "{ended:?}");
    daemon.stop();
}
