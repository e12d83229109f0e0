//! Builds: a table of small Dockerfiles, the cache, errors.

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[
    ("build::dockerfiles", dockerfiles),
    ("build::second_build_is_cached", second_build_is_cached),
    ("build::errors_point_at_the_line", errors_point_at_the_line),
    ("build::from_stdin_and_outside", from_stdin_and_outside),
    ("build::run_build", run_build),
    ("build::progress", progress),
];

fn dockerfiles(world: &World) {
    world.write("context/file", "content\n");
    world.write("context/dir/inner", "inner\n");
    world.write("context/ignored", "x");
    world.write("context/.dockerignore", "ignored\n");
    for (index, (dockerfile, command, expected)) in [
        ("FROM busybox\nCOPY file /f\nCMD [\"cat\", \"/f\"]\n", &[][..], "content"),
        ("FROM busybox\nRUN echo built > /f && echo noise\nENTRYPOINT [\"cat\"]\n", &["/f"], "built"),
        ("FROM busybox\nENV A=1 B=\"two words\"\nCMD echo $A $B\n", &[], "1 two words"),
        ("ARG V=7\nFROM busybox\nARG V\nRUN echo $V > /v\nCMD cat /v\n", &[], "7"),
        ("FROM busybox\nWORKDIR /a\nWORKDIR b\nUSER nobody\nCMD pwd; id -u\n", &[], "/a/b\n65534"),
        ("FROM busybox AS one\nRUN echo one > /o\nFROM busybox\nCOPY --from=one --chmod=600 /o /p\nCMD stat -c %a /p; cat /p\n", &[], "600\none"),
        ("FROM busybox\nCOPY --chown=nobody dir /d\nCMD stat -c %u /d/inner; ls /d\n", &[], "65534\ninner"),
        ("FROM busybox\nCOPY . /all\nCMD ls /all\n", &[], "Dockerfile\ndir\nfile"),
        ("FROM busybox\nRUN rm /etc/group && mkdir /etc/new\nCMD ls -d /etc/group /etc/new 2>/dev/null\n", &[], "/etc/new"),
        ("FROM busybox\nLABEL a=b\nEXPOSE 80\nVOLUME /data\nSTOPSIGNAL INT\nSHELL [\"sh\", \"-ec\"]\nRUN true\nCMD echo ok\n", &[], "ok"),
    ]
    .into_iter()
    .enumerate()
    {
        world.write("context/Dockerfile", dockerfile);
        let tag = format!("case{index}");
        let context = world.path("context");
        world.ok(&["build", "-t", &tag, context.to_str().unwrap()]);
        let got = world.cooper(&[&["run", "--rm", &tag], command].concat());
        assert_eq!(got.stdout.trim_end(), expected, "{dockerfile}\n{got:?}");
    }
}

fn second_build_is_cached(world: &World) {
    world.write("context/Dockerfile", "FROM busybox\nRUN date +%s%N > /now\n");
    let context = world.path("context");
    let build = |flags: &[&str]| world.ok(&[&["build", "-q"], flags, &[context.to_str().unwrap()]].concat());
    let first = build(&[]);
    assert!(first.starts_with("sha256:"), "{first}");
    assert_eq!(build(&[]), first);
    assert_ne!(build(&["--no-cache"]), first);
}

fn errors_point_at_the_line(world: &World) {
    let context = world.path("context");
    for (dockerfile, parts) in [
        (
            "FROM busybox\nFROBNICATE x\n",
            &["Dockerfile:2", "FROBNICATE"][..],
        ),
        ("FROM busybox\nCOPY missing /x\n", &["missing"]),
        ("FROM busybox\nRUN exit 3\n", &["exit 3", "3"]),
        ("RUN true\n", &["FROM"]),
        ("", &["empty"]),
        ("FROM no-such-base.invalid/x\n", &["no-such-base.invalid/x"]),
    ] {
        world.write("context/Dockerfile", dockerfile);
        let ended = world.cooper(&["build", "-t", "broken", context.to_str().unwrap()]);
        assert_eq!(ended.code, 1, "{dockerfile}\n{ended:?}");
        for part in parts {
            assert!(
                ended.stderr.contains(part),
                "{dockerfile}: `{part}` is missing in\n{}",
                ended.stderr
            );
        }
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(world.ok(&["images", "-q", "broken"]), "");
}

fn from_stdin_and_outside(world: &World) {
    let output = world.with_input(&["build", "-q", "-"], b"FROM busybox\nCMD echo from stdin\n");
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(world.ok(&["run", "--rm", &id]), "from stdin", "{output:?}");
    world.write("context/file", "content\n");
    let outside = world.write(
        "Outside",
        "FROM busybox\nCOPY . /all/\nCMD ls -A /all; cat /all/file\n",
    );
    let context = world.path("context");
    let id = world.ok(&[
        "build",
        "-q",
        "-f",
        outside.to_str().unwrap(),
        context.to_str().unwrap(),
    ]);
    assert_eq!(world.ok(&["run", "--rm", &id]), "file\ncontent");
}

fn run_build(world: &World) {
    world.write(
        "context/Dockerfile",
        "FROM busybox\nRUN echo fresh > /f\nENTRYPOINT [\"cat\"]\n",
    );
    let context = world.path("context");
    assert_eq!(
        world.ok(&["run", "--rm", "--build", context.to_str().unwrap(), "/f"]),
        "fresh"
    );
    world.write("context/Dockerfile", "FROM busybox\nRUN false\n");
    assert_eq!(
        world
            .cooper(&["run", "--rm", "--build", context.to_str().unwrap()])
            .code,
        125
    );
}

fn progress(world: &World) {
    world.write("context/Dockerfile", "FROM busybox\nRUN echo visible\n");
    let context = world.path("context");
    let context = context.to_str().unwrap();
    let plain = world.cooper(&["build", "-t", "named", "--progress", "plain", context]);
    assert_eq!((plain.code, plain.stdout.as_str()), (0, ""));
    for part in ["RUN echo visible", " visible\n", "DONE ", "named:latest done"] {
        assert!(
            plain.stderr.contains(part),
            "`{part}` is missing in\n{}",
            plain.stderr
        );
    }
    assert!(
        world
            .cooper(&["build", "--progress", "plain", context])
            .stderr
            .contains(" CACHED")
    );
    let raw = world.ok(&["build", "--progress", "rawjson", context]);
    assert!(raw.lines().all(|line| line.starts_with("{\"event\":")), "{raw}");
}
