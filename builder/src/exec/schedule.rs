//! Runs steps as their inputs become ready. One thread, the caller's, owns the graph; workers get a step with its inputs
//! and send back a result.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cooper_registry::store::Image;

use super::context::{Environment, RootFs};
use super::step::{Done, execute_step, locate};
use crate::build::{Error, Event};
use crate::plan::{Action, Step};

/// How soon a cancelled build notices.
const POLL: Duration = Duration::from_millis(20);

/// Results of all steps.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) results: BTreeMap<usize, Arc<RootFs>>,
    pub(crate) cached: usize,
}

/// A step ready to run with the results of those it needs.
type Job = (Arc<Step>, Vec<(usize, Arc<RootFs>)>);

/// Fetches that go on at the same time, besides the workers: they mostly wait.
const MAX_FETCHES: usize = 16;

/// Gives the steps as they become known. Called by the thread that executes the plan, between steps.
pub(crate) trait Feed {
    /// Steps that have become known since the last call; each comes after those it needs.
    fn more(&mut self) -> Result<Vec<Arc<Step>>, Error>;

    /// Takes note of the image that the step `id` has found; more steps may be known then.
    fn found(&mut self, id: usize, image: &Arc<Image>);
}

/// Executes all steps that `feed` gives. The first failure stops what is still running and is returned once all has ended.
pub(crate) fn execute(
    environment: &Environment<'_>,
    feed: &mut dyn Feed,
    cancelled: &AtomicBool,
) -> Result<Outcome, Error> {
    let workers = match environment.request.parallelism {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let (job_sender, job_receiver) = channel::<Job>();
    let job_receiver = Mutex::new(job_receiver);
    let (done_sender, done_receiver) = channel();
    std::thread::scope(|scope| {
        // A worker that unwinds would leave the owner waiting for it.
        let perform = |(step, inputs): Job| {
            let result = catch_unwind(AssertUnwindSafe(|| work(environment, &step, &inputs)));
            let result = result.unwrap_or_else(|_| Err(Error::internal("a step ended abnormally")));
            (step.info.id, result)
        };
        let mut board = Board::default();
        let mut failure = None;
        let mut started = 0;
        let mut fetching = 0;
        let mut advance = true;
        loop {
            if std::mem::take(&mut advance) && failure.is_none() {
                match feed.more() {
                    Ok(steps) => steps.into_iter().for_each(|step| board.add(step)),
                    Err(error) => {
                        environment.stop.store(true, Ordering::Relaxed);
                        failure = Some(error);
                    }
                }
            }
            while let Some(job) = board.next(fetching < MAX_FETCHES).filter(|_| failure.is_none()) {
                board.running += 1;
                if matches!(job.0.action, Action::Base(_)) {
                    // A base that is still being fetched must not keep a worker from other stages.
                    fetching += 1;
                    let done_sender = done_sender.clone();
                    scope.spawn(move || done_sender.send(perform(job)));
                    continue;
                }
                if started < workers {
                    started += 1;
                    let done_sender = done_sender.clone();
                    let job_receiver = &job_receiver;
                    scope.spawn(move || {
                        while let Some(job) = next(job_receiver) {
                            if done_sender.send(perform(job)).is_err() {
                                break;
                            }
                        }
                    });
                }
                if job_sender.send(job).is_err() {
                    failure.get_or_insert_with(|| Error::internal("all workers are gone"));
                }
            }
            if board.running == 0 {
                break;
            }
            match done_receiver.recv_timeout(POLL) {
                Ok((id, Ok(done))) => {
                    if let Some(image) = &done.image {
                        fetching -= 1;
                        feed.found(id, image);
                        advance = true;
                    }
                    board.finished(id, done);
                }
                Ok((_, Err(error))) => {
                    board.running -= 1;
                    environment.stop.store(true, Ordering::Relaxed);
                    // What others say then is a consequence of the first failure.
                    failure.get_or_insert(error);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    failure.get_or_insert_with(|| Error::internal("all workers are gone"));
                    break;
                }
            }
            if cancelled.load(Ordering::Relaxed) {
                environment.stop.store(true, Ordering::Relaxed);
                failure.get_or_insert(Error::Cancelled);
            }
        }
        drop(job_sender);
        match failure {
            Some(error) => Err(error),
            None => Ok(Outcome {
                results: board.results,
                cached: board.cached,
            }),
        }
    })
}

fn next(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    receiver
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}

/// Runs one step and tells about it.
fn work(environment: &Environment<'_>, step: &Step, inputs: &[(usize, Arc<RootFs>)]) -> Result<Done, Error> {
    environment.check_cancelled()?;
    let id = step.info.id;
    tracing::debug!(step = %step.info.name, definition = step.definition.as_str(), "a step begins");
    let started = Instant::now();
    (environment.events)(Event::Started { step: id });
    match execute_step(environment, step, inputs) {
        Ok(done) => {
            if done.cached {
                (environment.events)(Event::Cached { step: id });
            }
            let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            (environment.events)(Event::Done { step: id, millis });
            Ok(done)
        }
        Err(error) => {
            let error = locate(&environment.source, step, error);
            (environment.events)(Event::Failed {
                step: id,
                error: error.to_string(),
            });
            Err(error)
        }
    }
}

/// Which steps are done and which wait for what.
#[derive(Default)]
struct Board {
    /// In the order in which they became ready.
    ready: VecDeque<Arc<Step>>,
    running: usize,
    /// Steps that wait, with the number of inputs not there yet.
    waiting: BTreeMap<usize, (usize, Arc<Step>)>,
    dependents: BTreeMap<usize, Vec<usize>>,
    results: BTreeMap<usize, Arc<RootFs>>,
    cached: usize,
}

impl Board {
    fn add(&mut self, step: Arc<Step>) {
        let id = step.info.id;
        let mut missing = 0;
        for need in step.needs() {
            if !self.results.contains_key(&need) {
                missing += 1;
                self.dependents.entry(need).or_default().push(id);
            }
        }
        if missing == 0 {
            self.ready.push_back(step);
        } else {
            self.waiting.insert(id, (missing, step));
        }
    }

    /// The next step to start, which is no base unless `bases`.
    fn next(&mut self, bases: bool) -> Option<Job> {
        let startable = |step: &Arc<Step>| bases || !matches!(step.action, Action::Base(_));
        let at = self.ready.iter().position(startable)?;
        let step = self.ready.remove(at)?;
        let inputs = step
            .needs()
            .filter_map(|need| Some((need, Arc::clone(self.results.get(&need)?))));
        let inputs = inputs.collect();
        Some((step, inputs))
    }

    fn finished(&mut self, id: usize, done: Done) {
        self.running -= 1;
        self.cached += usize::from(done.cached);
        self.results.insert(id, done.rootfs);
        for dependent in self.dependents.remove(&id).unwrap_or_default() {
            if let Some((missing, _)) = self.waiting.get_mut(&dependent) {
                *missing -= 1;
                if *missing == 0
                    && let Some((_, step)) = self.waiting.remove(&dependent)
                {
                    self.ready.push_back(step);
                }
            }
        }
    }
}
