//! `POST /build` as docker's CLI without buildx and docker-py use it.

use std::process::Command;

use crate::Test;
use crate::daemon::Daemon;
use crate::world::{Ended, World, required, tool};

pub(crate) const TESTS: &[Test] = &[
    ("build_classic::docker_cli_text", docker_cli_text),
    ("build_classic::docker_cli_flags", docker_cli_flags),
    ("build_classic::docker_py", docker_py),
];

fn docker(world: &World, daemon: &Daemon, flags: &[&str]) -> Option<Ended> {
    let mut command = Command::new(tool("docker")?);
    command
        .env("DOCKER_BUILDKIT", "0")
        .args(["-H", &daemon.host(), "build"])
        .args(flags);
    Some(Ended::from(command.arg(world.path("context")).output().unwrap()))
}

fn docker_cli_text(world: &World) {
    let daemon = Daemon::start(world);
    world.write("context/file", "content\n");
    world.write(
        "context/Dockerfile",
        "FROM busybox\nRUN echo said\nCOPY file /\nCMD [\"cat\", \"/file\"]\n",
    );
    let Some(first) = docker(world, &daemon, &["-t", "a:1", "-t", "b"]) else {
        return;
    };
    assert_eq!(first.code, 0, "{first:?}");
    let id = world.ok(&["inspect", "-f", "{{.Id}}", "a:1"]);
    let short = &id.trim_start_matches("sha256:")[..12];
    let built =
        format!("Successfully built {short}\nSuccessfully tagged a:1\nSuccessfully tagged b:latest\n");
    assert!(
        first.stdout.contains("Step 2/3 : RUN echo said\nsaid\n"),
        "{first:?}"
    );
    assert!(first.stdout.ends_with(&built), "{first:?}");
    let second = docker(world, &daemon, &["-t", "a:1"]).unwrap();
    assert!(
        second
            .stdout
            .contains("Step 2/3 : RUN echo said\n ---> Using cache\n"),
        "{second:?}"
    );
    let quiet = docker(world, &daemon, &["-q"]).unwrap();
    assert_eq!(quiet.stdout.trim(), id);
    daemon.stop();
}

fn docker_cli_flags(world: &World) {
    let daemon = Daemon::start(world);
    world.write(
        "context/Dockerfile",
        "ARG A\nFROM busybox AS one\nARG A\nRUN echo $A > /a\nFROM busybox AS two\nRUN false\n",
    );
    let flags = [
        "-t",
        "flags",
        "--build-arg",
        "A=1",
        "--target",
        "one",
        "--label",
        "l=v",
        "--add-host",
        "other:10.0.0.1",
        "--memory",
        "64m",
        "--cpu-shares",
        "512",
        "--ulimit",
        "nofile=512:1024",
        "--shm-size",
        "1m",
        "--no-cache",
        "--network",
        "none",
        "--cache-from",
        "busybox",
        "--rm=false",
        "--force-rm",
    ];
    let Some(ended) = docker(world, &daemon, &flags) else {
        return;
    };
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(world.ok(&["run", "--rm", "flags", "cat", "/a"]), "1");
    assert_eq!(world.ok(&["inspect", "-f", "{{.Config.Labels.l}}", "flags"]), "v");
    let ended = docker(world, &daemon, &["--security-opt", "x"]).unwrap();
    assert!(
        ended.stderr.contains("does not support setting security options"),
        "{ended:?}"
    );
    let ended = docker(world, &daemon, &[]).unwrap();
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("returned a non-zero code: 1"), "{ended:?}");
    daemon.stop();
}

fn docker_py(world: &World) {
    const SCRIPT: &str = r#"
import io, sys, docker
client = docker.DockerClient(base_url=sys.argv[1])
image, log = client.images.build(path=sys.argv[2], tag='py:1', rm=True, pull=False, buildargs={'A': 'x'},
    labels={'l': 'v'}, extra_hosts={'other': '10.0.0.1'}, network_mode='host', shmsize=1 << 20,
    container_limits={'memory': 1 << 26}, platform='linux', cache_from=['busybox'])
assert image.tags == ['py:1'], image.tags
assert any('said x' in line.get('stream', '') for line in log)
_, again = client.images.build(path=sys.argv[2], tag='py:1', buildargs={'A': 'x'})
assert any('Using cache' in line.get('stream', '') for line in again)
image, _ = client.images.build(fileobj=io.BytesIO(b'FROM busybox\nCMD ["true"]\n'))
assert image.id.startswith('sha256:')
try:
    client.images.build(fileobj=io.BytesIO(b'FROM busybox\nRUN exit 9\n'))
except docker.errors.BuildError as error:
    assert 'returned a non-zero code: 9' in error.msg, error.msg
    assert any(line.get('errorDetail', {}).get('code') == 9 for line in error.build_log)
else:
    raise AssertionError('built')
try:
    client.images.build(fileobj=io.BytesIO(b'FROM busybox\nNONSENSE\n'))
except docker.errors.APIError as error:
    assert error.status_code == 400 and 'NONSENSE' in error.explanation, error
else:
    raise AssertionError('built')
"#;
    let Some(python) = tool("python3") else { return };
    let known = Command::new(&python)
        .args(["-c", "import docker"])
        .output()
        .unwrap();
    if !known.status.success() {
        assert!(!required(), "python3 has no module docker (pip install docker)");
        println!("skipped: python3 has no module docker");
        return;
    }
    world.write("context/Dockerfile", "FROM busybox\nARG A\nRUN echo said $A\n");
    let daemon = Daemon::start(world);
    let mut command = Command::new(python);
    command
        .args(["-c", SCRIPT, &daemon.host()])
        .arg(world.path("context"));
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");
    daemon.stop();
}
