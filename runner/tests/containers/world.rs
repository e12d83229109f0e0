//! A data root with a busybox image, and the shortest way to run something in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cooper_runner::caps::CapSet;
use cooper_runner::container::{AttachOptions, Containers, Error, ExitStatus, WaitCondition};
use cooper_runner::spec::{
    ContainerSpec, LogConfig, NetworkMode, ProcessSpec, RestartPolicy, RootFs, SPEC_VERSION, SeccompMode,
};

pub(crate) type Test = (&'static str, fn());

pub(crate) const ALL: AttachOptions = AttachOptions {
    stdin: true,
    stdout: true,
    stderr: true,
    logs: false,
};

/// One data root, removed at the end.
pub(crate) struct World {
    pub(crate) containers: Containers,
    pub(crate) dir: tempfile::TempDir,
}

/// What a run gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The busybox tree, made once for all tests.
pub(crate) fn busybox() -> &'static Path {
    static IMAGE: OnceLock<tempfile::TempDir> = OnceLock::new();
    IMAGE
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            make_busybox(dir.path());
            dir
        })
        .path()
}

pub(crate) fn make_busybox(root: &Path) {
    for dir in [
        "bin",
        "etc",
        "tmp",
        "root",
        "home/user",
        "run",
        "var",
        "dev",
        "proc",
        "sys",
    ] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .unwrap()
        .stdout;
    for applet in String::from_utf8(applets)
        .unwrap()
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    symlink("/run", root.join("var/run")).unwrap();
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n",
    )
    .unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(root, open(0o755)).unwrap();
    fs::set_permissions(root.join("tmp"), open(0o1777)).unwrap();
}

pub(crate) fn new_id() -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn process(args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        args: args.iter().map(ToString::to_string).collect(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        cwd: "/".into(),
        user: String::new(),
        group_add: Vec::new(),
        tty: false,
        console_size: None,
        open_stdin: false,
        stdin_once: false,
        capabilities: CapSet::docker_default().names(),
        no_new_privileges: false,
        rlimits: Vec::new(),
        oom_score_adj: None,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let containers = Containers::open(&dir.path().join("data"), &dir.path().join("exec")).unwrap();
        Self { containers, dir }
    }

    pub(crate) fn spec(&self, args: &[&str]) -> ContainerSpec {
        self.spec_with(args, |_| {})
    }

    pub(crate) fn spec_with(&self, args: &[&str], change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
        let id = new_id();
        let dir = self.containers.dir(&id);
        let mut spec = ContainerSpec {
            version: SPEC_VERSION,
            hostname: id[..12].into(),
            rootfs: RootFs {
                lowers: vec![busybox().to_path_buf()],
                upper: dir.join("upper"),
                work: dir.join("work"),
                readonly: false,
            },
            process: process(args),
            mounts: Vec::new(),
            network: NetworkMode::None,
            privileged: false,
            seccomp: SeccompMode::Default,
            masked_paths: None,
            readonly_paths: None,
            resources: cooper_runner::cgroup::Resources::default(),
            device_rules: Vec::new(),
            cgroup_path: format!("cooper-test/{id}"),
            sysctls: BTreeMap::new(),
            shm_size: 64 << 20,
            stop_signal: 15,
            log: LogConfig::default(),
            auto_remove: false,
            restart: RestartPolicy::default(),
            health: None,
            id,
        };
        change(&mut spec);
        spec
    }

    /// Creates a container named after its id and returns the id.
    pub(crate) fn create(&self, spec: &ContainerSpec) -> String {
        self.containers
            .create(&format!("n-{}", &spec.id[..12]), spec, &[])
            .unwrap();
        spec.id.clone()
    }

    pub(crate) fn sh(&self, script: &str) -> Run {
        self.run(&self.spec(&["sh", "-c", script]))
    }

    /// create, attach, start, wait.
    pub(crate) fn run(&self, spec: &ContainerSpec) -> Run {
        self.try_run(spec, b"").unwrap()
    }

    pub(crate) fn try_run(&self, spec: &ContainerSpec, input: &[u8]) -> Result<Run, Error> {
        let id = self.create(spec);
        let mut stream = self.containers.attach(&id, ALL)?;
        let wait = self.containers.wait_begin(&id, WaitCondition::NextExit)?;
        self.containers.start(&id)?;
        stream.write_all(input).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let (stdout, stderr) = if spec.process.tty {
            (read_all(&mut stream), String::new())
        } else {
            demultiplex(&mut stream)
        };
        let ExitStatus { code, .. } = wait.finish()?;
        Ok(Run { code, stdout, stderr })
    }

    pub(crate) fn exec(&self, id: &str, process: &ProcessSpec, input: &[u8]) -> Result<Run, Error> {
        let exec = self.containers.exec_create(id, process, false)?;
        let mut stream = self.containers.exec_start(&exec, false)?.unwrap();
        stream.write_all(input).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let (stdout, stderr) = if process.tty {
            (read_all(&mut stream), String::new())
        } else {
            demultiplex(&mut stream)
        };
        let (_, _, state) = self.containers.exec_state(&exec)?;
        Ok(Run {
            code: state.exit_code.unwrap(),
            stdout,
            stderr,
        })
    }

    /// A container that runs until it is told otherwise.
    pub(crate) fn background(&self, script: &str) -> String {
        self.background_with(script, |_| {})
    }

    pub(crate) fn background_with(&self, script: &str, change: impl FnOnce(&mut ContainerSpec)) -> String {
        let script = format!("{script}\necho ready; exec sleep 1000");
        let id = self.create(&self.spec_with(&["sh", "-c", &script], change));
        let mut stream = self.containers.attach(&id, ALL).unwrap();
        self.containers.start(&id).unwrap();
        let mut seen = Vec::new();
        while !seen.windows(5).any(|window| window == b"ready") {
            let mut byte = [0; 64];
            let read = stream.read(&mut byte).unwrap();
            assert_ne!(read, 0, "ended early: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&byte[..read]);
        }
        id
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for id in self.containers.list().unwrap_or_default() {
            if let Err(error) = self.containers.remove(&id, true) {
                println!("cleanup of {id}: {error}");
            }
        }
    }
}

pub(crate) fn read_all(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Splits Docker's frames.
pub(crate) fn demultiplex(stream: &mut UnixStream) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut rest = &bytes[..];
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        assert_eq!(&header[1..4], [0; 3]);
        let to = match header[0] {
            1 => &mut stdout,
            2 => &mut stderr,
            kind => panic!("frame type {kind}"),
        };
        to.extend_from_slice(&after[..length]);
        rest = &after[length..];
    }
    assert!(rest.is_empty(), "truncated frame");
    (
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}
