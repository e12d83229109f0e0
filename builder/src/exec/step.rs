//! One step: from the cache if it can be, executed otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cooper_registry::store::Snapshot;
use rustix::fs::FileType;

use super::context::{Environment, LayerRef, RootFs};
use super::{copy, run};
use crate::build::{Error, Event};
use crate::cache::{About, Cause, End, Key, Made, board, explain, keep_pre_image, look_up, remember};
use crate::dockerfile::Diagnostic;
use crate::plan::{Action, CopyAction, CopyFrom, Source, Step, WorkdirAction};
use crate::tree::{Owner, RootHandle, Touched, lookup_owner, mount_writable, resolve};

/// A step's result.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) rootfs: Arc<RootFs>,
    pub(crate) cached: bool,
}

/// Whether the result may be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    /// An input changed while it was read.
    No,
}

pub(super) fn execute_step(
    environment: &Environment<'_>,
    step: &Step,
    inputs: &[(usize, Arc<RootFs>)],
) -> Result<Done, Error> {
    let input = |id: usize| {
        inputs
            .iter()
            .find(|(need, _)| *need == id)
            .map(|(_, rootfs)| Arc::clone(rootfs))
    };
    let parent = match step.parent {
        None => Arc::new(RootFs::default()),
        Some(id) => input(id).ok_or_else(|| Error::internal("a step's parent is done before it"))?,
    };
    let attempt = Attempt {
        environment,
        step,
        parent: &parent,
    };
    match &step.action {
        Action::Base(image) => base(environment, step, *image),
        Action::Nothing => Ok(Done {
            rootfs: parent,
            cached: true,
        }),
        Action::Run(action) => {
            let key = with_clamp(environment, run::key(action, &parent));
            attempt.cached(&key, environment.request.no_cache, None, |snapshot| {
                run::execute(environment, step.info.id, step.span, action, &parent, snapshot)
            })
        }
        Action::Workdir(action) => {
            let mut key = Key::new("WORKDIR");
            key.add("rootfs", parent.identity());
            key.add("path", &action.path);
            key.add("user", &action.user);
            let key = with_clamp(environment, key);
            attempt.cached(&key, false, None, |snapshot| {
                workdir(environment, action, &parent, snapshot)
            })
        }
        Action::Copy(action) => {
            let from = match action.from {
                CopyFrom::Step(Some(id)) => {
                    Some(input(id).ok_or_else(|| Error::internal("a step's source is done before it"))?)
                }
                CopyFrom::Step(None) | CopyFrom::Context => None,
            };
            attempt.copy(action, from.as_deref())
        }
    }
}

/// Layers clamped to a time are others than those that are not.
fn with_clamp(environment: &Environment<'_>, mut key: Key) -> Key {
    key.add_some(
        "clamp",
        environment
            .request
            .source_date_epoch
            .map(|epoch| epoch.to_string()),
    );
    key
}

/// The key of a single file whose own name does not matter because the destination is no directory: one that was renamed
/// is found under it.
struct Renamed {
    hash: String,
    /// Destination, relative to the root.
    dest: PathBuf,
}

impl Renamed {
    fn new(action: &CopyAction, sources: &copy::Sources, key: &Key) -> Option<Self> {
        let plain = !action.unpack && action.files.is_empty() && !action.dest.ends_with('/');
        (plain && sources.is_single_file()).then(|| Self {
            hash: key.without("COPY as", &["step", "source", "name"]).hash(),
            dest: Path::new(action.dest.trim_start_matches('/')).to_owned(),
        })
    }

    /// Records the result of the key with hash `full` under this one, too, if the file has indeed the destination's name.
    fn remember(&self, attempt: Attempt<'_>, rootfs: &RootFs, full: &str) -> Result<(), Error> {
        let environment = attempt.environment;
        let (Some(layer), Some(tree)) = (rootfs.layers.last(), rootfs.lowers.first()) else {
            return Ok(());
        };
        let (diff_id, Some(created)) = (&layer.diff_id, &layer.created) else {
            return Ok(());
        };
        let made = RootHandle::open_host(tree)?.stat(&self.dest);
        let is_file = made.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory);
        // Not where the result itself was not kept.
        let kept = look_up(environment.store, environment.lease, full)?;
        if is_file && kept.is_some_and(|kept| kept.layer.diff_id == *diff_id) {
            remember(
                environment.store,
                &self.hash,
                attempt.title(),
                Made { diff_id, created },
                Some(full),
            )?;
        }
        Ok(())
    }
}

/// One step with what it begins from.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    environment: &'a Environment<'a>,
    step: &'a Step,
    parent: &'a RootFs,
}

impl Attempt<'_> {
    /// Copies between stages are found by what both stages are; otherwise, and for the context, by the files' contents.
    fn copy(self, action: &CopyAction, from: Option<&RootFs>) -> Result<Done, Error> {
        let environment = self.environment;
        let no_cache = environment.request.no_cache;
        let quick = from.map(|from| {
            let mut key = with_clamp(environment, copy::action_key(action, self.parent));
            key.add("from", from.identity());
            // The other key has these files' contents; this one must say which files they are.
            action
                .sources
                .iter()
                .for_each(|(source, _)| key.add("path", source));
            key.hash()
        });
        if let Some(quick) = quick.as_ref().filter(|_| !no_cache)
            && let Some(done) = self.hit(quick)?
        {
            return Ok(done);
        }
        let sources = copy::find(environment, action, from)?;
        let mut key = with_clamp(environment, copy::action_key(action, self.parent));
        sources.add_to(environment, &mut key)?;
        let renamed = Renamed::new(action, &sources, &key);
        let hash = key.hash();
        if let Some(renamed) = renamed.as_ref().filter(|_| !no_cache)
            && look_up(environment.store, environment.lease, &hash)?.is_none()
            && let Some(done) = self.hit(&renamed.hash)?
        {
            return Ok(done);
        }
        let done = self.cached(&key, no_cache, quick.as_deref(), |snapshot| {
            copy::execute(environment, action, &sources, self.parent, snapshot)
        })?;
        if let Some(renamed) = renamed.filter(|_| !done.cached) {
            renamed.remember(self, &done.rootfs, &hash)?;
        }
        Ok(done)
    }

    fn hit(self, hash: &str) -> Result<Option<Done>, Error> {
        let environment = self.environment;
        let Some(found) = look_up(environment.store, environment.lease, hash)? else {
            return Ok(None);
        };
        let layer = Some(&found.layer.diff_id);
        environment
            .journal
            .reached(self.step.info.id, &found.key, End::Done, layer);
        Ok(Some(Done {
            rootfs: self.parent.with(environment.store, found.layer, found.created),
            cached: true,
        }))
    }

    /// Takes the result of `key` from the cache, or makes it with `make` in a snapshot that becomes a layer. The result is
    /// recorded under the hash `quick`, too.
    fn cached(
        self,
        key: &Key,
        ignore_cache: bool,
        quick: Option<&str>,
        make: impl FnOnce(&Snapshot) -> Result<Keep, Error>,
    ) -> Result<Done, Error> {
        let hash = key.hash();
        let hit = || {
            let done = self.hit(&hash)?;
            if let (Some(done), Some(quick)) = (&done, quick)
                && let Some(LayerRef {
                    diff_id,
                    created: Some(created),
                    ..
                }) = done.rootfs.layers.last()
            {
                remember(
                    self.environment.store,
                    quick,
                    self.title(),
                    Made { diff_id, created },
                    Some(&hash),
                )?;
            }
            Ok::<_, Error>(done)
        };
        let mut flight = None;
        if !ignore_cache {
            if let Some(done) = hit()? {
                return Ok(done);
            }
            // Whoever was first may have finished meanwhile.
            flight = Some(board(self.environment.store, &hash, self.environment.stop)?);
            if let Some(done) = hit()? {
                return Ok(done);
            }
        }
        self.environment.check_cancelled()?;
        let result = self.make(key, &hash, ignore_cache, quick, make);
        if result.is_err() {
            self.environment
                .journal
                .reached(self.step.info.id, &hash, End::Unfinished, None);
        }
        drop(flight);
        result
    }

    fn make(
        self,
        key: &Key,
        hash: &str,
        ignore_cache: bool,
        quick: Option<&str>,
        make: impl FnOnce(&Snapshot) -> Result<Keep, Error>,
    ) -> Result<Done, Error> {
        let environment = self.environment;
        if environment.request.explain {
            self.tell_causes(key, hash, ignore_cache)?;
        }
        // A build that only compares leaves the cache as it is.
        let keeps = environment.request.verify.is_none();
        if keeps {
            keep_pre_image(environment.store, hash, key, self.about())?;
        }
        let snapshot = environment.store.new_snapshot()?;
        let keep = make(&snapshot)?;
        environment.check_cancelled()?;
        let layer = environment
            .store
            .commit_snapshot(snapshot, environment.request.source_date_epoch)?;
        environment.lease.layer(&layer.diff_id)?;
        let created = jiff::Timestamp::now().to_string();
        let end = match keep {
            Keep::Yes if !keeps => End::Done,
            Keep::Yes => {
                let made = Made {
                    diff_id: &layer.diff_id,
                    created: &created,
                };
                remember(environment.store, hash, self.title(), made, None)?;
                if let Some(quick) = quick {
                    remember(environment.store, quick, self.title(), made, Some(hash))?;
                }
                End::Done
            }
            Keep::No => End::Unsettled,
        };
        environment
            .journal
            .reached(self.step.info.id, hash, end, Some(&layer.diff_id));
        Ok(Done {
            rootfs: self.parent.with(environment.store, layer, created),
            cached: false,
        })
    }

    fn tell_causes(self, key: &Key, hash: &str, ignore_cache: bool) -> Result<(), Error> {
        let environment = self.environment;
        let id = self.step.info.id;
        let causes = if ignore_cache {
            vec![Cause::NoCache]
        } else {
            explain(
                environment.store,
                environment.journal,
                id,
                key,
                hash,
                self.about(),
            )?
        };
        (environment.events)(Event::Missed { step: id, causes });
        Ok(())
    }

    fn title(&self) -> &str {
        &self.step.info.name
    }

    fn about(self) -> About {
        let source = match &self.step.action {
            Action::Copy(CopyAction {
                from: CopyFrom::Step(Some(id)),
                ..
            }) => Some(*id),
            _ => None,
        };
        let journal = self.environment.journal;
        About {
            text: journal.text(self.step.info.id),
            parent: self.step.parent.and_then(|id| journal.input(id)),
            source: source.and_then(|id| journal.input(id)),
            variables: self.step.variables.clone().into_iter().collect(),
            arguments: journal.arguments.clone(),
        }
    }
}

fn base(environment: &Environment<'_>, step: &Step, image: usize) -> Result<Done, Error> {
    let image = &environment.images[image];
    environment
        .journal
        .found_image(step.info.id, &image.manifest_digest);
    environment.lease.manifest(&image.manifest_digest)?;
    let lowers = environment.store.unpack_image(image)?;
    let ids = &image.config.rootfs.diff_ids;
    if ids.len() != image.manifest.layers.len() {
        return Err(Error::Source(format!(
            "the image's manifest has {} layers, its config {}",
            image.manifest.layers.len(),
            ids.len()
        )));
    }
    let layers = ids
        .iter()
        .zip(&image.manifest.layers)
        .map(|(diff_id, descriptor)| LayerRef {
            diff_id: diff_id.clone(),
            descriptor: descriptor.clone(),
            created: None,
        });
    Ok(Done {
        rootfs: Arc::new(RootFs {
            layers: layers.collect(),
            lowers,
        }),
        cached: true,
    })
}

fn workdir(
    environment: &Environment<'_>,
    action: &WorkdirAction,
    parent: &RootFs,
    snapshot: &Snapshot,
) -> Result<Keep, Error> {
    let root = mount_writable(
        &parent.lowers,
        &snapshot.upper(),
        &snapshot.work(),
        environment.empty,
    )?;
    let owner = if action.user.is_empty() {
        Owner::default()
    } else {
        lookup_owner(&root, &action.user)?
    };
    let found = resolve(&root, Path::new(&action.path)).map_err(|errno| Error::File {
        path: action.path.trim_start_matches('/').into(),
        errno,
    })?;
    let mut touched = Touched::default();
    touched.make_dirs(&root, &found.real, 0o755, owner)?;
    touched.finish(&root)?;
    Ok(Keep::Yes)
}

/// Says where in the Dockerfile a step failed.
pub(super) fn locate(source: &Source<'_>, step: &Step, error: Error) -> Error {
    match error {
        error @ (Error::Cancelled | Error::Dockerfile(_) | Error::Run { .. } | Error::Step { .. }) => error,
        error => {
            let excerpt = source.render(Diagnostic::error(step.span, error.to_string()));
            Error::Step {
                excerpt,
                source: Box::new(error),
            }
        }
    }
}
