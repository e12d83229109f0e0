//! Caches in a registry, in a directory and in an image; the registry is a second store.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cooper_builder::build::{
    CacheExport, CacheImport, CacheLocation, CacheMode, Compression, CompressionKind, Error, Event,
    Registries, Request,
};
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Manifest, media_type};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::Store;

use crate::world::{Outcome, Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("cold_machine", cold_machine),
    ("cold_machine_change", cold_machine_change),
    ("remote_modes", remote_modes),
    ("remote_twice", remote_twice),
    ("remote_union", remote_union),
    ("remote_hostile", remote_hostile),
    ("remote_missing", remote_missing),
    ("remote_trust", remote_trust),
    ("remote_inline", remote_inline),
    ("remote_local_garbage", remote_local_garbage),
    ("remote_local_heals", remote_local_heals),
];

const DOCKERFILE: &str = "FROM busybox AS build
COPY src /src
RUN for i in 1 2 3 4 5 6 7 8; do echo $i; cat /bin/busybox; done > /big; cat /src/a > /out
FROM busybox
WORKDIR /w
COPY --from=build /out out
RUN cat out > copy
";

type Lie = fn(&Registry, &Descriptor) -> Vec<u8>;
type Race = Box<dyn FnOnce(&Registry) + Send>;

/// A registry in process: a store that counts what goes in and out, and may answer for a while as before a push.
struct Registry {
    _dir: tempfile::TempDir,
    store: Store,
    sent: AtomicUsize,
    fetched: Mutex<Vec<u64>>,
    /// Replaces blobs by other bytes.
    lies: Mutex<Option<Lie>>,
    /// Called once just after a manifest was tagged.
    race: Mutex<Option<Race>>,
}

impl Registry {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self {
            _dir: dir,
            store,
            sent: AtomicUsize::new(0),
            fetched: Mutex::default(),
            lies: Mutex::default(),
            race: Mutex::default(),
        }
    }

    fn of<'a>(&'a self, world: &'a World) -> Machine<'a> {
        Machine {
            registry: self,
            store: &world.store,
        }
    }

    fn tag(&self) -> Option<(Descriptor, Vec<u8>)> {
        let name: ImageRef = CACHE.parse().unwrap();
        let descriptor = self
            .store
            .resolve_tag(&name.repo, &name.tag_or_latest().unwrap())
            .unwrap()?;
        let bytes = self.store.read_blob(&descriptor.digest, 4 << 20).unwrap();
        Some((descriptor, bytes))
    }

    fn manifest(&self) -> Manifest {
        serde_json::from_slice(&self.tag().unwrap().1).unwrap()
    }

    fn config(&self) -> serde_json::Value {
        let config = self.manifest().config;
        serde_json::from_slice(&self.store.read_blob(&config.digest, 4 << 20).unwrap()).unwrap()
    }

    /// Puts a cache with this config and these blobs under the tag.
    fn put(&self, config: &[u8], blobs: &[(&str, Digest, u64)]) {
        let config_digest = self.store.put_blob(config).unwrap();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.cooper.cache.config.v1+json",
                "digest": config_digest.to_string(),
                "size": config.len(),
            },
            "layers": blobs.iter().map(|(kind, digest, size)| serde_json::json!({
                "mediaType": kind, "digest": digest.to_string(), "size": size,
            })).collect::<Vec<_>>(),
        });
        let name: ImageRef = CACHE.parse().unwrap();
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let tag = name.tag_or_latest().unwrap();
        self.store
            .put_manifest(Some(&name.repo), media_type::OCI_MANIFEST, &bytes, None, &[tag])
            .unwrap();
    }

    fn fetched(&self) -> Vec<u64> {
        let mut fetched = std::mem::take(&mut *self.fetched.lock().unwrap());
        fetched.sort_unstable();
        fetched
    }
}

/// A registry as one machine sees it.
struct Machine<'a> {
    registry: &'a Registry,
    store: &'a Store,
}

impl Registries for Machine<'_> {
    fn manifest(&self, name: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
        let store = &self.registry.store;
        let descriptor = match &name.digest {
            Some(digest) => store
                .manifest(&name.repo, digest)
                .unwrap()
                .map(|stored| stored.descriptor),
            None => store
                .resolve_tag(&name.repo, &name.tag_or_latest().unwrap())
                .unwrap(),
        };
        Ok(descriptor.map(|descriptor| {
            let bytes = store.read_blob(&descriptor.digest, 4 << 20).unwrap();
            (descriptor, bytes)
        }))
    }

    fn blob(&self, _: &ImageRef, descriptor: &Descriptor) -> Result<(), String> {
        if self.store.blob_info(&descriptor.digest).unwrap().is_some() {
            return Ok(());
        }
        let lies = *self.registry.lies.lock().unwrap();
        let bytes = match lies {
            Some(lie) => lie(self.registry, descriptor),
            None => self
                .registry
                .store
                .read_blob(&descriptor.digest, 1 << 30)
                .map_err(|error| error.to_string())?,
        };
        self.registry.fetched.lock().unwrap().push(bytes.len() as u64);
        let mut ingest = self.store.ingest().unwrap();
        ingest.write(&bytes).unwrap();
        ingest
            .commit(Some(&descriptor.digest))
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn push(&self, name: &ImageRef, manifest: &Digest, _: &(dyn Fn(String) + Sync)) -> Result<(), String> {
        let stored = self.store.manifest(&name.repo, manifest).unwrap().unwrap();
        let parsed: Manifest = serde_json::from_slice(&stored.bytes).unwrap();
        for blob in std::iter::once(&parsed.config).chain(&parsed.layers) {
            if self.registry.store.blob_info(&blob.digest).unwrap().is_none() {
                let bytes = self
                    .store
                    .read_blob(&blob.digest, 1 << 30)
                    .map_err(|error| error.to_string())?;
                self.registry.sent.fetch_add(bytes.len(), Ordering::Relaxed);
                self.registry.store.put_blob(&bytes).unwrap();
            }
        }
        let tag = name.tag_or_latest().unwrap();
        self.registry
            .store
            .put_manifest(
                Some(&name.repo),
                &stored.descriptor.media_type,
                &stored.bytes,
                Some(manifest),
                &[tag],
            )
            .unwrap();
        let race = self.registry.race.lock().unwrap().take();
        if let Some(race) = race {
            race(self.registry);
        }
        Ok(())
    }
}

const CACHE: &str = "registry.example/cache:main";

fn location() -> CacheLocation {
    CacheLocation::Registry(CACHE.parse().unwrap())
}

fn to(location: CacheLocation, mode: CacheMode) -> CacheExport {
    CacheExport {
        location,
        mode,
        mounts: false,
        compression: Compression::default(),
        ignore_error: false,
    }
}

fn world() -> World {
    let world = World::new();
    world.write("src/a", "A");
    world
}

fn run(world: &World, registry: &Registry, request: &Request) -> Outcome {
    world.run_with(request, &AtomicBool::new(false), &registry.of(world))
}

fn export(world: &World, registry: &Registry, mode: CacheMode) -> Digest {
    let request = Request {
        cache_to: vec![to(location(), mode)],
        ..world.request(DOCKERFILE)
    };
    image(&run(world, registry, &request))
}

fn importing(world: &World, location: CacheLocation) -> Request {
    Request {
        cache_from: vec![CacheImport { location }],
        ..world.request(DOCKERFILE)
    }
}

fn image(outcome: &Outcome) -> Digest {
    match &outcome.result {
        Ok(built) => built.images[0].image.clone(),
        Err(error) => panic!("{error}"),
    }
}

fn warnings(outcome: &Outcome) -> String {
    let texts = outcome.events.iter().filter_map(|event| match event {
        Event::Warning { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// An empty store builds nothing and fetches the final layers alone; the image is the same to the byte.
fn cold_machine() {
    let registry = Registry::new();
    let (a, b) = (world(), world());
    let first = export(&a, &registry, CacheMode::Max);
    a.assert_clean();
    let sizes: Vec<u64> = registry
        .manifest()
        .layers
        .iter()
        .map(|layer| layer.size)
        .collect();
    assert_eq!(sizes.len(), 5, "one layer for each step");
    assert!(sizes.iter().any(|size| *size > 1 << 20), "{sizes:?}");
    let outcome = run(&b, &registry, &importing(&b, location()));
    assert_eq!(warnings(&outcome), "");
    assert_eq!(outcome.executed(), Vec::<String>::new());
    assert_eq!(image(&outcome), first);
    let fetched = registry.fetched();
    // The config and three small layers, not the big one of the stage that nothing is copied from any more.
    assert_eq!(fetched.len(), 4, "{fetched:?}");
    assert!(fetched.iter().sum::<u64>() < 16 << 10, "{fetched:?}");
    b.assert_clean();
    // What was fetched is found without the registry.
    let outcome = b.run(&importing(&b, location()));
    assert!(
        warnings(&outcome).contains("no registry for"),
        "{}",
        warnings(&outcome)
    );
    assert_eq!(image(&outcome), first);
}

/// A step that is executed gets the layers below it, and those of what it copies from.
fn cold_machine_change() {
    let registry = Registry::new();
    let (a, b) = (world(), world());
    export(&a, &registry, CacheMode::Max);
    let request = Request {
        dockerfile: Some(
            format!("{DOCKERFILE}COPY --from=build /big big\nRUN cat copy && ls -l big\n").into(),
        ),
        ..importing(&b, location())
    };
    let outcome = run(&b, &registry, &request);
    image(&outcome);
    assert_eq!(
        outcome.executed(),
        ["COPY --from=build /big big", "RUN cat copy && ls -l big"]
    );
    assert!(outcome.output().starts_with('A'), "{}", outcome.output());
    assert!(registry.fetched().into_iter().max().unwrap() > 1 << 20);
    b.assert_clean();
}

fn remote_modes() {
    for (mode, count, expected) in [
        (CacheMode::Max, 5, &[][..]),
        (
            CacheMode::Min,
            3,
            &[
                "COPY src /src",
                "RUN for i in 1 2 3 4 5 6 7 8; do echo $i; cat /bin/busybox; done > /big; cat /src/a > /out",
            ],
        ),
    ] {
        for compression in [
            CompressionKind::None,
            CompressionKind::Gzip,
            CompressionKind::Zstd,
        ] {
            let registry = Registry::new();
            let (a, b) = (world(), world());
            let mut to = to(location(), mode);
            to.compression.kind = compression;
            let request = Request {
                cache_to: vec![to],
                ..a.request(DOCKERFILE)
            };
            let first = image(&run(&a, &registry, &request));
            assert_eq!(registry.manifest().layers.len(), count);
            let outcome = run(&b, &registry, &importing(&b, location()));
            assert_eq!(outcome.executed(), expected, "{mode:?}");
            assert_eq!(
                image(&outcome),
                first,
                "COPY --from finds the same file and so the same layers"
            );
        }
    }
}

/// An export that adds nothing sends nothing; one that adds a step sends that step.
fn remote_twice() {
    let registry = Registry::new();
    let a = world();
    export(&a, &registry, CacheMode::Max);
    let first = registry.tag().unwrap();
    let sent = registry.sent.swap(0, Ordering::Relaxed);
    assert!(sent > 1 << 20, "{sent}");
    export(&a, &registry, CacheMode::Max);
    assert_eq!(
        (registry.sent.load(Ordering::Relaxed), registry.tag().unwrap()),
        (0, first)
    );
    let request = Request {
        cache_to: vec![to(location(), CacheMode::Max)],
        ..a.request(&format!("{DOCKERFILE}RUN echo more > more\n"))
    };
    image(&run(&a, &registry, &request));
    let sent = registry.sent.load(Ordering::Relaxed);
    assert!(sent < 16 << 10, "{sent}");
    assert_eq!(registry.manifest().layers.len(), 6);
    // A machine that took everything from there has nothing to add.
    let b = world();
    let request = Request {
        cache_to: vec![to(location(), CacheMode::Max)],
        ..importing(&b, location())
    };
    registry.sent.store(0, Ordering::Relaxed);
    image(&run(&b, &registry, &request));
    assert_eq!(registry.sent.load(Ordering::Relaxed), 0);
    assert_eq!(registry.fetched().len(), 4);
    a.assert_clean();
    b.assert_clean();
}

/// Writers at the same time: what each of them wrote is there in the end.
fn remote_union() {
    let dockerfile = |i: usize| format!("FROM busybox\nRUN echo {i} > /x\n");
    let titles = |config: &serde_json::Value| -> BTreeSet<String> {
        let records = config["records"].as_array().unwrap();
        records
            .iter()
            .map(|record| record["title"].as_str().unwrap().to_owned())
            .collect()
    };
    let expected: BTreeSet<String> = (0..4).map(|i| format!("[2/2] RUN echo {i} > /x")).collect();

    let registry = Registry::new();
    std::thread::scope(|scope| {
        for i in 0..4 {
            let registry = &registry;
            scope.spawn(move || {
                let world = World::new();
                let request = Request {
                    cache_to: vec![to(location(), CacheMode::Max)],
                    ..world.request(&dockerfile(i))
                };
                image(&run(&world, registry, &request));
            });
        }
    });
    assert_eq!(titles(&registry.config()), expected);

    // Another writer, who had read before, overwrites what was just written.
    let registry = Registry::new();
    let worlds = [World::new(), World::new()];
    let request = |i: usize| Request {
        cache_to: vec![to(location(), CacheMode::Max)],
        ..worlds[i].request(&dockerfile(i))
    };
    image(&run(&worlds[0], &registry, &request(0)));
    let (stale, _) = registry.tag().unwrap();
    let reset = move |registry: &Registry| {
        let name: ImageRef = CACHE.parse().unwrap();
        registry
            .store
            .set_tag(&name.repo, &name.tag_or_latest().unwrap(), &stale.digest)
            .unwrap();
    };
    *registry.race.lock().unwrap() = Some(Box::new(reset));
    image(&run(&worlds[1], &registry, &request(1)));
    assert_eq!(titles(&registry.config()).len(), 2);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    std::thread::scope(|scope| {
        for i in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let world = World::new();
                let location = CacheLocation::Local {
                    path: path.clone(),
                    tag: None,
                };
                let request = Request {
                    cache_to: vec![to(location, CacheMode::Max)],
                    ..world.request(&dockerfile(i))
                };
                image(&world.run(&request));
            });
        }
    });
    assert_eq!(titles(&layout_config(&path)), expected);
}

fn layout_blob(path: &std::path::Path, digest: &serde_json::Value) -> PathBuf {
    path.join("blobs")
        .join(digest.as_str().unwrap().replace(':', "/"))
}

fn layout_config(path: &std::path::Path) -> serde_json::Value {
    let read =
        |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = read(path.join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let manifest = read(layout_blob(path, &index["manifests"][0]["digest"]));
    read(layout_blob(path, &manifest["config"]["digest"]))
}

/// Whatever a cache says, the image is the one that a build without it makes, and the store stays sound.
fn remote_hostile() {
    type Lie = fn(&Registry, &Descriptor) -> Vec<u8>;
    let honest = Registry::new();
    let a = world();
    let expected = a.layer(
        &a.store
            .image(&export(&a, &honest, CacheMode::Max).to_string())
            .unwrap(),
        0,
    );
    let (manifest, config) = (honest.manifest(), honest.config());
    let hostile = |registry: &Registry, config: &serde_json::Value, lie: Option<Lie>, warning: &str| {
        let text = serde_json::to_vec(config).unwrap();
        let mut blobs = Vec::new();
        for layer in &manifest.layers {
            let bytes = honest.store.read_blob(&layer.digest, 1 << 30).unwrap();
            registry.store.put_blob(&bytes).unwrap();
            blobs.push((layer.media_type.as_str(), layer.digest.clone(), layer.size));
        }
        registry.put(&text, &blobs);
        *registry.lies.lock().unwrap() = lie;
        let b = world();
        let outcome = run(&b, registry, &importing(&b, location()));
        assert!(
            warnings(&outcome).contains(warning),
            "{warning}: {}",
            warnings(&outcome)
        );
        let image = b.store.image(&image(&outcome).to_string()).unwrap();
        assert_eq!(b.layer(&image, 0), expected, "{warning}");
        b.assert_clean();
    };
    let check = |change: &dyn Fn(&mut serde_json::Value), warning: &str| {
        let mut config = config.clone();
        change(&mut config);
        hostile(&Registry::new(), &config, None, warning);
    };
    let count = config["layers"].as_array().unwrap().len();
    // Layers of each other: bytes and digests are right, DiffIDs are not.
    check(
        &|config| {
            for layer in config["layers"].as_array_mut().unwrap() {
                layer["blob"] = ((layer["blob"].as_u64().unwrap() + 1) % count as u64).into();
            }
        },
        "not used any more",
    );
    check(
        &|config| {
            for layer in config["layers"].as_array_mut().unwrap() {
                layer["size"] = 1.into();
            }
        },
        "not used any more",
    );
    // Records that name other layers than their values do are no records.
    check(
        &|config| {
            for record in config["records"].as_array_mut().unwrap() {
                record["layer"] = ((record["layer"].as_u64().unwrap() + 1) % count as u64).into();
            }
        },
        "",
    );
    check(
        &|config| config["records"][0]["key"] = "context/v1/1-2".into(),
        "no key of a step",
    );
    check(
        &|config| config["layers"][0]["blob"] = 1000.into(),
        "there is no blob 1000",
    );
    check(&|config| config["version"] = 7.into(), "version 7");
    check(
        &|config| {
            config["padding"] = " ".repeat(33 << 20).into();
        },
        "at most",
    );
    check(
        &|config| {
            let record = config["records"][0].clone();
            config["records"] = vec![record; 20_000].into();
        },
        "more than",
    );
    let lies: [(Lie, &str); 3] = [
        (|_, _| b"something else".to_vec(), "digest"),
        (
            |registry, blob| {
                let bytes = registry.store.read_blob(&blob.digest, 1 << 30).unwrap();
                if blob.media_type.contains("config") {
                    return bytes;
                }
                b"not the layer".to_vec()
            },
            "not used any more",
        ),
        (
            |registry, blob| {
                let bytes = registry.store.read_blob(&blob.digest, 1 << 30).unwrap();
                let keep = if blob.media_type.contains("config") {
                    bytes.len()
                } else {
                    bytes.len() / 2
                };
                bytes[..keep].to_vec()
            },
            "not used any more",
        ),
    ];
    for (lie, warning) in lies {
        hostile(&Registry::new(), &config, Some(lie), warning);
    }
}

/// An archive that is exactly what record and digests say may still be no layer of ours, or hostile.
fn remote_local_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let location = || CacheLocation::Local {
        path: path.clone(),
        tag: Some("t".to_owned()),
    };
    let a = world();
    let request = Request {
        cache_to: vec![to(location(), CacheMode::Max)],
        ..a.request(DOCKERFILE)
    };
    let first = image(&a.run(&request));
    let blobs = path.join("blobs/sha256");
    let names = || -> BTreeSet<String> {
        fs::read_dir(&blobs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let before = names();
    assert_eq!(before.len(), 7, "manifest, config, five layers");
    // What a killed writer leaves is gone after the next one.
    fs::write(blobs.join(".cooper-tmp-x"), "half").unwrap();
    fs::write(blobs.join("0".repeat(64)), "unnamed").unwrap();
    let b = world();
    let outcome = b.run(&importing(&b, location()));
    assert_eq!(
        (warnings(&outcome), image(&outcome)),
        (String::new(), first.clone())
    );
    assert_eq!(outcome.executed(), Vec::<String>::new());
    let more = Request {
        dockerfile: Some(format!("{DOCKERFILE}RUN echo > x\n").into()),
        ..request
    };
    image(&a.run(&more));
    assert_eq!(names().len(), 8);
    // Links out of the directory are not followed; half a directory is a warning.
    for (damage, warning) in [
        (
            (|path| {
                // A whole index, but behind a link.
                fs::rename(path.join("index.json"), path.join("elsewhere")).unwrap();
                std::os::unix::fs::symlink("elsewhere", path.join("index.json")).unwrap();
            }) as fn(&std::path::Path),
            "index.json",
        ),
        (
            |path| {
                // Never through the link.
                fs::remove_file(path.join("index.json")).unwrap();
                fs::write(path.join("index.json"), vec![b' '; 5 << 20]).unwrap();
            },
            "more than",
        ),
        (
            |path| fs::remove_file(path.join("index.json")).unwrap(),
            "not found",
        ),
        (|path| fs::remove_dir_all(path).unwrap(), "not found"),
    ] {
        damage(&path);
        let c = world();
        let outcome = c.run(&importing(&c, location()));
        assert!(warnings(&outcome).contains(warning), "{}", warnings(&outcome));
        assert!(outcome.result.is_ok());
        c.assert_clean();
    }
}

/// A directory that lost or damaged blobs is whole again after the next export that can make them.
fn remote_local_heals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let location = || CacheLocation::Local {
        path: path.clone(),
        tag: None,
    };
    let a = world();
    let exporting = |world: &World| Request {
        cache_to: vec![to(location(), CacheMode::Max)],
        ..importing(world, location())
    };
    let first = image(&a.run(&Request {
        cache_to: vec![to(location(), CacheMode::Max)],
        ..a.request(DOCKERFILE)
    }));
    let blobs = || -> Vec<PathBuf> {
        let mut blobs: Vec<PathBuf> = fs::read_dir(path.join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        blobs.sort_by_key(|path| fs::metadata(path).unwrap().len());
        blobs
    };
    for damage in [
        (|blobs| fs::remove_file(&blobs[0]).unwrap()) as fn(&[PathBuf]),
        |blobs| fs::remove_file(blobs.last().unwrap()).unwrap(),
        |blobs| {
            for blob in blobs {
                let mut bytes = fs::read(blob).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(blob, bytes).unwrap();
            }
        },
    ] {
        damage(&blobs());
        let b = world();
        image(&b.run(&exporting(&b)));
        image(&a.run(&exporting(&a)));
        let c = world();
        let outcome = c.run(&importing(&c, location()));
        assert_eq!(warnings(&outcome), "");
        assert_eq!(outcome.executed(), Vec::<String>::new());
        c.assert_clean();
    }
    assert_eq!(image(&a.run(&exporting(&a))), first);
    fs::write(path.join("index.json"), "garbage").unwrap();
    let outcome = a.run(&exporting(&a));
    assert!(
        warnings(&outcome).contains("begun anew"),
        "{}",
        warnings(&outcome)
    );
    let c = world();
    assert_eq!(c.run(&importing(&c, location())).executed(), Vec::<String>::new());
}

/// No cache is a warning; nowhere to export to is an error, or a warning.
fn remote_missing() {
    let registry = Registry::new();
    let a = world();
    let outcome = run(&a, &registry, &importing(&a, location()));
    assert!(warnings(&outcome).contains("not found") && outcome.result.is_ok());
    let outcome = a.run(&importing(&a, location()));
    assert!(warnings(&outcome).contains("no registry for") && outcome.result.is_ok());
    let mut request = Request {
        cache_to: vec![to(location(), CacheMode::Max)],
        ..a.request(DOCKERFILE)
    };
    assert!(matches!(a.run(&request).result, Err(Error::CacheExport { .. })));
    request.cache_to[0].ignore_error = true;
    let outcome = a.run(&request);
    assert!(warnings(&outcome).contains("not exported") && outcome.result.is_ok());
    // An image is not overwritten.
    let name: ImageRef = CACHE.parse().unwrap();
    let base = a.store.image("busybox").unwrap();
    let bytes = a.store.read_blob(&base.id, 1 << 20).unwrap();
    registry.store.put_blob(&base.config_bytes).unwrap();
    registry
        .store
        .put_manifest(
            Some(&name.repo),
            media_type::OCI_MANIFEST,
            &bytes,
            None,
            &[name.tag_or_latest().unwrap()],
        )
        .unwrap();
    let outcome = run(&a, &registry, &request);
    assert!(
        warnings(&outcome).contains("an image is there"),
        "{}",
        warnings(&outcome)
    );
    assert!(warnings(&run(&a, &registry, &importing(&a, location()))).contains("no inline cache"));
    a.assert_clean();
}

/// Records of a cache serve the builds that name it, and no others.
fn remote_trust() {
    let registry = Registry::new();
    let (a, b) = (world(), world());
    export(&a, &registry, CacheMode::Max);
    image(&run(&b, &registry, &importing(&b, location())));
    let outcome = b.run(&b.request(DOCKERFILE));
    assert_eq!(outcome.executed().len(), 5, "{:?}", outcome.executed());
}

fn remote_inline() {
    let registry = Registry::new();
    let (a, b) = (world(), world());
    let mut request = Request {
        cache_to: vec![to(CacheLocation::Inline, CacheMode::Min)],
        ..a.request(DOCKERFILE)
    };
    let name: ImageRef = CACHE.parse().unwrap();
    request.targets[0].names = vec![name.clone()];
    let first = image(&run(&a, &registry, &request));
    registry.of(&a).push(&name, &first, &|_| {}).unwrap();
    let config = a.store.image(&first.to_string()).unwrap().config;
    let inline = config.inline_cache.unwrap();
    // One copy of a single file is known by its key without the name of its source, too.
    assert_eq!(inline["records"].as_array().unwrap().len(), 5, "{inline}");
    let mut request = importing(&b, location());
    request.dockerfile = Some(
        DOCKERFILE
            .replace("FROM busybox AS build", "FROM busybox AS other")
            .replace("=build", "=other")
            .into(),
    );
    let outcome = run(&b, &registry, &request);
    assert_eq!(warnings(&outcome), "");
    // Of the first stage nothing is known, but it ends in the same file.
    assert_eq!(outcome.executed().len(), 2, "{:?}", outcome.executed());
    let built = b.store.image(&image(&outcome).to_string()).unwrap();
    assert_eq!(built.config.rootfs, config.rootfs);
    assert!(built.config.inline_cache.is_none());
}
