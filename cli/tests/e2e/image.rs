//! Images: names, inspection, export, housekeeping.

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[
    ("image::names", names),
    ("image::save_and_load", save_and_load),
    ("image::prune", prune),
    ("image::bad_tars", bad_tars),
];

fn names(world: &World) {
    let id = world.ok(&["images", "-q", "--no-trunc"]);
    let table = world.ok(&["images"]);
    assert!(
        table.starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"),
        "{table}"
    );
    assert!(
        table
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("busybox      latest    "),
        "{table}"
    );
    world.ok(&["tag", "busybox", "localhost:5000/a/b:c"]);
    let mut names: Vec<String> = world
        .ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    assert_eq!(names, ["busybox:latest", "localhost:5000/a/b:c"]);
    assert_eq!(
        world.ok(&[
            "inspect",
            "-f",
            "{{.Id}} {{json .Config.Cmd}}",
            "localhost:5000/a/b:c"
        ]),
        format!("{id} [\"sh\"]")
    );
    assert!(
        world
            .ok(&["history", "busybox"])
            .starts_with("IMAGE          CREATED")
    );
    assert_eq!(
        world.ok(&["rmi", "localhost:5000/a/b:c"]),
        "Untagged: localhost:5000/a/b:c"
    );
    world.ok(&["create", "--name", "user", "busybox"]);
    assert_eq!(
        world.cooper(&["rmi", "busybox"]).code,
        1,
        "an image in use must not be removable"
    );
    world.ok(&["rm", "user"]);
    assert!(world.ok(&["rmi", "busybox"]).contains(&format!("Deleted: {id}")));
    assert_eq!(world.cooper(&["rmi", "busybox"]).code, 1);
}

fn save_and_load(world: &World) {
    let id = world.ok(&["images", "-q", "--no-trunc"]);
    let tar = world.path("image.tar");
    let tar = tar.to_str().unwrap();
    world.ok(&["save", "-o", tar, "busybox"]);
    world.ok(&["rmi", "busybox"]);
    assert_eq!(world.ok(&["images", "-q"]), "");
    assert_eq!(world.ok(&["load", "-i", tar]), "Loaded image: busybox:latest");
    assert_eq!(world.ok(&["images", "-q", "--no-trunc"]), id);
    assert_eq!(world.ok(&["run", "--rm", "busybox", "echo", "again"]), "again");
}

fn prune(world: &World) {
    world.ok(&["run", "--name", "done", "busybox", "true"]);
    let report = world.ok(&["system", "prune", "-af"]);
    assert!(
        report.contains("Deleted Containers:") && report.contains("Total reclaimed space:"),
        "{report}"
    );
    assert_eq!(
        (world.ok(&["ps", "-aq"]), world.ok(&["images", "-q"])),
        (String::new(), String::new())
    );
    let table = world.ok(&["system", "df"]);
    assert!(
        table
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("Images          0         0  "),
        "{table}"
    );
}

fn bad_tars(world: &World) {
    for content in [&b"this is not a tar"[..], &[0x1f, 0x8b, 0x08, 0x00, 0xff]] {
        let output = world.with_input(&["import", "-", "bad:1"], content);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!output.stderr.is_empty());
        let output = world.with_input(&["load"], content);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    assert_eq!(world.ok(&["images", "--format", "{{.Repository}}"]), "busybox");
}
