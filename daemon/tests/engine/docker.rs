//! docker's own command line against a daemon on a unix socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::client::{busybox_tar, is_root};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        Trial::test("docker::a_session", session),
        Trial::test("docker::sockets", sockets),
    ]
}

struct Daemon {
    process: Child,
    socket: PathBuf,
}

impl Daemon {
    fn start(dir: &Path) -> Result<Self, Failed> {
        let socket = dir.join("docker.sock");
        let paths = [socket.clone(), dir.join("data"), dir.join("exec")];
        let process = Command::new(std::env::current_exe()?)
            .arg("--daemon")
            .args(paths)
            .spawn()?;
        let daemon = Self { process, socket };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&daemon.socket).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err("the daemon does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    fn docker(&self, args: &[&str]) -> Result<Output, Failed> {
        let host = format!("unix://{}", self.socket.display());
        let output = Command::new("docker")
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_CONFIG", self.socket.with_extension("config"))
            .args(["-H", &host])
            .args(args)
            .stdin(Stdio::null())
            .output()?;
        Ok(output)
    }

    /// stdout of a command that must succeed.
    fn ok(&self, args: &[&str]) -> Result<String, Failed> {
        let output = self.docker(args)?;
        if !output.status.success() {
            return Err(format!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // It may have ended already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

fn session() -> Result<(), Failed> {
    let (true, Some(tar)) = (is_root(), busybox_tar()) else {
        return Ok(());
    };
    if Command::new("docker").arg("--version").output().is_err() {
        crate::client::say("skipped: needs docker's CLI");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let archive = dir.path().join("busybox.tar");
    std::fs::write(&archive, tar)?;
    let daemon = Daemon::start(dir.path())?;
    assert_eq!(
        daemon.ok(&["version", "-f", "{{.Server.APIVersion}}"])?.trim(),
        "1.51"
    );
    assert_eq!(daemon.ok(&["info", "-f", "{{.OSType}}"])?.trim(), "linux");
    let archive = archive.to_str().ok_or("a path")?;
    assert!(
        daemon
            .ok(&["import", "-c", "CMD [\"sh\"]", archive, "busybox"])?
            .starts_with("sha256:")
    );
    assert_eq!(
        daemon.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?,
        "busybox:latest\n"
    );
    let run = ["run", "--rm", "--network", "none", "busybox"];
    let with = |more: &[&'static str]| {
        run.iter()
            .copied()
            .chain(more.iter().copied())
            .collect::<Vec<_>>()
    };
    assert_eq!(daemon.ok(&with(&["echo", "hello"]))?, "hello\n");
    for (args, code) in [
        (vec!["sh", "-c", "exit 5"], 5),
        (vec!["nonexist"], 127),
        (vec!["/etc"], 126),
    ] {
        assert_eq!(daemon.docker(&with(&args))?.status.code(), Some(code), "{args:?}");
    }
    let bridge = daemon.docker(&["run", "--rm", "busybox", "true"])?;
    assert_eq!(bridge.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&bridge.stderr).contains("bridge networks are not available yet"));
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "dd",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo one; sleep 0.3; echo two",
    ])?;
    assert_eq!(daemon.ok(&["logs", "-f", "dd"])?, "one\ntwo\n");
    assert_eq!(daemon.ok(&["wait", "dd"])?, "0\n");
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "ss",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ])?;
    assert_eq!(
        daemon.ok(&["exec", "-e", "X=y", "ss", "sh", "-c", "echo $X"])?,
        "y\n"
    );
    assert_eq!(
        daemon.docker(&["exec", "ss", "nonexist"])?.status.code(),
        Some(127)
    );
    assert!(
        daemon
            .ok(&["ps", "--format", "{{.Names}} {{.Status}}"])?
            .starts_with("ss Up ")
    );
    // Containers outlive the daemon.
    drop(daemon);
    let daemon = Daemon::start(dir.path())?;
    assert_eq!(daemon.ok(&["exec", "ss", "echo", "alive"])?, "alive\n");
    assert_eq!(daemon.ok(&["stop", "-t", "0", "ss"])?, "ss\n");
    let context = dir.path().join("context");
    std::fs::create_dir(&context)?;
    std::fs::write(context.join("file"), "content\n")?;
    std::fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nCOPY file /file\nRUN cat /file\nCMD [\"cat\", \"/file\"]\n",
    )?;
    let built = daemon.ok(&["build", "-t", "built", context.to_str().ok_or("a path")?])?;
    assert!(built.contains("Successfully tagged built:latest"), "{built}");
    assert_eq!(
        daemon.ok(&["run", "--rm", "--network", "none", "built"])?,
        "content\n"
    );
    let saved = dir.path().join("saved.tar");
    let saved = saved.to_str().ok_or("a path")?;
    daemon.ok(&["save", "-o", saved, "built"])?;
    daemon.ok(&["rm", "ss", "dd"])?;
    assert!(
        daemon
            .ok(&["rmi", "built"])?
            .starts_with("Untagged: built:latest\n")
    );
    assert_eq!(daemon.ok(&["load", "-i", saved])?, "Loaded image: built:latest\n");
    daemon.ok(&["system", "df"])?;
    assert_eq!(daemon.ok(&["ps", "-aq"])?, "");
    Ok(())
}

fn sockets() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let path = dir.path().join("run/docker.sock");
        let first = cooper_daemon::Listener::bind(&path)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path)?.permissions());
        assert_eq!(mode & 0o777, 0o660);
        let second = cooper_daemon::Listener::bind(&path);
        assert!(
            matches!(second, Err(cooper_daemon::ListenError::InUse(_))),
            "a live socket is not taken over"
        );
        drop(first);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path)?);
        drop(cooper_daemon::Listener::bind(&path)?);
        std::fs::write(&path, "not a socket")?;
        assert!(matches!(
            cooper_daemon::Listener::bind(&path),
            Err(cooper_daemon::ListenError::NotASocket(_))
        ));
        let pid = dir.path().join("pid");
        let held = cooper_daemon::PidFile::create(&pid)?;
        assert_eq!(
            std::fs::read_to_string(&pid)?.trim(),
            std::process::id().to_string()
        );
        assert!(matches!(
            cooper_daemon::PidFile::create(&pid),
            Err(cooper_daemon::ListenError::Running { .. })
        ));
        drop(held);
        assert!(!pid.exists());
        Ok(())
    })
}
