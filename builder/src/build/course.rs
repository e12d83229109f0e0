//! The plan while it is executed: what it learns, and what of it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use cooper_registry::store::Image;

use super::checks::Checks;
use super::error::Error;
use super::request::Event;
use crate::cache::Journal;
use crate::exec::{Events, Feed};
use crate::plan::{Action, Planned, Planner, Step};

/// A plan whose names and warnings are told as they become known.
pub(super) struct Course<'a> {
    planner: Planner<'a>,
    events: Events<'a>,
    checks: Checks<'a>,
    journal: &'a Journal,
    warned: bool,
    /// All steps so far, by number.
    steps: BTreeMap<usize, Arc<Step>>,
    bases: BTreeMap<usize, Arc<Image>>,
    /// All of them are asked for again, in the order in which they became known.
    again: bool,
    given: Vec<usize>,
}

/// A plan that was executed.
pub(super) struct Finished {
    /// How many steps there were.
    pub(super) count: usize,
    /// All of them, by number.
    pub(super) steps: BTreeMap<usize, Arc<Step>>,
    /// Base images, by the steps that found them.
    pub(super) bases: BTreeMap<usize, Arc<Image>>,
    /// The images but for their layers.
    pub(super) images: Vec<Planned>,
}

impl<'a> Course<'a> {
    /// Tells the names of the steps that the file speaks of.
    pub(super) fn new(
        planner: Planner<'a>,
        checks: Checks<'a>,
        events: Events<'a>,
        journal: &'a Journal,
    ) -> Self {
        let mut course = Self {
            planner,
            events,
            checks,
            journal,
            warned: false,
            steps: BTreeMap::new(),
            bases: BTreeMap::new(),
            again: false,
            given: Vec::new(),
        };
        course.tell();
        course
    }

    /// The plan is executed once more from its beginning.
    pub(super) fn again(&mut self) {
        self.again = true;
    }

    /// The steps whose results the images are, as far as they are known.
    pub(super) fn results(&self) -> impl Iterator<Item = usize> {
        self.planner.results()
    }

    /// What was executed, and what came of it.
    pub(super) fn finish(self) -> Result<Finished, Error> {
        Ok(Finished {
            count: self.planner.len(),
            steps: self.steps,
            bases: self.bases,
            images: self.planner.finish()?,
        })
    }

    fn tell(&mut self) {
        if let Some(steps) = self.planner.names() {
            self.journal.know(&steps);
            (self.events)(Event::Plan { steps });
        }
    }

    /// Once all is known, says what of the request had no meaning.
    fn warn(&mut self) -> Result<(), Error> {
        if self.warned || !self.planner.is_complete() {
            return Ok(());
        }
        self.warned = true;
        let (needed, variables) = self.planner.base_variables();
        self.checks.variables(&needed, &variables, self.events)?;
        let (args, filters) = self.planner.unused();
        if !args.is_empty() {
            (self.events)(Event::Warning {
                text: format!("one or more build-args [{}] were not consumed", args.join(" ")),
            });
        }
        for filter in filters {
            let meant = self.planner.suggest_stage(&filter);
            let meant = meant.map(|name| format!(", did you mean {name}?"));
            (self.events)(Event::Warning {
                text: format!(
                    "no stage has the name {filter:?} of --no-cache-filter{}",
                    meant.unwrap_or_default()
                ),
            });
        }
        Ok(())
    }
}

impl Feed for Course<'_> {
    fn more(&mut self) -> Result<Vec<Arc<Step>>, Error> {
        let steps = self.planner.advance()?;
        self.tell();
        for step in &steps {
            if matches!(step.action, Action::Fetch(_) | Action::Same(_)) {
                self.journal.stands_beside(step.info.id);
            }
        }
        self.warn()?;
        self.given.extend(steps.iter().map(|step| step.info.id));
        let known = steps.iter().map(|step| (step.info.id, Arc::clone(step)));
        self.steps.extend(known);
        Ok(if std::mem::take(&mut self.again) {
            let given = self.given.iter().filter_map(|id| self.steps.get(id));
            given.cloned().collect()
        } else {
            steps
        })
    }

    fn found(&mut self, id: usize, image: &Arc<Image>) {
        self.journal.found_image(id, &image.manifest_digest);
        let config = Arc::new(image.config.clone());
        self.bases.insert(id, Arc::clone(image));
        self.planner.base_found(id, &image.manifest_digest, &config);
    }
}
