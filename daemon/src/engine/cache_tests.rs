//! A cache in a real registry, used by several engines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cooper_builder::build::{
    self, CacheExport, CacheImport, CacheLocation, CacheMode, Compression, Context, Event, Request, Services,
};

use tokio::runtime::Handle;

use crate::engine::{ClientRegistries, Engine, EngineConfig, EngineWeb, OfferedSecrets, PullingBases};

const DOCKERFILE: &str =
    "FROM scratch AS build\nCOPY a /a\nFROM scratch\nCOPY --from=build /a /b\nCOPY a /c\n";

/// Debian's docker-registry over a directory of its own.
struct DockerRegistry {
    child: Child,
    port: u16,
}

impl DockerRegistry {
    fn start(dir: &Path) -> Option<Self> {
        let tools = std::env::var_os("COOPER_TOOLS").map(PathBuf::from);
        let tree = tools.map(|tools| tools.join("usr/bin")).into_iter();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = tree
            .chain(std::env::split_paths(&path))
            .map(|dir| dir.join("docker-registry"))
            .find(|path| path.is_file())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.join("registry").display()
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let child = Command::new(program)
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds with an engine on `dir`; gives the image, the number of steps executed, and the warnings.
fn build(dir: &Path, runtime: &Handle, request: &Request) -> (String, usize, Vec<String>) {
    let config = EngineConfig {
        data_root: dir.join("data"),
        exec_root: dir.join("exec"),
        config_file: None,
    };
    let engine = Engine::open(config).unwrap();
    let registries = ClientRegistries {
        engine: engine.clone(),
        credentials: BTreeMap::new(),
        runtime: runtime.clone(),
    };
    let warnings = Mutex::new(Vec::new());
    let events = |event: Event| {
        if let Event::Warning { text } = event {
            warnings.lock().unwrap().push(text);
        }
    };
    let bases = PullingBases {
        engine: engine.clone(),
        credentials: BTreeMap::new(),
        runtime: runtime.clone(),
        events: &events,
    };
    let web = EngineWeb {
        runtime: runtime.clone(),
    };
    let services = Services {
        bases: &bases,
        secrets: &OfferedSecrets::default(),
        web: &web,
        registries: &registries,
    };
    let store = engine.store().unwrap();
    let built = build::build(
        store,
        engine.exec_root(),
        request,
        &services,
        &events,
        &AtomicBool::new(false),
    );
    let built = built.unwrap();
    assert_eq!(store.check(true).unwrap(), Vec::<String>::new());
    let warnings = warnings.into_inner().unwrap();
    (
        built.images[0].image.to_string(),
        built.steps - built.cached,
        warnings,
    )
}

/// A cache through a real registry, from one machine to the next; four machines at once lose nothing.
#[test]
fn caches_in_docker_registry() {
    if !rustix::process::geteuid().is_root() {
        eprintln_skip("mounting layers needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(dir.path()) else {
        eprintln_skip("there is no docker-registry in COOPER_TOOLS or PATH");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let handle = runtime.handle();
    let location = || {
        CacheLocation::Registry(
            format!("127.0.0.1:{}/team/app:cache", registry.port)
                .parse()
                .unwrap(),
        )
    };
    let context = |name: &str| {
        let context = dir.path().join(format!("context-{name}"));
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("a"), name).unwrap();
        Context::Directory(context)
    };
    let exporting = |name: &str| Request {
        context: context(name),
        dockerfile: Some(DOCKERFILE.into()),
        cache_to: vec![CacheExport {
            location: location(),
            mode: CacheMode::Max,
            mounts: false,
            compression: Compression::default(),
            ignore_error: false,
        }],
        ..Request::default()
    };
    let images: Vec<(String, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = ["one", "two", "three", "four"]
            .map(|name| {
                let (request, root) = (exporting(name), dir.path().join(name));
                scope.spawn(move || (name.to_owned(), build(&root, handle, &request).0))
            })
            .into_iter()
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (name, image) in images {
        let importing = Request {
            cache_to: Vec::new(),
            cache_from: vec![CacheImport { location: location() }],
            ..exporting(&name)
        };
        let root = dir.path().join(format!("cold-{name}"));
        assert_eq!(build(&root, handle, &importing), (image, 0, Vec::new()), "{name}");
    }
}

fn eprintln_skip(why: &str) {
    assert!(
        std::env::var_os("COOPER_REQUIRE_PRIVILEGED").is_none_or(|value| value != "1"),
        "{why}"
    );
    eprintln!("skipped: {why}");
}
