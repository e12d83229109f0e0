//! COPY and ADD

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cooper_registry::digest::{Algorithm, to_hex};
use cooper_registry::store::Layer;

use super::archive::extract;
use super::context::{Environment, RootFs};
use super::line;
use super::step::Keep;
use crate::build::{Error, IoContext as _};
use crate::cache::{Fact, FileList, Key, fingerprint};
use crate::context::OpenContext;
use crate::fetch::FILE;
use crate::plan::{CopyAction, CopyFrom, CopySource};
use crate::tree::{
    Assembly, Chmod, CopyOptions, DataDigest, Entry, FileKind, Filter, Group, Lowers, RootHandle, Selection,
    hash_directory, hash_file, lookup_owner, mount_readonly, select, select_parents,
};

/// The key without the files.
pub(super) fn action_key(action: &CopyAction, parent: &RootFs) -> Result<Key, Error> {
    let mut key = Key::new(if action.add && action.unpack {
        "ADD"
    } else {
        "COPY"
    });
    if action.link {
        add_base(&mut key, action, parent)?;
    } else {
        key.add("rootfs", parent.identity());
    }
    key.add("dest", &action.dest);
    key.add(
        "keeps-owner",
        match action.from {
            CopyFrom::Context | CopyFrom::Named(_) => "no",
            CopyFrom::Step(_) => "yes",
        },
    );
    if !action.link {
        key.add_some("chown", action.chown.as_ref());
    }
    key.add_some(
        "chmod",
        action.chmod.as_ref().map(|(text, chmod)| match chmod {
            Chmod::Octal(mode) => format!("{mode:o}"),
            Chmod::Symbolic(_) => text.clone(),
        }),
    );
    key.add_some("parents", action.parents.then_some("yes"));
    key.add_some("unpack-fetched", action.unpack_fetched.then_some("yes"));
    for source in &action.sources {
        match source {
            CopySource::Path(source, _) => key.add(
                "source",
                source.rsplit('/').find(|part| !part.is_empty()).unwrap_or(""),
            ),
            CopySource::Http { name, .. } => key.add("url", name),
            CopySource::Git { .. } => key.add("git", ""),
        }
    }
    for file in &action.files {
        key.add("inline", &file.name);
        key.add("inline", &file.bytes);
    }
    Ok(key)
}

/// What a layer that goes on top of anything takes from its base nevertheless: the numbers of names in `--chown`, and what
/// the directories on the way are like. Any base with the same gives the same layer.
fn add_base(key: &mut Key, action: &CopyAction, parent: &RootFs) -> Result<(), Error> {
    let base = Lowers::open(&parent.lowers)?;
    key.add("link", "");
    if let Some(chown) = &action.chown {
        let owner = lookup_owner(&base, chown)?;
        key.add("owner", format!("{}:{}", owner.user, owner.group));
    }
    let mut path = PathBuf::new();
    for part in action.dest.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        let Some(dir) = base.dir(&path).at(&path)? else {
            break;
        };
        let mut line = format!(
            "{} {:o} {}:{}",
            path.display(),
            dir.stat.st_mode & 0o7777,
            dir.stat.st_uid,
            dir.stat.st_gid
        );
        for (name, value) in &dir.xattrs {
            // Writing to a String cannot fail.
            let _ = write!(line, " {}={}", to_hex(name), to_hex(value));
        }
        key.add("base-dir", line);
    }
    Ok(())
}

/// What a COPY takes.
#[derive(Debug)]
pub(super) struct Sources {
    parts: Vec<Part>,
}

/// One source with what it was found to be.
#[derive(Debug)]
struct Part {
    root: RootHandle,
    kind: PartKind,
    /// The named context that it is in.
    named: Option<Arc<OpenContext>>,
    selection: Selection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartKind {
    Context,
    /// A stage or an image.
    Step,
    Http,
    Git,
}

impl Part {
    /// Where it is in what it comes from, for explanations.
    fn place(&self) -> &Path {
        match self.kind {
            PartKind::Http => &self.selection.name,
            _ => (self.selection.entries.first()).map_or(Path::new(""), |top| &top.real),
        }
    }

    /// Whose a file is in the layer, if nobody says otherwise.
    fn owner(&self, entry: &Entry) -> (u32, u32) {
        if self.kind.keeps_owner() {
            (entry.stat.st_uid, entry.stat.st_gid)
        } else {
            (0, 0)
        }
    }
}

impl PartKind {
    /// Whether files keep their owners; all others are root's.
    fn keeps_owner(self) -> bool {
        self == Self::Step
    }
}

/// Finds the sources, in the context or in another root file system, or among what `fetched` gives by step.
pub(super) fn find(
    environment: &Environment<'_>,
    action: &CopyAction,
    from: Option<&RootFs>,
    fetched: &dyn Fn(usize) -> Result<Arc<RootFs>, Error>,
) -> Result<Sources, Error> {
    let exclude = action.excludes.as_ref();
    let bare = Filter {
        exclude,
        ..Filter::default()
    };
    let wants_path = action.sources.iter().any(|source| source.step().is_none());
    let kind = match action.from {
        CopyFrom::Context | CopyFrom::Named(_) => PartKind::Context,
        CopyFrom::Step(_) => PartKind::Step,
    };
    let named = match action.from {
        CopyFrom::Named(number) => Some(environment.named.open(number)?),
        CopyFrom::Context | CopyFrom::Step(_) => None,
    };
    let (root, filter) = match (kind, from) {
        _ if !wants_path => (None, bare),
        (PartKind::Context, _) => match named.as_ref().map(|named| &named.files).or(environment.context) {
            Some(context) => (
                Some(context.root.clone()),
                Filter {
                    exclude,
                    ..context.filter()
                },
            ),
            None => (None, bare),
        },
        (_, Some(from)) if !from.lowers.is_empty() => {
            (Some(mount_readonly(&from.lowers, environment.empty)?), bare)
        }
        (_, _) => (Some(RootHandle::open_host(environment.empty)?), bare),
    };
    let mut parts = Vec::new();
    for source in &action.sources {
        environment.check_cancelled()?;
        match source {
            CopySource::Path(source, span) => {
                let found = match &root {
                    Some(root) if action.parents => select_parents(root, source, filter),
                    Some(root) => select(root, source, filter),
                    None => Err(Error::SourceNotFound(format!(
                        "/{}",
                        source.trim_start_matches('/')
                    ))),
                };
                let found = found.map_err(|error| match error {
                    Error::Cancelled => error,
                    error => environment.source.error(*span, error.to_string()),
                })?;
                for selection in found {
                    let root = root
                        .clone()
                        .ok_or_else(|| Error::internal("what was found has a root"))?;
                    parts.push(Part {
                        root,
                        kind,
                        named: named.clone(),
                        selection,
                    });
                }
            }
            CopySource::Http { step, name } => {
                let root = tree_of(&*fetched(*step)?)?;
                for mut selection in select(&root, FILE, bare)? {
                    selection.name = name.into();
                    parts.push(Part {
                        root: root.clone(),
                        kind: PartKind::Http,
                        named: None,
                        selection,
                    });
                }
            }
            CopySource::Git { step } => {
                let root = tree_of(&*fetched(*step)?)?;
                for selection in select(&root, "/", bare)? {
                    parts.push(Part {
                        root: root.clone(),
                        kind: PartKind::Git,
                        named: None,
                        selection,
                    });
                }
            }
        }
    }
    Ok(Sources { parts })
}

/// The one layer of what was fetched.
fn tree_of(fetched: &RootFs) -> Result<RootHandle, Error> {
    let tree = fetched.lowers.first();
    RootHandle::open_host(tree.ok_or_else(|| Error::internal("what was fetched has a layer"))?)
}

impl Sources {
    /// Whether one file that is no directory is all there is to copy, and was not fetched.
    pub(super) fn is_single_file(&self) -> bool {
        let [only] = self.parts.as_slice() else {
            return false;
        };
        let is_here = matches!(only.kind, PartKind::Context | PartKind::Step);
        is_here && matches!(only.selection.entries.as_slice(), [file] if !file.is_dir())
    }

    /// One selection as what is copied.
    pub(super) fn of(
        root: RootHandle,
        is_context: bool,
        named: Option<Arc<OpenContext>>,
        selection: Selection,
    ) -> Self {
        let kind = if is_context {
            PartKind::Context
        } else {
            PartKind::Step
        };
        Self {
            parts: vec![Part {
                root,
                kind,
                named,
                selection,
            }],
        }
    }

    /// The first selection.
    pub(super) fn selection(&self) -> Option<&Selection> {
        self.parts.first().map(|part| &part.selection)
    }

    /// Adds the files to a key: where they go, what they are, and their contents; not their times, but for the one that
    /// comes with a URL.
    pub(super) fn add_to(&self, environment: &Environment<'_>, key: &mut Key) -> Result<(), Error> {
        // Links among all that is copied are kept, so they count, by the number of the first file.
        let mut links: HashMap<(u64, u64), usize> = HashMap::new();
        let mut number = 0;
        for part in &self.parts {
            let selection = &part.selection;
            let mut hasher = Algorithm::Sha256.hasher();
            let mut list = FileList::new(part.place());
            for entry in &selection.entries {
                number += 1;
                environment.check_cancelled()?;
                let first = (entry.stat.st_nlink > 1 && !entry.is_dir())
                    .then(|| {
                        *links
                            .entry((entry.stat.st_dev, entry.stat.st_ino))
                            .or_insert(number)
                    })
                    .filter(|&first| first != number);
                let line = describe(environment, part, entry, first)?;
                list.push(&entry.rel, fact(part, entry, &line));
                hasher.update(line.as_bytes());
                if selection.entries.len() <= LISTED {
                    key.add("file", &line);
                }
            }
            // The last component of a pattern's match, which names the file where the destination is a directory.
            if let Some(top) = selection.entries.first().filter(|top| !top.is_dir()) {
                key.add("name", selection.name.as_os_str().as_encoded_bytes());
                let modified = (part.kind == PartKind::Http).then(|| top.stat.st_mtime.to_string());
                key.add_some("modified", modified);
            }
            key.add("files", hasher.finish().to_string());
            key.explain(list);
        }
        Ok(())
    }
}

/// The same for an explanation: `line` is what [`describe`] says.
fn fact(part: &Part, entry: &Entry, line: &str) -> Fact {
    let data = line.trim_end().rsplit(' ').next().unwrap_or_default();
    let (content, attributes) = match &entry.kind {
        FileKind::Directory => match data.strip_prefix('+') {
            Some(attributes) => (0, fingerprint(attributes.as_bytes())),
            None => (0, 0),
        },
        FileKind::Regular => {
            let (content, attributes) = data.split_once('+').unwrap_or((data, ""));
            let attributes = if attributes.is_empty() {
                0
            } else {
                fingerprint(attributes.as_bytes())
            };
            (fingerprint(content.as_bytes()), attributes)
        }
        _ => (fingerprint(data.as_bytes()), 0),
    };
    let (user, group) = part.owner(entry);
    Fact {
        mode: entry.stat.st_mode,
        user,
        group,
        content,
        attributes,
    }
}

fn describe(
    environment: &Environment<'_>,
    part: &Part,
    entry: &Entry,
    link: Option<usize>,
) -> Result<String, Error> {
    let root = &part.root;
    let (user, group) = part.owner(entry);
    let name = entry.rel.as_os_str().as_encoded_bytes();
    let mut line = line::start(name, entry.stat.st_mode, user, group);
    // Writing to a String cannot fail.
    let _ = match (&entry.kind, link) {
        (_, Some(first)) => write!(line, " link {first}"),
        (FileKind::Regular, None) => {
            let digests = match &part.named {
                Some(named) => Some(&named.digests),
                None => environment.digests.filter(|_| part.kind == PartKind::Context),
            };
            let DataDigest(digest) = match digests {
                Some(digests) => digests.digest(root, entry)?,
                None => hash_file(root, entry)?.0,
            };
            write!(line, " {} {digest}", entry.stat.st_size)
        }
        (FileKind::Symlink(target), None) => {
            write!(line, " -> {}", to_hex(target.as_encoded_bytes()))
        }
        (FileKind::Device(_, number), None) => write!(line, " device {number:x}"),
        (FileKind::Directory, None) => match hash_directory(root, entry)? {
            Some(attributes) => write!(line, " +{attributes}"),
            None => Ok(()),
        },
        (FileKind::Fifo | FileKind::Socket, None) => Ok(()),
    };
    line.push('\n');
    Ok(line)
}

/// As many files are listed one by one in a key's description.
const LISTED: usize = 500;

/// Makes the layer in one pass over the files.
pub(super) fn execute(
    environment: &Environment<'_>,
    action: &CopyAction,
    sources: &Sources,
    parent: &RootFs,
) -> Result<(Layer, Keep), Error> {
    let base = Lowers::open(&parent.lowers)?;
    let scratch = Lowers::default();
    let chown = action
        .chown
        .as_deref()
        .map(|text| lookup_owner(&base, text))
        .transpose()?;
    let chmod = action.chmod.as_ref().map(|(_, chmod)| chmod.clone());
    let roots = CopyOptions {
        owner: Some(chown.unwrap_or_default()),
        chmod: chmod.clone(),
    };
    let keeping = CopyOptions { owner: chown, chmod };
    // Archives keep their owners unless told otherwise, and their modes, as in BuildKit.
    let unpacked = CopyOptions {
        owner: chown,
        chmod: None,
    };
    let mut archives = Vec::new();
    for part in &sources.parts {
        let extracts = match part.kind {
            PartKind::Context | PartKind::Step => action.add && action.unpack,
            PartKind::Http => action.unpack_fetched,
            PartKind::Git => false,
        };
        environment.check_cancelled()?;
        archives.push(if extracts {
            extract(environment.store, &part.root, &part.selection)?
        } else {
            None
        });
    }
    let mut assembly = if action.link {
        Assembly::on_scratch(&scratch, &base)
    } else {
        Assembly::new(&base)
    };
    let into = format!("{}/", action.dest.trim_end_matches('/'));
    for (number, (part, archive)) in sources.parts.iter().zip(&archives).enumerate() {
        environment.check_cancelled()?;
        if let Some(archive) = archive {
            // Links are kept among an archive's own files.
            let group = Group {
                root: &archive.root,
                options: &unpacked,
                links: number + 1,
            };
            for selection in &archive.selections {
                assembly.copy(&group, selection, &into)?;
            }
            continue;
        }
        let group = Group {
            root: &part.root,
            options: if part.kind.keeps_owner() { &keeping } else { &roots },
            links: 0,
        };
        assembly.copy(&group, &part.selection, &action.dest)?;
    }
    for file in &action.files {
        assembly.write(&file.name, &file.bytes, &action.dest, &roots)?;
    }
    let changed = write(environment, &assembly)?;
    Ok((changed.0, if changed.1 { Keep::No } else { Keep::Yes }))
}

/// Writes a layer. Says whether a source changed meanwhile.
pub(super) fn write(environment: &Environment<'_>, assembly: &Assembly<'_>) -> Result<(Layer, bool), Error> {
    let clamp = environment.request.source_date_epoch;
    let mut writer = environment.store.write_layer(clamp, environment.stop)?;
    let changed = assembly.write_to(&mut writer, environment.stop)?;
    environment.check_cancelled()?;
    Ok((writer.finish_layer()?, changed))
}
