//! Other people's clients and servers, unchanged: docker, dockerd, skopeo, docker-registry, and clients that misbehave.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Test;
use crate::daemon::{Daemon, run, serve_registry};
use crate::world::{Ended, Service, World, eventually, free_port, tool};

pub(crate) const TESTS: &[Test] = &[
    ("clients::docker_cli", docker_cli),
    ("clients::docker_cli_builds", docker_cli_builds),
    ("clients::docker_cli_half_closes", docker_cli_half_closes),
    ("clients::skopeo", skopeo),
    ("clients::docker_registry", docker_registry),
    ("clients::dockerd", dockerd),
    ("clients::hang_ups_leave_nothing", hang_ups_leave_nothing),
    (
        "clients::answers_survive_unread_bodies",
        answers_survive_unread_bodies,
    ),
];

fn docker_cli(world: &World) {
    let Some(docker) = tool("docker") else { return };
    let daemon = Daemon::start(world);
    let docker = |arguments: &[&str]| run(&docker, &daemon.host(), arguments);
    for (arguments, code, expected) in [
        (
            &["run", "--rm", "--network", "none", "busybox", "echo", "hello"][..],
            0,
            "hello\n",
        ),
        (
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "sh",
                "-c",
                "exit 42",
            ],
            42,
            "",
        ),
        (
            &["run", "--rm", "--network", "none", "busybox", "no-such-program"],
            127,
            "",
        ),
        (&["run", "--rm", "--network", "none", "busybox", "/etc"], 126, ""),
        (
            &["images", "--format", "{{.Repository}}:{{.Tag}}"],
            0,
            "busybox:latest\n",
        ),
        (&["ps", "-aq"], 0, ""),
        (&["rm", "nothing"], 1, ""),
    ] {
        let ended = docker(arguments);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (code, expected),
            "{arguments:?}: {ended:?}"
        );
    }
    assert_eq!(
        docker(&[
            "run",
            "-d",
            "--name",
            "dd",
            "--network",
            "none",
            "busybox",
            "sleep",
            "1000"
        ])
        .code,
        0
    );
    assert_eq!(docker(&["exec", "dd", "echo", "inside"]).stdout, "inside\n");
    assert_eq!(docker(&["stop", "-t", "0", "dd"]).stdout, "dd\n");
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.ExitCode}}", "dd"]).stdout,
        "137\n"
    );
    assert_eq!(docker(&["rm", "dd"]).code, 0);
    assert_eq!(
        docker(&["version", "--format", "{{.Server.Os}}"]).stdout,
        "linux\n"
    );
    daemon.stop();
}

fn docker_cli_builds(world: &World) {
    let Some(docker) = tool("docker") else { return };
    let daemon = Daemon::start(world);
    let build = |dockerfile: &str| {
        world.write("context/Dockerfile", dockerfile);
        let mut command = Command::new(&docker);
        command
            .env("DOCKER_BUILDKIT", "0")
            .args(["-H", &daemon.host(), "build", "-t", "built"]);
        Ended::from(command.arg(world.path("context")).output().unwrap())
    };
    let ended = build("FROM busybox\nRUN echo made > /file\nCMD [\"cat\", \"/file\"]\n");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("Successfully tagged built:latest"),
        "{ended:?}"
    );
    assert_eq!(world.ok(&["run", "--rm", "built"]), "made");
    let ended = build("FROM busybox\nRUN exit 3\n");
    assert_eq!(ended.code, 3, "docker's own exit code is the step's: {ended:?}");
    // The answer is heard although a long context was still being sent.
    world.write("context/long", &"long".repeat(5 << 20));
    let ended = build("FROM busybox\nNONSENSE\n");
    assert_ne!(ended.code, 0);
    assert!(ended.stderr.contains("NONSENSE"), "{ended:?}");
    daemon.stop();
}

fn docker_cli_half_closes(world: &World) {
    let Some(docker) = tool("docker") else { return };
    let daemon = Daemon::start(world);
    let mut child = Command::new(docker)
        .args([
            "-H",
            &daemon.host(),
            "run",
            "--rm",
            "-i",
            "--network",
            "none",
            "busybox",
            "cat",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent: Vec<u8> = (0_u32..1_000_000).flat_map(u32::to_le_bytes).collect();
    let mut stdin = child.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    assert!(
        output.stdout == sent,
        "{} of {} bytes came back",
        output.stdout.len(),
        sent.len()
    );
    daemon.stop();
}

fn command_ok(program: &Path, arguments: &[&str]) -> String {
    let ended = Ended::from(Command::new(program).args(arguments).output().unwrap());
    assert_eq!(ended.code, 0, "{} {arguments:?}: {ended:?}", program.display());
    ended.stdout
}

fn skopeo(world: &World) {
    let Some(skopeo) = tool("skopeo") else { return };
    let (_registry, address) = serve_registry(world);
    let image = format!("docker://{address}/busybox:latest");
    let inspected = command_ok(&skopeo, &["inspect", "--tls-verify=false", &image]);
    assert!(inspected.contains("\"latest\""), "{inspected}");
    let layout = format!("dir:{}", world.path("layout").display());
    command_ok(
        &skopeo,
        &[
            "copy",
            "--src-tls-verify=false",
            "--preserve-digests",
            &image,
            &layout,
        ],
    );
    let second = format!("docker://{address}/copied:1");
    command_ok(
        &skopeo,
        &[
            "copy",
            "--dest-tls-verify=false",
            "--preserve-digests",
            &layout,
            &second,
        ],
    );
    let id = |name: &str| world.ok(&["inspect", "-f", "{{.Id}}", name]);
    assert_eq!(id("copied:1"), id("busybox"));
}

fn docker_registry(world: &World) {
    let Some(registry) = tool("docker-registry") else {
        return;
    };
    let port = free_port();
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\nlog: {{level: error}}\n",
        world.path("registry").display()
    );
    let config = world.write("registry.yml", &config);
    let child = Command::new(registry)
        .arg("serve")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _registry = Service(child.unwrap());
    eventually("the registry", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let name = format!("127.0.0.1:{port}/sub/busybox:1");
    let id = world.ok(&["inspect", "-f", "{{.Id}}", "busybox"]);
    world.ok(&["tag", "busybox", &name]);
    world.ok(&["push", &name]);
    world.ok(&["rmi", "busybox", &name]);
    world.ok(&["system", "prune", "-af"]);
    world.ok(&["pull", &name]);
    assert_eq!(world.ok(&["inspect", "-f", "{{.Id}}", &name]), id);
    assert_eq!(world.ok(&["run", "--rm", &name, "echo", "pulled"]), "pulled");
}

/// The daemon that we replace pulls from our registry and pushes to it.
fn dockerd(world: &World) {
    let (Some(dockerd), Some(docker)) = (tool("dockerd"), tool("docker")) else {
        return;
    };
    let (_registry, address) = serve_registry(world);
    let socket = world.path("dockerd.sock");
    let host = format!("unix://{}", socket.display());
    let mut command = Command::new(&dockerd);
    // It starts containerd, which must come from the same tree.
    if let Some(tree) = std::env::var_os("COOPER_TOOLS").map(std::path::PathBuf::from) {
        let path = std::env::var("PATH").unwrap_or_default();
        let tree = tree.display();
        command
            .env("PATH", format!("{tree}/usr/bin:{tree}/usr/sbin:{path}"))
            .env(
                "LD_LIBRARY_PATH",
                format!("{tree}/lib/x86_64-linux-gnu:{tree}/usr/lib/x86_64-linux-gnu"),
            );
    }
    command
        .args(["--iptables=false", "--bridge=none", "-H", &host])
        .arg("--data-root")
        .arg(world.path("dockerd"))
        .arg("--exec-root")
        .arg(world.path("dockerd-exec"))
        .arg("--pidfile")
        .arg(world.path("dockerd.pid"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _dockerd = Service(command.spawn().unwrap());
    eventually("dockerd", || UnixStream::connect(&socket).is_ok());
    let docker = |arguments: &[&str]| {
        let ended = run(&docker, &host, arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.stdout
    };
    let ours = format!("{address}/busybox:latest");
    docker(&["pull", &ours]);
    let theirs = format!("{address}/from-dockerd:1");
    docker(&["tag", &ours, &theirs]);
    docker(&["push", &theirs]);
    docker(&["rmi", &ours, &theirs]);
    assert_eq!(world.ok(&["run", "--rm", &theirs, "echo", "pushed"]), "pushed");
    // Archives of builds, however their layers are compressed.
    world.write("context/Dockerfile", "FROM busybox\nRUN echo made > /file\n");
    let context = world.path("context");
    for compression in ["uncompressed", "gzip", "zstd"] {
        let archive = world.path(compression);
        let output = format!("type=docker,compression={compression},dest={}", archive.display());
        let tag = format!("built:{compression}");
        world.ok(&[
            "build",
            "-q",
            "-t",
            &tag,
            "-o",
            &output,
            context.to_str().unwrap(),
        ]);
        let loaded = docker(&["load", "-q", "-i", archive.to_str().unwrap()]);
        assert!(loaded.contains(&tag), "{loaded}");
        let config = docker(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", &tag]);
        let ours = world.ok(&["inspect", "-f", "{{json .RootFS.Layers}}", &tag]);
        assert_eq!(config.trim(), ours);
    }
}

/// Clients that vanish while they wait cost the daemon nothing.
fn hang_ups_leave_nothing(world: &World) {
    let daemon = Daemon::start(world);
    world.ok(&["run", "-d", "--name", "long", "busybox", "sleep", "1000"]);
    let count = |what: &str| {
        std::fs::read_dir(format!("/proc/{}/{what}", daemon.child.id()))
            .unwrap()
            .count()
    };
    let ask = |line: &str| {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        write!(
            stream,
            "POST /containers/long/{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        // The headers are there: the request is being served.
        assert_eq!(stream.read(&mut [0; 12]).unwrap(), 12);
        stream
    };
    drop(ask("wait"));
    let before = count("fd");
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(ask("wait"));
        clients.push(ask("wait?condition=removed"));
        clients.push(ask("attach?stream=1&stdout=1"));
    }
    assert!(count("fd") > before + 120);
    assert!(count("task") < 60, "a thread for each waiter");
    drop(clients);
    // A few more than before: what the pool's threads keep open.
    eventually("the descriptors are closed", || count("fd") < before + 20);
    let mut last = ask("wait?condition=removed");
    world.ok(&["rm", "-f", "long"]);
    let mut answer = vec![0; 2000];
    eventually("the answer of a wait that was served", || {
        let read = last.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..read]).contains("\"StatusCode\":137")
    });
    daemon.stop();
}

/// A body that arrives after the answer was decided is read, so that the client hears the answer.
fn answers_survive_unread_bodies(world: &World) {
    let daemon = Daemon::start(world);
    for path in ["/volumes/create", "/no/such/path", "/containers/none/start"] {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        let body = "{\"a\": 1}".repeat(1000);
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        stream
            .write_all(body.as_bytes())
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}");
    }
    daemon.stop();
}
