//! What the last builds of a Dockerfile did, step by step: a note `site-<hash of the Dockerfile's name and its context>` of
//! the store, JSON with a `version` (now 1). It says with which earlier step a miss is to be compared, and which layers a
//! build will most likely ask for. Losing it costs explanations and a little time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cooper_registry::digest::{Algorithm, DiffId, Digest};
use cooper_registry::store::Store;
use serde::{Deserialize, Serialize};

use super::preimage::Input;
use crate::build::{Context, Error, Request, StepInfo};
use crate::dockerfile::{Dockerfile, InstructionKind};

const VERSION: u32 = 1;
/// Steps remembered for one Dockerfile.
const MAX_STEPS: usize = 5000;
/// Other Dockerfiles whose steps are looked at.
const MAX_SITES: usize = 32;
/// Steps of the same kind that are looked at.
const MAX_SIMILAR: usize = 100;
/// Names of notes begin with it.
const SITE: &str = "site-";

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// Its result was recorded.
    Done,
    /// It failed or was cancelled.
    Unfinished,
    /// Its input changed while it was read.
    Unsettled,
}

/// The last time a step was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// `build 2`: stage and number, as in the step's name.
    place: String,
    /// The instruction.
    text: String,
    /// Hash of its key.
    pub(super) key: String,
    pub(super) end: End,
    /// The layer that it made.
    layer: Option<DiffId>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Site {
    version: u32,
    steps: Vec<Entry>,
}

/// What this build has come to so far, by number of step.
#[derive(Debug, Default)]
struct Now {
    steps: BTreeMap<usize, Known>,
    reached: BTreeMap<usize, Entry>,
}

#[derive(Debug, Default)]
struct Known {
    name: String,
    place: String,
    text: String,
    /// Name and digest of the image, if that is what the step gives.
    image: Option<String>,
    /// It has the name of another step and no key.
    beside: bool,
}

impl Now {
    /// The old entry that each step continues.
    fn partners(&self, old: &[Entry]) -> BTreeMap<usize, usize> {
        let steps = || self.steps.iter().filter(|(_, step)| !step.beside);
        let places: Vec<(&str, &str)> = steps()
            .map(|(_, step)| (step.place.as_str(), step.text.as_str()))
            .collect();
        let partners = align(old, &places);
        steps()
            .map(|(&step, _)| step)
            .zip(partners)
            .filter_map(|(step, partner)| Some((step, partner?)))
            .collect()
    }
}

/// The journal of one build.
#[derive(Debug)]
pub(crate) struct Journal {
    note: String,
    old: Site,
    now: Mutex<Now>,
    /// Names of arguments that no ENV of the Dockerfile overrides.
    pub(crate) arguments: Vec<String>,
}

impl Journal {
    /// Reads what is known about the Dockerfile of this build.
    pub(crate) fn open(store: &Store, request: &Request, dockerfile: &Dockerfile) -> Result<Self, Error> {
        let note = site_name(request);
        let old = read(store, &note)?.unwrap_or_default();
        Ok(Self {
            note,
            old,
            now: Mutex::default(),
            arguments: arguments(dockerfile),
        })
    }

    /// Layers that steps gave last time.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &DiffId> {
        self.old.steps.iter().filter_map(|entry| entry.layer.as_ref())
    }

    /// Takes note of steps of this build. Later names have values for variables; for the journal a step stays what it was
    /// called first, or each value would look like another instruction.
    pub(crate) fn know(&self, steps: &[StepInfo]) {
        let mut now = self.lock();
        for step in steps {
            let (place, text) = split(&step.name);
            let known = now.steps.entry(step.id).or_insert_with(|| Known {
                text,
                ..Known::default()
            });
            known.place = place;
            known.name.clone_from(&step.name);
        }
    }

    /// Takes note of a step that has the name of the one it works for, and no key of its own.
    pub(crate) fn stands_beside(&self, step: usize) {
        if let Some(step) = self.lock().steps.get_mut(&step) {
            step.beside = true;
        }
    }

    /// Takes note of the image that a step gives.
    pub(crate) fn found_image(&self, step: usize, manifest: &Digest) {
        if let Some(step) = self.lock().steps.get_mut(&step) {
            let name = step.text.strip_prefix("FROM ").unwrap_or(&step.text);
            step.image = Some(format!("{name}@{manifest}"));
        }
    }

    /// The instruction of a step.
    pub(crate) fn text(&self, step: usize) -> String {
        self.lock()
            .steps
            .get(&step)
            .map(|step| step.text.clone())
            .unwrap_or_default()
    }

    /// A step as the input of another.
    pub(crate) fn input(&self, step: usize) -> Option<Input> {
        self.lock().steps.get(&step).map(|known| Input {
            step,
            name: known.name.clone(),
            image: known.image.clone(),
        })
    }

    /// Notes how a step ended.
    pub(crate) fn reached(&self, step: usize, key: &str, end: End, layer: Option<&DiffId>) {
        let mut now = self.lock();
        let Some(known) = now.steps.get(&step) else { return };
        let entry = Entry {
            place: known.place.clone(),
            text: known.text.clone(),
            key: key.to_owned(),
            end,
            layer: layer.cloned(),
        };
        now.reached.insert(step, entry);
    }

    /// The step of an earlier build that this one is to be compared with: in the same Dockerfile the one with the same text,
    /// else the one in the same place; in other Dockerfiles, the last used first, one with the same text.
    pub(super) fn partner(&self, store: &Store, step: usize) -> Result<Option<Entry>, Error> {
        if let Some(&at) = self.lock().partners(&self.old.steps).get(&step) {
            return Ok(Some(self.old.steps[at].clone()));
        }
        let text = self.text(step);
        for note in store
            .notes(SITE)?
            .into_iter()
            .filter(|note| *note != self.note)
            .take(MAX_SITES)
        {
            let site = read(store, &note)?.unwrap_or_default();
            if let Some(entry) = site.steps.into_iter().find(|entry| entry.text == text) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Keys that steps of the same kind had, those of this Dockerfile first.
    pub(super) fn similar(&self, store: &Store, step: usize) -> Result<Vec<String>, Error> {
        let text = self.text(step);
        let kind = keyword(&text);
        // What another step of this build continues is that step, not this one.
        let partners = self.lock().partners(&self.old.steps);
        let taken: BTreeSet<usize> = partners.into_values().collect();
        let free = self
            .old
            .steps
            .iter()
            .enumerate()
            .filter(|(at, _)| !taken.contains(at));
        let mut entries: Vec<Entry> = free.map(|(_, entry)| entry.clone()).collect();
        if self.old.steps.is_empty() {
            for note in store.notes(SITE)?.into_iter().take(MAX_SITES) {
                entries.extend(read(store, &note)?.unwrap_or_default().steps);
            }
        }
        entries.retain(|entry| keyword(&entry.text) == kind);
        entries.truncate(MAX_SIMILAR);
        Ok(entries.into_iter().map(|entry| entry.key).collect())
    }

    /// Writes what changed, if anything did.
    pub(crate) fn save(&self, store: &Store) -> Result<(), Error> {
        let now = self.lock();
        let partners = now.partners(&self.old.steps);
        let mut steps: Vec<Entry> = Vec::new();
        for step in now.steps.keys() {
            let old = partners.get(step).map(|&at| &self.old.steps[at]);
            steps.extend(now.reached.get(step).or(old).cloned());
        }
        // Stages that this build did not need.
        let stages: BTreeSet<&str> = now.steps.values().map(|step| stage(&step.place)).collect();
        steps.extend(
            self.old
                .steps
                .iter()
                .filter(|entry| !stages.contains(stage(&entry.place)))
                .cloned(),
        );
        steps.truncate(MAX_STEPS);
        let site = Site {
            version: VERSION,
            steps,
        };
        if site == self.old || site.steps.is_empty() {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&site).map_err(|error| Error::internal(error.to_string()))?;
        store.put_note(&self.note, &bytes)?;
        // Something was executed, so it does not matter what tidying costs.
        store.trim_notes()?;
        store.sweep_named_locks()?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(store: &Store, note: &str) -> Result<Option<Site>, Error> {
    let site = store
        .note(note)?
        .and_then(|bytes| serde_json::from_slice::<Site>(&bytes).ok());
    Ok(site.filter(|site| site.version == VERSION))
}

fn site_name(request: &Request) -> String {
    let mut hasher = Algorithm::Sha256.hasher();
    hasher.update(request.dockerfile_name.as_bytes());
    hasher.update(&[0]);
    match &request.context {
        Context::Directory(path) => hasher.update(path.as_os_str().as_encoded_bytes()),
        Context::Remote(url) => hasher.update(url.as_bytes()),
        Context::Empty => {}
    }
    format!("{SITE}{}", hasher.finish().hex())
}

/// Place and text of a step named `[build 2/5] RUN make`.
fn split(name: &str) -> (String, String) {
    let named = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match named {
        Some((place, text)) => {
            let place = place.rsplit_once('/').map_or(place, |(place, _)| place);
            let words: Vec<&str> = place.split_whitespace().collect();
            (words.join(" "), text.to_owned())
        }
        None => (String::new(), name.to_owned()),
    }
}

fn stage(place: &str) -> &str {
    place.rsplit_once(' ').map_or("", |(stage, _)| stage)
}

fn keyword(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// Finds for each step the old one it continues: in its stage one of the same text, in order; of those that are left, the
/// one in the same place if it is the same instruction.
fn align(old: &[Entry], places: &[(&str, &str)]) -> Vec<Option<usize>> {
    let mut partners = vec![None; places.len()];
    let mut by_text: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (at, entry) in old.iter().enumerate().rev() {
        by_text
            .entry((stage(&entry.place), &entry.text))
            .or_default()
            .push(at);
    }
    let mut free = vec![true; old.len()];
    for (partner, (place, text)) in partners.iter_mut().zip(places) {
        *partner = by_text.get_mut(&(stage(place), *text)).and_then(Vec::pop);
        if let Some(at) = *partner {
            free[at] = false;
        }
    }
    // Of what stands between two known neighbours, the first continues the first, and so on.
    for index in 0..places.len() {
        if partners[index].is_some() {
            continue;
        }
        let (place, text) = places[index];
        let before = index
            .checked_sub(1)
            .filter(|&before| stage(places[before].0) == stage(place));
        let next = match before.and_then(|before| partners[before]) {
            Some(at) => Some(at + 1),
            None => old
                .iter()
                .position(|entry| stage(&entry.place) == stage(place) && entry.place == place),
        };
        partners[index] = next.filter(|&at| {
            old.get(at).is_some_and(|entry| {
                free[at] && stage(&entry.place) == stage(place) && keyword(&entry.text) == keyword(text)
            })
        });
        if let Some(at) = partners[index] {
            free[at] = false;
        }
    }
    partners
}

fn arguments(dockerfile: &Dockerfile) -> Vec<String> {
    let mut names: BTreeSet<String> = dockerfile
        .global_args
        .iter()
        .map(|arg| arg.name.text.clone())
        .collect();
    for instruction in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
        if let InstructionKind::Arg(args) = &instruction.kind {
            names.extend(args.iter().map(|arg| arg.name.text.clone()));
        }
    }
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_continues_what() {
        let old: Vec<Entry> = ["a 2|COPY x", "a 3|RUN one", "a 4|RUN two", "b 2|RUN one"]
            .iter()
            .map(|text| {
                let (place, text) = text.split_once('|').unwrap();
                Entry {
                    place: place.to_owned(),
                    text: text.to_owned(),
                    key: String::new(),
                    end: End::Done,
                    layer: None,
                }
            })
            .collect();
        for (steps, expected) in [
            ("a 2|COPY x;a 3|RUN one;a 4|RUN two", "0 1 2"),
            ("a 2|COPY x;a 3|RUN new;a 4|RUN one;a 5|RUN two", "0 - 1 2"),
            ("a 2|COPY x;a 3|RUN changed;a 4|RUN two", "0 1 2"),
            ("a 2|COPY y;a 3|RUN one", "0 1"),
            ("a 2|RUN two;a 3|RUN one", "2 1"),
            ("a 2|RUN one;a 3|RUN x;b 2|RUN one", "1 2 3"),
            ("c 2|RUN one", "-"),
        ] {
            let places: Vec<_> = steps
                .split(';')
                .map(|step| step.split_once('|').unwrap())
                .collect();
            let found: Vec<String> = align(&old, &places)
                .into_iter()
                .map(|at| at.map_or("-".to_owned(), |at| at.to_string()))
                .collect();
            assert_eq!(found.join(" "), expected, "{steps}");
        }
        for (name, place, text) in [
            ("[build  2/15] RUN make", "build 2", "RUN make"),
            ("[1/2] FROM x", "1", "FROM x"),
            ("FROM y", "", "FROM y"),
        ] {
            assert_eq!(split(name), (place.to_owned(), text.to_owned()));
        }
    }
}
