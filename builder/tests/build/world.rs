//! A store with a busybox image, and the shortest way to build something with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use cooper_builder::build::{
    BaseImages, Built, Context, Error, Event, Registries, Request, Secrets, Services, StepInfo, Web,
    WebRequest, WebResponse, build,
};
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, History, ImageConfig, Platform, RootFs, RunConfig};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Image, Store};

pub(crate) type Test = (&'static str, fn());

/// Time of the base image.
pub(crate) const BASE_TIME: &str = "2020-01-02T03:04:05Z";

/// One data root with a context directory, removed at the end.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    /// What `--secret` gave.
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// What `--ssh` gave.
    pub(crate) agents: BTreeMap<String, PathBuf>,
    /// What builds have pushed.
    pub(crate) pushed: Mutex<Vec<(ImageRef, Digest)>>,
}

/// What a build gave and told.
pub(crate) struct Outcome {
    pub(crate) result: Result<Built, Error>,
    pub(crate) events: Vec<Event>,
}

impl BaseImages for World {
    fn resolve(
        &self,
        name: &ImageRef,
        platform: &Platform,
        _always_pull: bool,
        cancelled: &AtomicBool,
    ) -> Result<Image, String> {
        let text = name.to_string();
        if text.contains("/hang:") {
            let end = Instant::now() + Duration::from_secs(30);
            while !cancelled.load(Ordering::Relaxed) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            return Err("told to stop".to_owned());
        }
        self.store
            .image_for(&text, platform)
            .map_err(|error| error.to_string())
    }
}

impl Secrets for World {
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.secrets.get(id).cloned())
    }

    fn ssh_agent(&self, id: &str) -> Result<Option<PathBuf>, String> {
        Ok(self.agents.get(id).cloned())
    }
}

/// Plain HTTP/1.1, one request for each connection; enough for servers of these tests.
impl Web for World {
    fn get(
        &self,
        request: &WebRequest<'_>,
        head: &mut dyn FnMut(&WebResponse) -> bool,
        body: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let rest = request.url.strip_prefix("http://").ok_or("only http here")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let mut stream = TcpStream::connect(authority).map_err(text)?;
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .map_err(text)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mut lines = format!("GET {slash}{path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n");
        for (name, value) in request.headers {
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
        stream
            .write_all(format!("{lines}\r\n").as_bytes())
            .map_err(text)?;
        let mut bytes = Vec::new();
        let mut length = None;
        let (mut started, mut count) = (false, 0u64);
        let mut buffer = [0u8; 65536];
        loop {
            if request.stop.load(Ordering::Relaxed) {
                return Err("stopped".to_owned());
            }
            let got = match stream.read(&mut buffer) {
                Ok(got) => got,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(error) => return Err(text(error)),
            };
            bytes.extend_from_slice(&buffer[..got]);
            if !started && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let lines = String::from_utf8_lossy(&bytes[..end]).into_owned();
                bytes.drain(..end + 4);
                let mut lines = lines.split("\r\n");
                let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
                let headers = lines.filter_map(|line| line.split_once(": "));
                let response = WebResponse {
                    status: status.ok_or("no status")?,
                    headers: headers
                        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                        .collect(),
                };
                length = response
                    .header("content-length")
                    .and_then(|text| text.parse::<u64>().ok());
                started = true;
                if !head(&response) {
                    return Ok(());
                }
            }
            if started && !bytes.is_empty() {
                count += bytes.len() as u64;
                if !body(&bytes) {
                    return Ok(());
                }
                bytes.clear();
            }
            if got == 0 {
                return match length {
                    _ if !started => Err("no answer".to_owned()),
                    Some(length) if length != count => Err(format!("{count} of {length} bytes came")),
                    _ => Ok(()),
                };
            }
        }
    }
}

/// Registries that take everything and have nothing.
impl Registries for World {
    fn manifest(&self, name: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
        Err(format!("no registry for {name}"))
    }

    fn blob(&self, name: &ImageRef, _descriptor: &Descriptor) -> Result<(), String> {
        Err(format!("no registry for {name}"))
    }

    fn push(
        &self,
        name: &ImageRef,
        manifest: &Digest,
        progress: &(dyn Fn(String) + Sync),
    ) -> Result<(), String> {
        progress(format!("to {name}\n"));
        let pushed = (name.clone(), manifest.clone());
        self.pushed.lock().unwrap().push(pushed);
        Ok(())
    }
}

/// The busybox tree as a tar, made once for all tests.
fn busybox() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "etc", "tmp", "root"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::copy("/bin/busybox", dir.path().join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "echo", "sleep", "mkdir", "rm", "ln", "touch", "id", "pwd", "env", "true",
            "false", "chmod", "chown", "hostname", "stat", "find", "sed", "date", "grep", "cp", "mv", "dd",
            "test", "tty", "stty", "sort", "kill", "readlink",
        ] {
            symlink("busybox", dir.path().join("bin").join(applet)).unwrap();
        }
        fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            dir.path().join("etc/group"),
            "root:x:0:\nuser:x:1001:\nextra:x:2000:user\n",
        )
        .unwrap();
        let tar = Command::new("tar")
            .args([
                "--sort=name",
                "--mtime=@1000000000",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "-c",
                "-C",
            ])
            .arg(dir.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(tar.status.success());
        tar.stdout
    })
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let world = Self {
            dir,
            store,
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            pushed: Mutex::default(),
        };
        world.add_base(
            "busybox",
            RunConfig {
                cmd: Some(vec!["sh".to_owned()]),
                ..RunConfig::default()
            },
        );
        world
    }

    /// A store that another process made, with a directory beside it that goes with it.
    pub(crate) fn with_store(store: Store) -> Self {
        let beside = store.root().parent().unwrap().to_owned();
        Self {
            dir: tempfile::tempdir_in(beside).unwrap(),
            store,
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            pushed: Mutex::default(),
        }
    }

    /// An image of the busybox layer with this config.
    pub(crate) fn add_base(&self, name: &str, config: RunConfig) {
        self.add_base_for(name, config, &Platform::host());
    }

    /// The same, said to be for another platform. Gives its id.
    pub(crate) fn add_base_for(&self, name: &str, config: RunConfig, platform: &Platform) -> Digest {
        let layer = self.store.import_layer(&mut { busybox() }).unwrap();
        let platform = platform.clone();
        let image = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            os_version: None,
            variant: platform.variant,
            author: None,
            created: Some(BASE_TIME.to_owned()),
            config,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: vec![layer.diff_id.clone()],
            },
            history: vec![History {
                created: Some(BASE_TIME.to_owned()),
                created_by: "made by the test".to_owned(),
                ..History::default()
            }],
            inline_cache: None,
        };
        let descriptor = self.store.layer_descriptor(&layer);
        self.store
            .put_image(&image, &[descriptor], &[name.parse().unwrap()])
            .unwrap()
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    /// Writes a file of the context.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn request(&self, dockerfile: &str) -> Request {
        Request {
            context: Context::Directory(self.context()),
            dockerfile: Some(dockerfile.as_bytes().to_vec()),
            ..Request::default()
        }
    }

    pub(crate) fn exec_root(&self) -> PathBuf {
        self.dir.path().join("exec")
    }

    pub(crate) fn run(&self, request: &Request) -> Outcome {
        self.run_cancellable(request, &AtomicBool::new(false))
    }

    /// The engine that this world is.
    pub(crate) fn services(&self) -> Services<'_> {
        self.services_with(self)
    }

    fn services_with<'a>(&'a self, registries: &'a dyn Registries) -> Services<'a> {
        Services {
            bases: self,
            secrets: self,
            web: self,
            registries,
        }
    }

    pub(crate) fn run_cancellable(&self, request: &Request, cancelled: &AtomicBool) -> Outcome {
        self.run_watched(request, cancelled, &|_| {})
    }

    /// `watch` sees each event as it comes.
    pub(crate) fn run_watched(
        &self,
        request: &Request,
        cancelled: &AtomicBool,
        watch: &(dyn Fn(&Event) + Sync),
    ) -> Outcome {
        self.run_whole(request, cancelled, watch, self)
    }

    /// Runs with other registries than none.
    pub(crate) fn run_with(
        &self,
        request: &Request,
        cancelled: &AtomicBool,
        registries: &dyn Registries,
    ) -> Outcome {
        self.run_whole(request, cancelled, &|_| {}, registries)
    }

    fn run_whole(
        &self,
        request: &Request,
        cancelled: &AtomicBool,
        watch: &(dyn Fn(&Event) + Sync),
        registries: &dyn Registries,
    ) -> Outcome {
        let events = Mutex::new(Vec::new());
        let sink = |event: Event| {
            watch(&event);
            events.lock().unwrap().push(event);
        };
        let services = self.services_with(registries);
        let result = build(
            &self.store,
            &self.exec_root(),
            request,
            &services,
            &sink,
            cancelled,
        );
        Outcome {
            result,
            events: events.into_inner().unwrap(),
        }
    }

    /// Runs and passes every event on at once.
    pub(crate) fn run_telling(
        &self,
        request: &Request,
        sink: &(dyn Fn(Event) + Sync),
    ) -> Result<Built, Error> {
        let services = self.services();
        let never = AtomicBool::new(false);
        build(&self.store, &self.exec_root(), request, &services, sink, &never)
    }

    /// Builds and expects an image.
    pub(crate) fn build(&self, dockerfile: &str) -> (Image, Outcome) {
        self.build_request(&self.request(dockerfile))
    }

    pub(crate) fn build_request(&self, request: &Request) -> (Image, Outcome) {
        let outcome = self.run(request);
        match &outcome.result {
            Ok(built) => {
                let id = built.images[0].image.to_string();
                (self.store.image(&id).unwrap(), outcome)
            }
            Err(Error::Run { excerpt, .. }) => panic!("{excerpt}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Entries of the image's layer number `index` from the top, as `name mode uid:gid kind`.
    pub(crate) fn layer(&self, image: &Image, index: usize) -> Vec<String> {
        let id = image.config.rootfs.diff_ids.iter().rev().nth(index).unwrap();
        let blob = self.store.open_blob(id.digest(), 0).unwrap();
        let mut archive = tar::Archive::new(blob);
        let mut list = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let path = entry.path().unwrap().display().to_string();
            let kind = match header.entry_type() {
                tar::EntryType::Directory => "dir".to_owned(),
                tar::EntryType::Symlink => format!("-> {}", entry.link_name().unwrap().unwrap().display()),
                tar::EntryType::Link => format!("= {}", entry.link_name().unwrap().unwrap().display()),
                tar::EntryType::Regular => {
                    let mut text = String::new();
                    match entry.read_to_string(&mut text) {
                        Ok(_) if text.len() < 80 => format!("{text:?}"),
                        _ => format!("{} bytes", header.size().unwrap()),
                    }
                }
                other => format!("{other:?}"),
            };
            let (mode, user, group) = (
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
            );
            list.push(format!(
                "{} {:o} {user}:{group} {kind}",
                path.trim_end_matches('/'),
                mode & 0o7777
            ));
        }
        list
    }

    /// The store has nothing that does not belong there, and no scratch is left.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.store.check(true).unwrap(), Vec::<String>::new());
        for (dir, prefix) in [
            (self.dir.path().join("store/snapshots"), ""),
            (self.dir.path().join("store/locks"), "step-"),
            (self.exec_root(), "build-"),
        ] {
            let left: Vec<PathBuf> = fs::read_dir(&dir)
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix))
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new(), "{}", dir.display());
        }
    }
}

impl Outcome {
    /// All steps, as the last word on them is.
    pub(crate) fn steps(&self) -> &[StepInfo] {
        let plans = self.events.iter().rev();
        let mut plans = plans.filter_map(|event| match event {
            Event::Plan { steps } => Some(steps.as_slice()),
            _ => None,
        });
        plans.next().unwrap_or_default()
    }

    /// All warnings.
    pub(crate) fn warnings(&self) -> String {
        let warnings = self.events.iter().filter_map(|event| match event {
            Event::Warning { text } => Some(text.as_str()),
            _ => None,
        });
        warnings.collect()
    }

    /// Names of the steps that were executed, as they were announced first, without `[stage 1/2]`, sorted.
    pub(crate) fn executed(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let plans = self.events.iter().filter_map(|event| match event {
            Event::Plan { steps } => Some(steps),
            _ => None,
        });
        // As the file has them: what is told later has values for variables.
        let mut first: Vec<&StepInfo> = Vec::new();
        for step in plans.flatten() {
            if step.id == first.len() {
                first.push(step);
            }
        }
        for step in first {
            let cached = self.events.contains(&Event::Cached { step: step.id });
            let started = self.events.contains(&Event::Started { step: step.id });
            if started && !cached {
                names.push(
                    step.name
                        .split_once("] ")
                        .map_or(step.name.as_str(), |(_, name)| name)
                        .to_owned(),
                );
            }
        }
        names.sort();
        names
    }

    /// The parts of what went on outside of the steps, in order.
    pub(crate) fn progress(&self) -> Vec<&str> {
        let items = self.events.iter().filter_map(|event| match event {
            Event::Progress { item, .. } => Some(item.as_str()),
            _ => None,
        });
        items.collect()
    }

    /// All output of RUN, in order.
    pub(crate) fn output(&self) -> String {
        let text = self.events.iter().filter_map(|event| match event {
            Event::Output { text, .. } => Some(text.as_str()),
            _ => None,
        });
        text.collect()
    }

    pub(crate) fn error(&self) -> String {
        match &self.result {
            Ok(built) => panic!("built {built:?}"),
            Err(Error::Run { excerpt, .. }) => excerpt.clone(),
            Err(error) => error.to_string(),
        }
    }
}

/// Sets the time of last modification.
pub(crate) fn set_mtime(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        path,
        &times,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
}
