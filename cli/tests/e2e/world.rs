//! A store of its own for each test, with busybox in it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A data root that is emptied of containers and removed when dropped.
pub(crate) struct World {
    directory: TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The binary under test: `COOPER_BIN` (a release build), or the one that was built for this test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("COOPER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_cooper").into(), PathBuf::from)
}

/// Whether a part that cannot run must fail instead of being skipped.
pub(crate) fn required() -> bool {
    std::env::var_os("COOPER_REQUIRE_PRIVILEGED").is_some_and(|value| value == "1")
}

/// A program of somebody else: from `COOPER_TOOLS` (an unpacked tree of packages) if it has it, else from PATH. When there
/// is none, says so, or fails if nothing may be skipped.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let tree = std::env::var_os("COOPER_TOOLS").map(PathBuf::from).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = tree
        .flat_map(|tree| ["usr/bin", "usr/sbin"].map(|dir| tree.join(dir)))
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        assert!(!required(), "{name} is neither in COOPER_TOOLS nor in PATH");
        println!("skipped: no {name} in COOPER_TOOLS or PATH");
    }
    found
}

/// A port of the loopback interface that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A program in the background that is ended with the test.
#[derive(Debug)]
pub(crate) struct Service(pub(crate) Child);

impl Drop for Service {
    fn drop(&mut self) {
        // SIGTERM first: dockerd has mounts to undo. One that has ended already is no error.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.0),
            rustix::process::Signal::TERM,
        );
        let _ = self.0.wait();
    }
}

/// Why the tests cannot run here.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if rootfs().is_none() {
        return Some("no busybox in PATH (package busybox-static) and no COOPER_TEST_ROOTFS_TAR".to_owned());
    }
    None
}

/// A tar with a busybox root file system: `COOPER_TEST_ROOTFS_TAR`, or made from the busybox of this machine.
fn rootfs() -> Option<&'static [u8]> {
    static ROOTFS: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    ROOTFS
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("COOPER_TEST_ROOTFS_TAR") {
                return std::fs::read(path).ok();
            }
            ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox"]
                .iter()
                .find_map(|path| pack(Path::new(path)))
        })
        .as_deref()
}

fn pack(busybox: &Path) -> Option<Vec<u8>> {
    let program = std::fs::read(busybox).ok()?;
    let applets = Command::new(busybox).arg("--list").output().ok()?;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    for directory in ["bin/", "dev/", "etc/", "proc/", "root/", "sys/", "tmp/"] {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if directory == "tmp/" { 0o1777 } else { 0o755 });
        header.set_size(0);
        tar.append_data(&mut header, directory, std::io::empty()).ok()?;
    }
    let mut file = |name: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content)
    };
    file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )
    .ok()?;
    file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n").ok()?;
    file("bin/busybox", 0o755, &program).ok()?;
    for applet in String::from_utf8_lossy(&applets.stdout)
        .lines()
        .filter(|applet| *applet != "busybox")
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
            .ok()?;
    }
    tar.into_inner().ok()
}

impl World {
    /// A store that holds `busybox:latest` and nothing else.
    pub(crate) fn new() -> Self {
        let world = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let rootfs = rootfs().unwrap();
        let mut import = world
            .command(&["import", "--change", "CMD [\"sh\"]", "-", "busybox:latest"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(rootfs).unwrap();
        let ended = Ended::from(import.wait_with_output().unwrap());
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.stdout.starts_with("sha256:"), "{ended:?}");
        world
    }

    /// The data root.
    pub(crate) fn data_root(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A path beside the data root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file beside the data root, with its directories.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `cooper` on this store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/root");
        command
            .arg("--data-root")
            .arg(self.data_root())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs `cooper` to its end.
    pub(crate) fn cooper(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    /// Runs `cooper`, which must succeed; gives its stdout without the last newline.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.cooper(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs `cooper` with bytes on stdin.
    pub(crate) fn with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // On a thread: the child may fill its output before it has read everything.
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        // A child that ended early has closed the pipe; what it printed tells why.
        drop(writer.join().unwrap());
        output
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let ids = self.cooper(&["ps", "-aq"]).stdout;
        let ids: Vec<&str> = ids.lines().collect();
        if !ids.is_empty() {
            self.cooper(&[&["rm", "-f"], &ids[..]].concat());
        }
        // Deleting through a mount that was left behind would delete what is mounted.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.directory.path().to_string_lossy().into_owned();
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&root)).collect();
        if !left.is_empty() {
            self.directory.disable_cleanup(true);
            if !std::thread::panicking() {
                panic!("mounts were left behind: {left:#?}");
            }
        }
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: output
                .status
                .code()
                .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Waits until something is true.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to a child of ours.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}
