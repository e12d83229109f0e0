//! Whole Dockerfiles: config, history and layers as BuildKit 0.25 makes them.

use std::fs;
use std::path::Path;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("cases", cases),
    ("times", times),
    ("epoch", epoch),
    ("base_config", base_config),
    ("parallel", parallel),
];

/// Every directory of `testdata/builds` has a Dockerfile, maybe a `context`, and `expected`: the config as
/// JSON, a line for every history entry (`*` where it has a layer), and the files of each layer made here.
/// `UPDATE_EXPECTED=1` writes it anew, for a reader to compare with BuildKit's result.
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/builds");
    let mut names: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for case in names {
        let world = World::new();
        copy_tree(&case.join("context"), &world.context());
        let (image, outcome) = world.build(&fs::read_to_string(case.join("Dockerfile")).unwrap());
        let mut text = serde_json::to_string_pretty(&image.config.config).unwrap();
        text.push('\n');
        if let Some(author) = &image.config.author {
            text.push_str(&format!("author {author}\n"));
        }
        for entry in &image.config.history {
            let mark = if entry.empty_layer { ' ' } else { '*' };
            text.push_str(&format!("{mark} {:?} {}\n", entry.created_by, entry.comment));
        }
        for index in (0..image.config.rootfs.diff_ids.len()).rev() {
            text.push_str(&format!("layer {index}\n"));
            for entry in world
                .layer(&image, index)
                .iter()
                .filter(|entry| !entry.starts_with("bin/"))
            {
                text.push_str(&format!("  {entry}\n"));
            }
        }
        text.push_str(&format!("output {:?}\n", outcome.output()));
        let expected = case.join("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        assert_eq!(
            text,
            fs::read_to_string(&expected).unwrap_or_default(),
            "{}",
            case.display()
        );
        world.assert_clean();
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).into_iter().flatten() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// History has the times of its layers; a cached rebuild gives the same image.
fn times() {
    let world = World::new();
    world.write("a", "1");
    let dockerfile = "FROM busybox\nENV A=1\nCOPY a /\nENV B=1\nRUN true\nCMD x\n";
    let (first, _) = world.build(dockerfile);
    let times: Vec<_> = first
        .config
        .history
        .iter()
        .map(|entry| entry.created.clone().unwrap())
        .collect();
    assert_eq!(times[0], crate::world::BASE_TIME);
    assert_eq!(
        times[1], times[2],
        "a first entry without layer has the time of the first new layer"
    );
    assert_eq!(times[3], times[2]);
    assert!(times[4] > times[3]);
    assert_eq!(times[5], times[4]);
    assert_eq!(first.config.created.as_ref(), times.last());
    let (second, outcome) = world.build(dockerfile);
    assert_eq!(outcome.executed(), Vec::<String>::new());
    assert_eq!(first.id, second.id);
}

/// With an epoch two builds without cache give the same image, in different stores too.
fn epoch() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let world = World::new();
        world.write("d/a", "1");
        for _ in 0..2 {
            let dockerfile = "FROM busybox\nWORKDIR /w\nRUN date +%N > now && echo > now && mkdir -p /x/y\nCOPY d d\nUSER user\nWORKDIR o\nCMD x\n";
            let request = cooper_builder::build::Request {
                no_cache: true,
                source_date_epoch: Some(1_600_000_000),
                ..world.request(dockerfile)
            };
            let (image, _) = world.build_request(&request);
            assert_eq!(image.config.created.as_deref(), Some("2020-09-13T12:26:40Z"));
            ids.push(image.id.to_string());
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

/// What comes from the base's config.
fn base_config() {
    use cooper_registry::oci::RunConfig;
    let list = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
    let world = World::new();
    world.add_base(
        "based",
        RunConfig {
            env: list(&["A=1", "PATH=/bin"]),
            cmd: list(&["c"]),
            entrypoint: list(&["e"]),
            working_dir: "/base".to_owned(),
            user: "user".to_owned(),
            ..RunConfig::default()
        },
    );
    for (dockerfile, entrypoint, cmd) in [
        ("FROM based\n", list(&["e"]), list(&["c"])),
        ("FROM based\nENTRYPOINT [\"f\"]\n", list(&["f"]), None),
        (
            "FROM based\nCMD [\"d\"]\nENTRYPOINT [\"f\"]\n",
            list(&["f"]),
            list(&["d"]),
        ),
        (
            "FROM based AS one\nCMD [\"d\"]\nFROM one\nENTRYPOINT [\"f\"]\n",
            list(&["f"]),
            None,
        ),
    ] {
        let (image, _) = world.build(dockerfile);
        assert_eq!(
            (image.config.config.entrypoint, image.config.config.cmd),
            (entrypoint, cmd),
            "{dockerfile}"
        );
    }
    let (_, outcome) = world.build("FROM based\nRUN echo $A $PATH $(pwd) $(id -u):$(id -g)\n");
    assert_eq!(outcome.output(), "1 /bin /base 1000:1001\n");
}

/// Stages that do not need each other run at the same time: each waits for a sign of the other through the same FIFO.
fn parallel() {
    let world = World::new();
    let dockerfile = "FROM busybox AS a\nRUN sleep 1\nFROM busybox AS b\nRUN sleep 1.0\nFROM busybox AS unused\nRUN false\nFROM nosuch AS never\nFROM scratch\nCOPY --from=a /etc/group /a\nCOPY --from=b /etc/group /b\n";
    let request = cooper_builder::build::Request {
        parallelism: 2,
        ..world.request(dockerfile)
    };
    let (_, outcome) = world.build_request(&request);
    use cooper_builder::build::Event::{Done, Started};
    let at = |wanted: &dyn Fn(&cooper_builder::build::Event) -> bool| {
        outcome.events.iter().position(wanted).unwrap()
    };
    let (first, second) = (1, 2);
    assert!(
        at(&|event| *event == Started { step: second })
            < at(&|event| matches!(event, Done { step, .. } if *step == first))
    );
}
