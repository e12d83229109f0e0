//! A mount as blobs.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cooper_registry::digest::{Algorithm, Digest, Hasher};
use cooper_registry::oci::Descriptor;
use cooper_registry::store::{Lease, Store};
use rustix::fs::{AtFlags, FileType, Stat, statat};
use serde::{Deserialize, Serialize};

use super::super::compress::compressed;
use super::listing::{Entry, Kind, Listing, MAX_ENTRIES, PackInfo, escape};
use super::pack::{Piece, cut};
use super::{INDEX_TYPE, PACK_TYPE};
use crate::build::reason;
use crate::mounts::CacheMountReader;
use crate::tree::RootHandle;

/// Changes younger than this may be followed by others with the same times.
const SETTLED_SECONDS: i64 = 2;
/// Packs beyond this number are no cache any more.
const MAX_PACKS: usize = 4000;

/// A mount in blobs.
#[derive(Debug, Clone)]
pub(in crate::cache::remote) struct Taken {
    pub(in crate::cache::remote) index: Descriptor,
    pub(in crate::cache::remote) packs: Vec<Descriptor>,
}

/// What the store remembers of the last export, by what `stat` said of each pack's files.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    version: u32,
    packs: BTreeMap<String, KnownPack>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KnownPack {
    info: PackInfo,
    blob: Descriptor,
}

struct Found {
    path: PathBuf,
    stat: Stat,
}

/// Makes blobs of a mount in the store; packs that `has` says are there already need not be made.
pub(in crate::cache::remote) fn take(
    store: &Store,
    lease: &Lease,
    mount: &CacheMountReader,
    has: &dyn Fn(&Digest) -> bool,
) -> Result<Taken, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let key = format!("mounts/v1/{}", mount.identity().key());
    let remembered = store.cache_get(&key).map_err(|error| text(&error))?;
    let remembered: Remembered = remembered
        .and_then(|record| serde_json::from_slice(&record.value).ok())
        .filter(|remembered: &Remembered| remembered.version == 1)
        .unwrap_or_default();
    let root = RootHandle::open_host(mount.data()).map_err(|error| text(&error))?;
    let (entries, found) = walk(&root)?;
    let sizes = entries
        .iter()
        .enumerate()
        .filter_map(|(at, entry)| match entry.kind {
            Kind::File(size) => Some((at, entry.path.as_bytes(), size)),
            _ => None,
        });
    let plan = cut(sizes);
    if plan.len() > MAX_PACKS {
        return Err(format!("it has more than {MAX_PACKS} packs of files"));
    }
    let now = jiff::Timestamp::now().as_second();
    let mut known = Remembered {
        version: 1,
        ..Remembered::default()
    };
    let (mut packs, mut blobs) = (Vec::new(), Vec::new());
    for pieces in &plan {
        let (signature, changed) = signature(pieces, &found);
        let old = remembered.packs.get(&signature).filter(|pack| {
            lease.blob(&pack.blob.digest).is_ok()
                && (has(&pack.blob.digest) || matches!(store.blob_info(&pack.blob.digest), Ok(Some(_))))
        });
        let pack = match old {
            Some(pack) => pack.clone(),
            None => make(store, lease, &root, pieces, &found)?,
        };
        packs.push(pack.info.clone());
        blobs.push(pack.blob.clone());
        if old.is_some() || now - changed > SETTLED_SECONDS {
            known.packs.insert(signature, pack);
        }
    }
    let listing = serde_json::to_vec(&Listing::new(entries, packs)).map_err(|error| text(&error))?;
    let (digest, size) = compressed(store, lease, &mut &*listing).map_err(|error| text(&error))?;
    let value = serde_json::to_vec(&known).map_err(|error| text(&error))?;
    store
        .cache_put(&key, "packs of a cache mount", &value, &[])
        .map_err(|error| text(&error))?;
    Ok(Taken {
        index: Descriptor::new(INDEX_TYPE, digest, size),
        packs: blobs,
    })
}

/// Everything in the mount, parents first, by name.
fn walk(root: &RootHandle) -> Result<(Vec<Entry>, Vec<Found>), String> {
    let mut entries = Vec::new();
    let mut found = Vec::new();
    let mut links: HashMap<(u64, u64), usize> = HashMap::new();
    let top = root.stat(Path::new("")).map_err(reason)?;
    let mut stack = vec![(PathBuf::new(), top)];
    while let Some((path, stat)) = stack.pop() {
        let at = |errno| format!("/{}: {}", path.display(), reason(errno));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                // Popped in order of their names.
                let names = root.list(&path).map_err(at)?;
                let dir = root.open_dir(&path).map_err(at)?;
                for name in names.into_iter().rev() {
                    let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(at)?;
                    stack.push((path.join(name), stat));
                }
                Kind::Dir
            }
            FileType::RegularFile => {
                let first = *links.entry((stat.st_dev, stat.st_ino)).or_insert(entries.len());
                match first == entries.len() {
                    true => Kind::File(u64::try_from(stat.st_size).unwrap_or(0)),
                    false => Kind::Same(first),
                }
            }
            FileType::Symlink => {
                let target = root.read_link(&path).map_err(at)?;
                Kind::Link(escape(target.as_bytes()))
            }
            _ => continue,
        };
        if entries.len() >= MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} files"));
        }
        entries.push(Entry {
            path: escape(path.as_os_str().as_bytes()),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        });
        found.push(Found { path, stat });
    }
    Ok((entries, found))
}

/// What `stat` says of a pack's files, and when the last of them changed.
fn signature(pieces: &[Piece], found: &[Found]) -> (String, i64) {
    let mut hasher = Algorithm::Sha256.hasher();
    let mut changed = i64::MIN;
    for piece in pieces {
        let Found { path, stat } = &found[piece.file];
        let path = path.as_os_str().as_bytes();
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path);
        let text = format!(
            "{} {} {} {} {} {} {} {} {}\n",
            piece.offset,
            piece.length,
            stat.st_size,
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_ctime,
            stat.st_ctime_nsec,
            stat.st_dev,
            stat.st_ino
        );
        hasher.update(text.as_bytes());
        changed = changed.max(stat.st_ctime);
    }
    (hasher.finish().hex().to_owned(), changed)
}

fn make(
    store: &Store,
    lease: &Lease,
    root: &RootHandle,
    pieces: &[Piece],
    found: &[Found],
) -> Result<KnownPack, String> {
    let mut reader = PackReader {
        root,
        found,
        pieces: pieces.iter(),
        current: None,
        hasher: Some(Algorithm::Sha256.hasher()),
        size: 0,
    };
    let (digest, size) = compressed(store, lease, &mut reader).map_err(|error| error.to_string())?;
    let hasher = reader.hasher.take().unwrap_or_else(|| Algorithm::Sha256.hasher());
    Ok(KnownPack {
        info: PackInfo {
            digest: hasher.finish(),
            size: reader.size,
        },
        blob: Descriptor::new(PACK_TYPE, digest, size),
    })
}

/// The bytes of a pack; an error if a file is not what the walk saw any more.
struct PackReader<'a> {
    root: &'a RootHandle,
    found: &'a [Found],
    pieces: std::slice::Iter<'a, Piece>,
    /// A file, which one, and how much of it is left.
    current: Option<(File, usize, u64)>,
    hasher: Option<Hasher>,
    size: u64,
}

impl Read for PackReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let Some((file, number, left)) = &mut self.current else {
                let Some(piece) = self.pieces.next() else {
                    return Ok(0);
                };
                let mut file = self.root.open_file(&self.found[piece.file].path)?;
                file.seek(SeekFrom::Start(piece.offset))?;
                self.current = Some((file, piece.file, piece.length));
                continue;
            };
            let Found { path, stat } = &self.found[*number];
            let changed = || {
                let message = format!("/{} was written to meanwhile", path.display());
                std::io::Error::other(message)
            };
            if *left == 0 {
                let now = rustix::fs::fstat(&*file)?;
                let same = |stat: &Stat| {
                    (
                        stat.st_ino,
                        stat.st_size,
                        stat.st_mtime,
                        stat.st_mtime_nsec,
                        stat.st_ctime,
                        stat.st_ctime_nsec,
                    )
                };
                if same(&now) != same(stat) {
                    return Err(changed());
                }
                self.current = None;
                continue;
            }
            let limit = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
            let got = file.read(&mut buffer[..limit])?;
            if got == 0 && limit > 0 {
                return Err(changed());
            }
            *left -= got as u64;
            self.size += got as u64;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..got]);
            }
            return Ok(got);
        }
    }
}
