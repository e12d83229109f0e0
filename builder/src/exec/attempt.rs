//! One step's way to a result: found in the cache, or made and recorded.

use cooper_registry::digest::DiffId;
use cooper_registry::store::{Layer, Snapshot};

use super::context::{Environment, LayerRef, RootFs};
use super::step::{Done, Keep};
use crate::build::{Error, Event};
use crate::cache::{About, Cause, End, Found, Key, Made, board, explain, keep_pre_image, look_up, remember};
use crate::plan::{Action, CopyFrom, CopySource, Step};

/// One step with what it begins from.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) environment: &'a Environment<'a>,
    pub(super) step: &'a Step,
    pub(super) parent: &'a RootFs,
}

impl Attempt<'_> {
    /// The result of the key with this hash, if it is there.
    pub(super) fn hit(self, hash: &str) -> Result<Option<Done>, Error> {
        let environment = self.environment;
        let Some(found) = self.find(hash)? else {
            return Ok(None);
        };
        environment.remote.note(hash, &found.layer.diff_id);
        let layer = Some(&found.layer.diff_id);
        environment
            .journal
            .reached(self.step.info.id, &found.key, End::Done, layer);
        Ok(Some(Done {
            rootfs: self.parent.with(environment.store, found.layer, found.created),
            cached: true,
            image: None,
        }))
    }

    /// Whether there is a result of the key with this hash.
    pub(super) fn is_known(self, hash: &str) -> Result<bool, Error> {
        Ok(self.find(hash)?.is_some())
    }

    /// In the store, else in a cache from elsewhere.
    fn find(self, hash: &str) -> Result<Option<Found>, Error> {
        let environment = self.environment;
        match look_up(environment.store, environment.lease, hash)? {
            None => environment.remote.look_up(environment.lease, hash),
            found => Ok(found),
        }
    }

    /// Takes the result of `key` from the cache, or makes it with `make` in a snapshot that becomes a layer. The result is
    /// recorded under the key `quick`, too.
    pub(super) fn cached(
        self,
        key: &Key,
        ignore_cache: bool,
        quick: Option<&Key>,
        make: impl FnOnce(&Snapshot) -> Result<Keep, Error>,
    ) -> Result<Done, Error> {
        self.cached_layer(key, ignore_cache, quick, || {
            let environment = self.environment;
            let snapshot = environment.store.new_snapshot()?;
            let keep = make(&snapshot)?;
            environment.check_cancelled()?;
            let clamp = environment.request.source_date_epoch;
            Ok((environment.store.commit_snapshot(snapshot, clamp)?, keep))
        })
    }

    /// The same where `make` makes the layer.
    pub(super) fn cached_layer(
        self,
        key: &Key,
        ignore_cache: bool,
        quick: Option<&Key>,
        make: impl FnOnce() -> Result<(Layer, Keep), Error>,
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
                self.remember(quick, diff_id, created, Some(&hash))?;
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
        quick: Option<&Key>,
        make: impl FnOnce() -> Result<(Layer, Keep), Error>,
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
        environment.ready(self.parent)?;
        let (layer, keep) = make()?;
        environment.lease.layer(&layer.diff_id)?;
        let created = jiff::Timestamp::now().to_string();
        let end = match keep {
            Keep::Yes if !keeps => End::Done,
            Keep::Yes => {
                self.remember(key, &layer.diff_id, &created, None)?;
                if let Some(quick) = quick {
                    self.remember(quick, &layer.diff_id, &created, Some(hash))?;
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
            image: None,
        })
    }

    /// Records a result under a key; the pre-image of the one with the hash `full` is kept instead, if given.
    pub(super) fn remember(
        self,
        key: &Key,
        diff_id: &DiffId,
        created: &str,
        full: Option<&str>,
    ) -> Result<(), Error> {
        let made = Made { diff_id, created };
        let hash = key.hash();
        let description = key.describe(&self.step.info.name);
        remember(self.environment.store, &hash, &description, made, full)?;
        self.environment.remote.note(&hash, diff_id);
        Ok(())
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

    fn about(self) -> About {
        let copy = match &self.step.action {
            Action::Copy(copy) => Some(copy),
            _ => None,
        };
        let from = match &self.step.action {
            Action::Copy(copy) => Some(copy.from),
            // Of several nobody can say which one a file is in.
            Action::Run(run) => {
                let mut sources = run.mounts.iter().filter_map(|mount| mount.kind.from());
                sources.next().filter(|_| sources.next().is_none())
            }
            _ => None,
        };
        let fetched = copy.and_then(|copy| match copy.sources.as_slice() {
            // It has the instruction's name, which has the address.
            [CopySource::Http { step, .. } | CopySource::Git { step }] => Some(*step),
            _ => None,
        });
        let source = match from {
            Some(CopyFrom::Step(step)) => step,
            _ => fetched,
        };
        let context = match from {
            Some(CopyFrom::Named(number)) => self.environment.request.named_contexts.keys().nth(number),
            _ => None,
        };
        let journal = self.environment.journal;
        About {
            text: journal.text(self.step.info.id),
            parent: self.step.parent.and_then(|id| journal.input(id)),
            source: source.and_then(|id| journal.input(id)),
            context: context.cloned(),
            variables: self.step.variables.clone().into_iter().collect(),
            arguments: journal.arguments.clone(),
        }
    }
}
