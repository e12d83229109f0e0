//! Disk usage as `du` counts it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::error::{IoContext, Result};
use super::gc::{list, mark_live};
use super::handle::Store;
use super::images::{closure, edges, layer_keys, top_level};
use super::layout::{ALGORITHMS, LAYER_KINDS, LayerKey};
use super::repos::{image_layers, stored_digest};
use super::types::Usage;
use crate::digest::{DiffId, Digest};

/// A thing on disk that images share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Item {
    Blob(Digest),
    Layer(LayerKey),
}

impl Store {
    /// What takes how much space. Walks the whole store; things that vanish meanwhile are not counted.
    pub fn usage(&self) -> Result<Usage> {
        let mut sizes: HashMap<Item, u64> = HashMap::new();
        let mut usage = Usage::default();
        for algorithm in ALGORITHMS {
            for (name, path) in list(&self.inner.layout.blob_dir(algorithm))? {
                let bytes = disk_usage(&path)?;
                usage.blobs_bytes += bytes;
                if let Ok(digest) = format!("{}:{name}", algorithm.as_str()).parse() {
                    sizes.insert(Item::Blob(digest), bytes);
                }
            }
        }
        for kind in LAYER_KINDS {
            for (name, path) in list(&self.inner.layout.layer_kind(kind))? {
                let bytes = disk_usage(&path)?;
                usage.layers_bytes += bytes;
                if let Some(key) = LayerKey::parse(kind, &name) {
                    sizes.insert(Item::Layer(key), bytes);
                }
            }
        }
        let (images, cache, live) = self.inner.index.read(|tx| {
            let mut images: Vec<(Digest, BTreeSet<Item>)> = Vec::new();
            for id in top_level(tx)? {
                let mut items = BTreeSet::new();
                for manifest in closure(tx, &id)? {
                    items.insert(Item::Blob(manifest.clone()));
                    items.extend(edges(tx, &manifest, "1")?.into_iter().map(Item::Blob));
                    items.extend(
                        layer_keys(&image_layers(tx, &manifest)?)
                            .into_iter()
                            .map(Item::Layer),
                    );
                }
                items.retain(|item| sizes.contains_key(item));
                images.push((id, items));
            }
            let mut cache: BTreeMap<String, (String, i64, BTreeSet<Item>)> = BTreeMap::new();
            let mut statement = tx.prepare("SELECT key, description, used_at FROM cache")?;
            for row in statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
                let (key, description, used): (String, String, i64) = row?;
                cache.insert(key, (description, used, BTreeSet::new()));
            }
            let mut statement = tx.prepare("SELECT key, diff_id FROM cache_layers")?;
            for row in statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))? {
                let (key, diff_id): (String, String) = row?;
                if let Some((_, _, items)) = cache.get_mut(&key) {
                    items.insert(Item::Layer(LayerKey::Diff(DiffId(stored_digest(&diff_id)?))));
                }
            }
            let leased = super::gc::digests(tx, "SELECT target FROM lease_items WHERE kind = 'manifest'")?;
            let mut kept: BTreeSet<Item> = BTreeSet::new();
            for digest in leased {
                for manifest in closure(tx, &digest)? {
                    kept.extend(edges(tx, &manifest, "1")?.into_iter().map(Item::Blob));
                    kept.extend(
                        layer_keys(&image_layers(tx, &manifest)?)
                            .into_iter()
                            .map(Item::Layer),
                    );
                    kept.insert(Item::Blob(manifest));
                }
            }
            let others = "SELECT target FROM lease_items WHERE kind = 'layer'
                          UNION SELECT digest FROM fresh WHERE kind = 'layer'";
            let layers = super::gc::digests(tx, others)?;
            kept.extend(
                layers
                    .into_iter()
                    .map(|digest| Item::Layer(LayerKey::Diff(DiffId(digest)))),
            );
            let others = "SELECT target FROM lease_items WHERE kind = 'blob'
                          UNION SELECT digest FROM fresh WHERE kind = 'blob'";
            kept.extend(super::gc::digests(tx, others)?.into_iter().map(Item::Blob));
            mark_live(tx)?;
            Ok((images, cache, kept))
        })?;
        let size = |item: &Item| sizes.get(item).copied().unwrap_or(0);
        let mut users: HashMap<&Item, usize> = HashMap::new();
        for item in images.iter().flat_map(|(_, items)| items) {
            *users.entry(item).or_default() += 1;
        }
        for (id, items) in &images {
            let total = items.iter().map(size).sum();
            let unique = items.iter().filter(|item| users[item] == 1).map(size).sum();
            usage.images.push((id.clone(), total, unique));
        }
        for (key, (description, used, items)) in &cache {
            let own = items
                .iter()
                .filter(|item| !users.contains_key(item) && !live.contains(item))
                .map(size)
                .sum();
            usage.cache.push((key.clone(), description.clone(), own, *used));
        }
        usage.total_bytes = self.total()?;
        usage.other_bytes = usage
            .total_bytes
            .saturating_sub(usage.layers_bytes + usage.blobs_bytes);
        usage.reclaimable_bytes = sizes
            .iter()
            .filter(|(item, _)| !live.contains(item))
            .map(|(_, bytes)| bytes)
            .sum();
        Ok(usage)
    }

    fn total(&self) -> Result<u64> {
        let root = self.root();
        let mut seen = HashSet::new();
        let mut total = u64::try_from(rustix::fs::lstat(root).at(root)?.st_blocks).unwrap_or(0) * 512;
        for (name, path) in list(root)? {
            if name != "containers" {
                total += walk(&path, &mut seen)?;
            }
        }
        Ok(total)
    }
}

/// Bytes of everything at and below `path`, each inode once; 0 if it is gone.
pub fn disk_usage(path: &Path) -> Result<u64> {
    walk(path, &mut HashSet::new())
}

/// Bases are opened anew before a path gets longer than the kernel takes in one piece: trees may be deeper than any path.
const LONG_PATH: usize = 2048;

fn walk(path: &Path, seen: &mut HashSet<(u64, u64)>) -> Result<u64> {
    let (no_follow, directory) = (AtFlags::SYMLINK_NOFOLLOW, OFlags::DIRECTORY | OFlags::CLOEXEC);
    let mut total = 0;
    let mut stack: Vec<(Option<Rc<OwnedFd>>, PathBuf)> = vec![(None, path.to_owned())];
    while let Some((mut base, mut path)) = stack.pop() {
        let at = |base: &Option<Rc<OwnedFd>>| base.clone().map_or(Base::Cwd, Base::Dir);
        let stat = match statat(at(&base).fd(), &path, no_follow) {
            Err(Errno::NOENT) => continue,
            other => other.at(&path)?,
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if !is_dir {
            continue;
        }
        let dir = match openat(at(&base).fd(), &path, directory | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            other => Rc::new(other.at(&path)?),
        };
        let names = Dir::read_from(&*dir).at(&path)?;
        let whole = path.clone();
        if path.as_os_str().len() > LONG_PATH {
            (base, path) = (Some(dir.clone()), PathBuf::new());
        }
        for entry in names {
            let entry = entry.at(&whole)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                stack.push((base.clone(), path.join(OsStr::from_bytes(name))));
            }
        }
    }
    Ok(total)
}

/// What a relative path starts from.
enum Base {
    Cwd,
    Dir(Rc<OwnedFd>),
}

impl Base {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Cwd => CWD,
            Self::Dir(fd) => fd.as_fd(),
        }
    }
}
