//! The daemon, with our command line and with docker's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::Signal;

use crate::Test;
use crate::world::{Ended, Service, World, binary, eventually, signal};

pub(crate) const TESTS: &[Test] = &[("daemon::our_cli", our_cli), ("daemon::registry", registry)];

/// A daemon that is ended with the test.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
}

impl Daemon {
    pub(crate) fn start(world: &World) -> Self {
        let socket = world.path("cooper.sock");
        let host = format!("unix://{}", socket.display());
        let pidfile = world.path("pid");
        let arguments = [
            "daemon",
            "--host",
            &host,
            "--pidfile",
            pidfile.to_str().unwrap(),
            "--log-level",
            "warn",
        ];
        let child = world.command(&arguments).spawn().unwrap();
        eventually("the socket", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        assert_eq!(
            std::fs::read_to_string(&pidfile).unwrap().trim(),
            child.id().to_string()
        );
        Self { child, socket }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub(crate) fn stop(mut self) {
        signal(&self.child, Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(!self.socket.exists(), "the socket was left behind");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failed assertion; a daemon that has ended is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(program: &Path, host: &str, arguments: &[&str]) -> Ended {
    Ended::from(
        Command::new(program)
            .env_remove("COOPER_DATA_ROOT")
            .args(["-H", host])
            .args(arguments)
            .output()
            .unwrap(),
    )
}

fn our_cli(world: &World) {
    let daemon = Daemon::start(world);
    let cooper = |arguments: &[&str]| run(&binary(), &daemon.host(), arguments);
    let ended = cooper(&["run", "--name", "one", "busybox", "echo", "hello"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "hello\n"), "{ended:?}");
    // What one engine did, every other one sees.
    assert_eq!(world.ok(&["logs", "one"]), "hello");
    world.write("context/Dockerfile", "FROM busybox\nCOPY file /\nCMD cat /file\n");
    world.write("context/file", "sent\n");
    let context = world.path("context");
    let built = cooper(&["build", "-t", "sent", context.to_str().unwrap()]);
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(world.ok(&["run", "--rm", "sent"]), "sent");
    assert_eq!(cooper(&["rm", "one"]).code, 0);
    daemon.stop();
    let ended = run(
        &binary(),
        &format!("unix://{}", world.path("cooper.sock").display()),
        &["ps"],
    );
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
}

/// Serves the world's store as a registry; gives its address.
pub(crate) fn serve_registry(world: &World) -> (Service, String) {
    let mut child = world
        .command(&["registry", "serve", "--listen", "127.0.0.1:0"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let line = lines
        .find_map(|line| line.ok().filter(|line| line.contains("serving the registry at")))
        .unwrap();
    // Whatever else it says must find a reader.
    std::thread::spawn(move || lines.for_each(drop));
    (Service(child), line.rsplit_once("http://").unwrap().1.to_owned())
}

fn registry(world: &World) {
    let (mut service, address) = serve_registry(world);
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let request =
        format!("GET /v2/busybox/tags/list HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"latest\""), "{answer}");
    // A store pulls from its own registry without moving a layer.
    world.ok(&["rmi", "busybox"]);
    signal(&service.0, Signal::TERM);
    assert_eq!(service.0.wait().unwrap().code(), Some(0));
}
