//! Files of stages, images and the context that a RUN mounts.

use std::path::Path;
use std::sync::Arc;

use super::super::context::{Environment, RootFs};
use super::super::copy;
use crate::build::Error;
use crate::cache::Key;
use crate::context::OpenContext;
use crate::plan::{CopyFrom, Mount, MountKind, RunAction};
use crate::tree::{
    Assembly, CopyOptions, Entry, Filter, Group, Lowers, Owner, RootHandle, Selection, mount_readonly,
    select_exact,
};

/// What the mounts of one RUN have, found but not mounted yet.
#[derive(Debug)]
pub(in crate::exec) struct Sources {
    list: Vec<Source>,
}

/// What one mount has.
#[derive(Debug)]
pub(super) struct Source {
    /// Number of the mount.
    mount: usize,
    root: RootHandle,
    /// The stage or image; none for the context and for nothing at all.
    pub(super) rootfs: Option<Arc<RootFs>>,
    pub(super) is_context: bool,
    /// Some of what lies there is hidden by an ignore file, or may be.
    filtered: bool,
    /// The one selection.
    files: copy::Sources,
}

/// Finds all sources.
pub(in crate::exec) fn find(
    environment: &Environment<'_>,
    action: &RunAction,
    input: &dyn Fn(usize) -> Option<Arc<RootFs>>,
) -> Result<Sources, Error> {
    let mut list = Vec::new();
    for (number, mount) in action.mounts.iter().enumerate() {
        let (Some(from), Some(source)) = (mount.kind.from(), source_of(&mount.kind)) else {
            continue;
        };
        environment.check_cancelled()?;
        let rootfs = match from {
            CopyFrom::Step(Some(step)) => {
                let rootfs =
                    input(step).ok_or_else(|| Error::internal("a mount's source is done before it"))?;
                Some(rootfs).filter(|rootfs| !rootfs.lowers.is_empty())
            }
            CopyFrom::Step(None) | CopyFrom::Context | CopyFrom::Named(_) => None,
        };
        let named: Option<Arc<OpenContext>> = match from {
            CopyFrom::Named(number) => Some(environment.named.open(number)?),
            CopyFrom::Context | CopyFrom::Step(_) => None,
        };
        let context = match &named {
            Some(named) => Some(&named.files),
            None => environment.context.filter(|_| from == CopyFrom::Context),
        };
        if let Some(rootfs) = &rootfs {
            environment.ready(rootfs)?;
        }
        let (root, filter) = match (&rootfs, context) {
            (Some(rootfs), _) => (
                mount_readonly(&rootfs.lowers, environment.empty)?,
                Filter::default(),
            ),
            (None, Some(context)) => (context.root.clone(), context.filter()),
            (None, None) => (RootHandle::open_host(environment.empty)?, Filter::default()),
        };
        let selection = select_exact(&root, source, filter)?.ok_or_else(|| {
            let problem = Error::SourceNotFound(source.to_owned()).to_string();
            environment.source.error(mount.source_span, problem)
        })?;
        // The path in its source does not count: what is there does.
        let selection = Selection {
            name: Path::new("").into(),
            ..selection
        };
        let is_context = context.is_some();
        list.push(Source {
            mount: number,
            rootfs,
            is_context,
            filtered: filter.ignore.is_some(),
            files: copy::Sources::of(root.clone(), is_context, named.clone(), selection),
            root,
        });
    }
    Ok(Sources { list })
}

/// Path of what is mounted; none where the mount does not begin with files.
fn source_of(kind: &MountKind) -> Option<&str> {
    match kind {
        MountKind::Cache {
            source,
            made: Some(_),
            ..
        } if source == "/" => None,
        MountKind::Bind { source, .. } | MountKind::Cache { source, .. } => Some(source),
        MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
    }
}

impl Sources {
    /// Adds the contents to a key.
    pub(super) fn add_to(&self, environment: &Environment<'_>, key: &mut Key) -> Result<(), Error> {
        self.list
            .iter()
            .try_for_each(|source| source.files.add_to(environment, key))
    }

    /// The source of a mount that has one.
    pub(super) fn get(&self, mount: usize) -> Option<&Source> {
        self.list.iter().find(|source| source.mount == mount)
    }

    /// Whether files of the context are still what they were when the key was made of them.
    pub(super) fn unchanged(&self) -> bool {
        let mut context = self.list.iter().filter(|source| source.is_context);
        context.all(|source| {
            let mut entries = source.entries().iter();
            entries.all(|entry| {
                source
                    .root
                    .stat(&entry.real)
                    .is_ok_and(|now| entry.same_version(&now))
            })
        })
    }
}

impl Source {
    fn entries(&self) -> &[Entry] {
        self.files.selection().map_or(&[], |selection| &selection.entries)
    }

    /// The file, or the top of the directory.
    pub(super) fn top(&self) -> Result<&Entry, Error> {
        self.entries()
            .first()
            .ok_or_else(|| Error::internal("a found source has a first entry"))
    }

    /// Whether the directory can be mounted as it is: all of it is visible, and root's.
    pub(super) fn is_plain(&self) -> bool {
        let roots = |entry: &Entry| (entry.stat.st_uid, entry.stat.st_gid) == (0, 0);
        !self.filtered && (!self.is_context || self.entries().iter().all(roots))
    }

    /// Path on this host of the directory that the source is in.
    pub(super) fn host_root(&self) -> Result<std::path::PathBuf, Error> {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        let link = format!("/proc/self/fd/{}", self.root.as_fd().as_raw_fd());
        std::fs::read_link(&link).map_err(|error| Error::io(Path::new(&link), &error))
    }

    /// Copies the source to `path`, of which only the last component is missing. Files of the context become root's.
    pub(super) fn copy_to(&self, environment: &Environment<'_>, path: &Path) -> Result<(), Error> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::internal("a copied mount has a name"));
        };
        let Some(selection) = self.files.selection() else {
            return Err(Error::internal("a found source has a selection"));
        };
        let options = CopyOptions {
            owner: self.is_context.then(Owner::default),
            chmod: None,
        };
        let nothing = Lowers::default();
        let mut assembly = Assembly::new(&nothing);
        let group = Group {
            root: &self.root,
            options: &options,
            links: 0,
        };
        assembly.copy(&group, selection, "/copy")?;
        let mut writer = environment.store.write_layer(None, environment.stop)?;
        assembly.write_to(&mut writer, environment.stop)?;
        let scratch = writer.into_snapshot();
        let made = scratch.upper().join("copy");
        let top = self.top()?;
        if top.is_dir() {
            let (user, group) = match options.owner {
                Some(owner) => (owner.user, owner.group),
                None => (top.stat.st_uid, top.stat.st_gid),
            };
            let mode = std::os::unix::fs::PermissionsExt::from_mode(top.mode());
            std::os::unix::fs::chown(&made, Some(user), Some(group))
                .and_then(|()| std::fs::set_permissions(&made, mode))
                .map_err(|error| Error::io(&made, &error))?;
        }
        let moved = std::fs::rename(&made, parent.join(name));
        moved.map_err(|error| Error::io(path, &error))?;
        Ok(())
    }
}

/// An error about one mount, at its place.
pub(super) fn at_mount(environment: &Environment<'_>, mount: &Mount, message: impl Into<String>) -> Error {
    environment.source.error(mount.span, message)
}
