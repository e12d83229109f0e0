//! Out of one store, through a directory, into another.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Platform};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Image, Store};

use crate::build::{
    BaseImages, CacheExport, CacheImport, CacheLocation, CacheMode, Event, Registries, Request, Secrets,
    Services, Web, WebRequest, WebResponse,
};
use crate::cache::RemoteCache;
use crate::cache::remote::export;
use crate::mounts::{CacheMounts, MountIdentity};

/// A machine without a network.
struct Nothing;

impl BaseImages for Nothing {
    fn resolve(&self, _: &ImageRef, _: &Platform, _: bool, _: &AtomicBool) -> Result<Image, String> {
        Err("no images".to_owned())
    }
}

impl Secrets for Nothing {
    fn secret(&self, _: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn ssh_agent(&self, _: &str) -> Result<Option<PathBuf>, String> {
        Ok(None)
    }
}

impl Web for Nothing {
    fn get(
        &self,
        _: &WebRequest<'_>,
        _: &mut dyn FnMut(&WebResponse) -> bool,
        _: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), String> {
        Err("no network".to_owned())
    }
}

impl Registries for Nothing {
    fn manifest(&self, _: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
        Err("no network".to_owned())
    }

    fn blob(&self, _: &ImageRef, _: &Descriptor) -> Result<(), String> {
        Err("no network".to_owned())
    }

    fn push(&self, _: &ImageRef, _: &Digest, _: &(dyn Fn(String) + Sync)) -> Result<(), String> {
        Err("no network".to_owned())
    }
}

struct Machine {
    _dir: tempfile::TempDir,
    store: Store,
    cache: PathBuf,
}

impl Machine {
    fn new(cache: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self {
            _dir: dir,
            store,
            cache: cache.to_owned(),
        }
    }

    fn location(&self) -> CacheLocation {
        CacheLocation::Local {
            path: self.cache.clone(),
            tag: None,
        }
    }

    /// Exports or imports; gives the warnings.
    fn run(&self, exporting: bool) -> Vec<String> {
        let warnings = Mutex::new(Vec::new());
        let events = |event: Event| {
            if let Event::Warning { text } = event {
                warnings.lock().unwrap().push(text);
            }
        };
        let request = Request {
            cache_from: if exporting {
                Vec::new()
            } else {
                vec![CacheImport {
                    location: self.location(),
                }]
            },
            ..Request::default()
        };
        let services = Services {
            bases: &Nothing,
            secrets: &Nothing,
            web: &Nothing,
            registries: &Nothing,
        };
        let lease = self.store.lease().unwrap();
        let remote = RemoteCache::open(&self.store, &lease, &request, services, &events);
        if exporting {
            remote.note_mount(&identity());
            let to = CacheExport {
                location: self.location(),
                mode: CacheMode::Max,
                mounts: true,
                compression: crate::build::Compression::default(),
                ignore_error: false,
            };
            export(&remote, &lease, &[to], &std::collections::BTreeSet::new()).unwrap();
        } else {
            remote.restore_mount(&lease, &identity());
        }
        drop(remote);
        warnings.into_inner().unwrap()
    }

    /// Fills the mount.
    fn fill(&self, with: &dyn Fn(&Path)) {
        let writer = CacheMounts::open(&self.store)
            .unwrap()
            .write(&identity())
            .unwrap()
            .unwrap();
        with(&writer.data());
        assert!(writer.commit().unwrap());
    }

    fn data(&self) -> Option<PathBuf> {
        let reader = CacheMounts::open(&self.store)
            .unwrap()
            .read(&identity().key())
            .unwrap();
        reader.map(|reader| reader.data().to_owned())
    }
}

fn identity() -> MountIdentity {
    MountIdentity {
        namespace: String::new(),
        id: "/root/.cache".to_owned(),
        origin: String::new(),
    }
}

/// Everything about a tree, by path.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut stack = vec![root.to_owned()];
    while let Some(path) = stack.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else if metadata.is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else {
            Digest::sha256(&fs::read(&path).unwrap()).to_string()
        };
        let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
        let (mtime, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        let text = format!(
            "{:o} {}:{} {mtime}.{nanoseconds} {links} {content}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid()
        );
        found.insert(path.strip_prefix(root).unwrap().to_owned(), text);
    }
    found
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()
    })
    .flat_map(|word| word.into_iter().take(4))
    .take(length)
    .collect()
}

fn blobs(cache: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(cache.join("blobs/sha256")).unwrap();
    let named = entries.map(|entry| {
        let entry = entry.unwrap();
        (
            entry.file_name().into_string().unwrap(),
            entry.metadata().unwrap().len(),
        )
    });
    named.collect()
}

fn sample(root: &Path) {
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("deep/er/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("deep/er/tool"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(root.join("deep/er/tool"), root.join("again")).unwrap();
    symlink("../nowhere", root.join("deep/link")).unwrap();
    fs::write(root.join("100%\u{e4}"), "odd name").unwrap();
    fs::write(root.join("large"), noise(1, 9 << 20)).unwrap();
    for i in 0..300 {
        fs::write(root.join(format!("deep/{i}")), noise(i, 20_000)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(root.join("deep/er"), Some(1000), Some(1001)).unwrap();
        std::os::unix::fs::lchown(root.join("deep/link"), Some(7), Some(8)).unwrap();
    }
    fs::set_permissions(root.join("deep"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o1777)).unwrap();
}

#[test]
fn out_and_in_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let (a, b) = (Machine::new(&cache), Machine::new(&cache));
    a.fill(&sample);
    assert_eq!(a.run(true), Vec::<String>::new());
    let before = blobs(&cache);
    // Nothing changed: not a byte.
    assert_eq!(a.run(true), Vec::<String>::new());
    assert_eq!(blobs(&cache), before);
    assert_eq!(b.run(false), Vec::<String>::new());
    let (there, here) = (tree(&a.data().unwrap()), tree(&b.data().unwrap()));
    assert_eq!(there, here);
    assert!(here.len() > 300);
    // What is here stays, even if it is empty.
    let c = Machine::new(&cache);
    c.fill(&|_| {});
    c.run(false);
    assert_eq!(tree(&c.data().unwrap()).len(), 1);
    // A small change: the packs around it, the index, config and manifest.
    fs::write(a.data().unwrap().join("deep/7"), "changed").unwrap();
    a.run(true);
    let new: u64 = blobs(&cache)
        .iter()
        .filter(|(name, _)| !before.contains_key(*name))
        .map(|(_, size)| size)
        .sum();
    let total: u64 = before.values().sum();
    assert!(total > 14 << 20 && new < 3 << 20, "{new} of {total}");
    for machine in [&a, &b, &c] {
        assert_eq!(machine.store.check(true).unwrap(), Vec::<String>::new());
    }
}

/// Whatever the blobs say, either the mount is what the index says or there is none.
#[test]
fn damaged_packs() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let a = Machine::new(&cache);
    a.fill(&sample);
    a.run(true);
    for (name, _) in blobs(&cache) {
        let path = cache.join("blobs/sha256").join(&name);
        let bytes = fs::read(&path).unwrap();
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, damaged).unwrap();
        let b = Machine::new(&cache);
        assert_eq!(b.run(false).len(), 1, "{name}");
        assert_eq!(b.data(), None, "{name}");
        assert_eq!(b.store.check(true).unwrap(), Vec::<String>::new());
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let b = Machine::new(&cache);
    assert_eq!(b.run(false), Vec::<String>::new());
}

/// The second export of a large unchanged mount; `COOPER_TEST_MOUNT_MIB` makes it larger.
#[test]
fn unchanged_is_not_read() {
    let mib = std::env::var("COOPER_TEST_MOUNT_MIB")
        .ok()
        .and_then(|text| text.parse().ok());
    let mib: u64 = mib.unwrap_or(32);
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let a = Machine::new(&cache);
    a.fill(&|root| {
        let mut content = noise(1, 104_857);
        for i in 0..mib * 10 {
            let parent = root.join((i / 100).to_string());
            fs::create_dir_all(&parent).unwrap();
            content[..8].copy_from_slice(&i.to_le_bytes());
            fs::write(parent.join(i.to_string()), &content).unwrap();
        }
    });
    // Until the files' times are old enough to be believed.
    std::thread::sleep(Duration::from_secs(3));
    let mut times = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(a.run(true), Vec::<String>::new());
        times.push(start.elapsed());
    }
    println!("{mib} MiB: first export {:?}, second {:?}", times[0], times[1]);
    assert!(
        times[1] < Duration::from_secs(1) && times[1] * 2 < times[0],
        "{times:?}"
    );
}
