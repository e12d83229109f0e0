//! A store with a busybox image, and the shortest way to build something with it.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

use cooper_builder::build::{BaseImages, Built, Context, Error, Event, Registries, Request, Services, build};
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
}

/// What a build gave and told.
pub(crate) struct Outcome {
    pub(crate) result: Result<Built, Error>,
    pub(crate) events: Vec<Event>,
}

impl BaseImages for World {
    fn resolve(&self, name: &ImageRef, _platform: &Platform, _always_pull: bool) -> Result<Image, String> {
        self.store
            .image(&name.to_string())
            .map_err(|error| error.to_string())
    }
}

/// A machine without a network.
pub(crate) struct NoRegistries;

impl Registries for NoRegistries {
    fn manifest(&self, name: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
        Err(format!("{name}: no network"))
    }

    fn blob(&self, name: &ImageRef, _: &Descriptor) -> Result<(), String> {
        Err(format!("{name}: no network"))
    }

    fn push(&self, name: &ImageRef, _: &Digest, _: &(dyn Fn(String) + Sync)) -> Result<(), String> {
        Err(format!("{name}: no network"))
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
            "false", "chmod", "chown", "hostname", "stat", "find", "sed", "date",
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
        let world = Self { dir, store };
        world.add_base(
            "busybox",
            RunConfig {
                cmd: Some(vec!["sh".to_owned()]),
                ..RunConfig::default()
            },
        );
        world
    }

    /// An image of the busybox layer with this config.
    pub(crate) fn add_base(&self, name: &str, config: RunConfig) {
        let layer = self.store.import_layer(&mut { busybox() }).unwrap();
        let platform = Platform::host();
        let image = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            os_version: None,
            variant: None,
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
            .unwrap();
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

    pub(crate) fn run_cancellable(&self, request: &Request, cancelled: &AtomicBool) -> Outcome {
        self.run_with(request, cancelled, &NoRegistries)
    }

    /// Runs with other registries than none.
    pub(crate) fn run_with(
        &self,
        request: &Request,
        cancelled: &AtomicBool,
        registries: &dyn Registries,
    ) -> Outcome {
        let events = Mutex::new(Vec::new());
        let sink = |event: Event| events.lock().unwrap().push(event);
        let services = Services {
            bases: self,
            registries,
        };
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
        let services = Services {
            bases: self,
            registries: &NoRegistries,
        };
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
        for dir in [
            self.dir.path().join("store/snapshots"),
            self.exec_root().join("build/locks"),
        ] {
            let left: Vec<PathBuf> = fs::read_dir(&dir)
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new(), "{}", dir.display());
        }
    }
}

impl Outcome {
    /// Names of the steps that were executed, without `[stage 1/2]`, sorted.
    pub(crate) fn executed(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let Some(Event::Plan { steps }) = self
            .events
            .iter()
            .find(|event| matches!(event, Event::Plan { .. }))
        else {
            return names;
        };
        for step in steps {
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
