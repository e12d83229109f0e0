//! COPY and ADD

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use cooper_registry::digest::Algorithm;
use cooper_registry::store::Snapshot;

use super::archive::extract;
use super::context::{Environment, RootFs};
use super::line;
use super::step::Keep;
use crate::build::Error;
use crate::cache::{Fact, FileList, Key, fingerprint};
use crate::plan::{CopyAction, CopyFrom};
use crate::tree::{
    Copier, CopyOptions, DataDigest, Entry, FileKind, Filter, Owner, RootHandle, Selection, hash_directory,
    hash_file, lookup_owner, mount_readonly, mount_writable, select,
};

/// The key without the files.
pub(super) fn action_key(action: &CopyAction, parent: &RootFs) -> Key {
    let mut key = Key::new(if action.unpack { "ADD" } else { "COPY" });
    key.add("rootfs", parent.identity());
    key.add("dest", &action.dest);
    key.add(
        "keeps-owner",
        if action.from == CopyFrom::Context {
            "no"
        } else {
            "yes"
        },
    );
    key.add_some("chown", action.chown.as_ref());
    key.add_some("chmod", action.mode.map(|mode| format!("{mode:o}")));
    for (source, _) in &action.sources {
        key.add(
            "source",
            source.rsplit('/').find(|part| !part.is_empty()).unwrap_or(""),
        );
    }
    for file in &action.files {
        key.add("inline", &file.name);
        key.add("inline", &file.bytes);
    }
    key
}

/// What a COPY takes.
#[derive(Debug)]
pub(super) struct Sources {
    root: Option<RootHandle>,
    is_context: bool,
    selections: Vec<Selection>,
}

/// Finds the sources, in the context or in another root file system.
pub(super) fn find(
    environment: &Environment<'_>,
    action: &CopyAction,
    from: Option<&RootFs>,
) -> Result<Sources, Error> {
    let is_context = action.from == CopyFrom::Context;
    let (root, filter) = match (is_context, from) {
        (true, _) => match environment.context {
            Some(context) => (Some(context.root.clone()), context.filter()),
            None => (None, Filter { ignore: None }),
        },
        (false, Some(from)) if !from.lowers.is_empty() => (
            Some(mount_readonly(&from.lowers, environment.empty)?),
            Filter { ignore: None },
        ),
        (false, _) => (
            Some(RootHandle::open_host(environment.empty)?),
            Filter { ignore: None },
        ),
    };
    let mut selections = Vec::new();
    for (source, span) in &action.sources {
        environment.check_cancelled()?;
        let found = match &root {
            Some(root) => select(root, source, filter),
            None => Err(Error::SourceNotFound(format!(
                "/{}",
                source.trim_start_matches('/')
            ))),
        };
        selections.extend(found.map_err(|error| match error {
            Error::Cancelled => error,
            error => environment.source.error(*span, error.to_string()),
        })?);
    }
    Ok(Sources {
        root,
        is_context,
        selections,
    })
}

impl Sources {
    /// Whether one file that is no directory is all there is to copy.
    pub(super) fn is_single_file(&self) -> bool {
        matches!(self.selections.as_slice(), [only] if matches!(only.entries.as_slice(), [file] if !file.is_dir()))
    }

    /// Adds the files to a key: where they go, what they are, and their contents; not their times.
    pub(super) fn add_to(&self, environment: &Environment<'_>, key: &mut Key) -> Result<(), Error> {
        let Some(root) = &self.root else { return Ok(()) };
        // Links among all that is copied are kept, so they count, by the number of the first file.
        let mut links: HashMap<(u64, u64), usize> = HashMap::new();
        let mut number = 0;
        for selection in &self.selections {
            let mut hasher = Algorithm::Sha256.hasher();
            let mut list = FileList::new(selection.entries.first().map_or(Path::new(""), |top| &top.real));
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
                let line = self.describe(environment, root, entry, first)?;
                list.push(&entry.rel, self.fact(entry, &line));
                hasher.update(line.as_bytes());
                if selection.entries.len() <= LISTED {
                    key.add("file", &line);
                }
            }
            // The last component of a pattern's match, which names the file where the destination is a directory.
            if selection.entries.first().is_some_and(|top| !top.is_dir()) {
                key.add("name", selection.name.as_os_str().as_encoded_bytes());
            }
            key.add("files", hasher.finish().to_string());
            key.explain(list);
        }
        Ok(())
    }

    /// The same for an explanation: `line` is what [`Self::describe`] says.
    fn fact(&self, entry: &Entry, line: &str) -> Fact {
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
        Fact {
            mode: entry.stat.st_mode,
            user: if self.is_context { 0 } else { entry.stat.st_uid },
            group: if self.is_context { 0 } else { entry.stat.st_gid },
            content,
            attributes,
        }
    }

    fn describe(
        &self,
        environment: &Environment<'_>,
        root: &RootHandle,
        entry: &Entry,
        link: Option<usize>,
    ) -> Result<String, Error> {
        let (user, group) = if self.is_context {
            (0, 0)
        } else {
            (entry.stat.st_uid, entry.stat.st_gid)
        };
        let name = entry.rel.as_os_str().as_encoded_bytes();
        let mut line = line::start(name, entry.stat.st_mode, user, group);
        // Writing to a String cannot fail.
        let _ = match (&entry.kind, link) {
            (_, Some(first)) => write!(line, " link {first}"),
            (FileKind::Regular, None) => {
                let DataDigest(digest) = match environment.digests.filter(|_| self.is_context) {
                    Some(digests) => digests.digest(root, entry)?,
                    None => hash_file(root, entry)?.0,
                };
                write!(line, " {} {digest}", entry.stat.st_size)
            }
            (FileKind::Symlink(target), None) => {
                write!(
                    line,
                    " -> {}",
                    cooper_registry::digest::to_hex(target.as_encoded_bytes())
                )
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
}

/// As many files are listed one by one in a key's description.
const LISTED: usize = 500;

pub(super) fn execute(
    environment: &Environment<'_>,
    action: &CopyAction,
    sources: &Sources,
    parent: &RootFs,
    snapshot: &Snapshot,
) -> Result<Keep, Error> {
    let dest = mount_writable(
        &parent.lowers,
        &snapshot.upper(),
        &snapshot.work(),
        environment.empty,
    )?;
    let chown = action
        .chown
        .as_deref()
        .map(|text| lookup_owner(&dest, text))
        .transpose()?;
    let owner = chown.or(sources.is_context.then_some(Owner::default()));
    let options = CopyOptions {
        owner,
        mode: action.mode,
    };
    let mut copier = Copier::new(&dest, options, environment.stop);
    let mut archives = Vec::new();
    for selection in &sources.selections {
        let Some(root) = &sources.root else { break };
        if action.unpack
            && let Some(archive) = extract(environment.store, root, selection)?
        {
            // Archives keep their owners unless told otherwise; links are kept among an archive's own files.
            let options = CopyOptions {
                owner: chown,
                mode: action.mode,
            };
            let mut inner = Copier::new(&dest, options, environment.stop);
            let tree = mount_readonly(std::slice::from_ref(&archive.tree), environment.empty)?;
            for selection in select(&tree, "/", Filter { ignore: None })? {
                inner.copy(
                    &tree,
                    &selection,
                    &format!("{}/", action.dest.trim_end_matches('/')),
                )?;
            }
            archives.push(inner);
            continue;
        }
        copier.copy(root, selection, &action.dest)?;
    }
    for file in &action.files {
        copier.write(&file.name, &file.bytes, &action.dest)?;
    }
    for archive in archives {
        archive.finish()?;
    }
    Ok(if copier.finish()? { Keep::No } else { Keep::Yes })
}
