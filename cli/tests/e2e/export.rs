//! Results of builds as files, and read back by others.

use std::process::{Command, Stdio};

use crate::Test;
use crate::world::{Ended, World, tool};

pub(crate) const TESTS: &[Test] = &[
    ("export::files", files),
    ("export::archives", archives),
    ("export::refused", refused),
];

const DOCKERFILE: &str =
    "FROM busybox\nRUN mkdir /d && echo made > /d/file && chmod 600 /d/file && ln -s file /d/link\n";

fn build(world: &World, outputs: &[&str]) -> Ended {
    world.write("context/Dockerfile", DOCKERFILE);
    let context = world.path("context");
    let mut arguments = vec!["build", "-t", "built:1"];
    for output in outputs {
        arguments.extend(["-o", output]);
    }
    arguments.push(context.to_str().unwrap());
    world.cooper(&arguments)
}

/// A directory gets the files, and keeps what it had; a tar goes to stdout.
fn files(world: &World) {
    let out = world.path("out");
    world.write("out/mine", "kept");
    world.write("out/d/file", "replaced");
    let ended = build(world, &[out.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read_to_string(out.join("d/file")).unwrap(), "made\n");
    assert_eq!(std::fs::read_to_string(out.join("mine")).unwrap(), "kept");
    assert_eq!(
        std::fs::read_link(out.join("d/link")).unwrap().to_str(),
        Some("file")
    );
    assert!(out.join("bin/busybox").is_file());

    let mut command = world.command(&["build", "-q", "-o", "-"]);
    let output = command.arg(world.path("context")).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut archive = tar::Archive::new(output.stdout.as_slice());
    let found = archive
        .entries()
        .unwrap()
        .any(|entry| entry.unwrap().path().unwrap().ends_with("d/file"));
    assert!(found, "the tar on stdout has the file");
}

/// What skopeo and our own `load` make of the archives, in every compression.
fn archives(world: &World) {
    let skopeo = tool("skopeo");
    for (number, (kind, transport)) in [
        ("type=docker", "docker-archive"),
        ("type=oci", "oci-archive"),
        ("type=oci,compression=gzip", "oci-archive"),
        ("type=oci,compression=zstd,compression-level=1", "oci-archive"),
        ("type=oci,tar=false,compression=zstd", "oci"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = world.path(&format!("out{number}"));
        let output = format!("{kind},dest={}", path.display());
        let ended = build(world, &[&output]);
        assert_eq!(ended.code, 0, "{kind}: {ended:?}");
        assert!(
            std::fs::read_dir(path.parent().unwrap())
                .unwrap()
                .all(|entry| { !entry.unwrap().file_name().to_string_lossy().contains(".partial") })
        );
        if let Some(skopeo) = &skopeo {
            let source = format!("{transport}:{}", path.display());
            let target = format!("dir:{}", world.path(&format!("copy{number}")).display());
            let mut command = Command::new(skopeo);
            command.args(["--insecure-policy", "copy", "-q", &source, &target]);
            let ended = Ended::from(command.stdin(Stdio::null()).output().unwrap());
            assert_eq!(ended.code, 0, "{kind}: {ended:?}");
        }
        if path.is_file() {
            let id = world.ok(&["images", "-q", "--no-trunc", "built:1"]);
            world.ok(&["load", "-i", path.to_str().unwrap()]);
            assert_eq!(
                world.ok(&["run", "--rm", "built:1", "cat", "/d/file"]),
                "made",
                "{kind}"
            );
            assert!(!id.is_empty());
        }
    }
}

fn refused(world: &World) {
    for (output, expected) in [
        ("type=zip,dest=x", "unknown output type \"zip\""),
        ("type=local", "dest is required"),
        ("type=oci,dest=/proc/nowhere/x", "cannot write /proc/nowhere/x"),
    ] {
        let ended = build(world, &[output]);
        assert_ne!(ended.code, 0, "{output}");
        assert!(ended.stderr.contains(expected), "{output}: {ended:?}");
    }
}
