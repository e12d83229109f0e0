//! Runs steps as their inputs become ready. One thread, the caller's, owns the graph; workers get a step with its inputs
//! and send back a result.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::context::{Environment, RootFs};
use super::step::{Done, execute_step, locate};
use crate::build::{Error, Event};
use crate::plan::Step;

/// How soon a cancelled build notices.
const POLL: Duration = Duration::from_millis(20);

/// Results of all steps.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) results: BTreeMap<usize, Arc<RootFs>>,
    pub(crate) cached: usize,
}

/// A step ready to run: its number, its parent's result, and that of the stage or image it copies from.
type Job = (usize, Vec<(usize, Arc<RootFs>)>);

/// Executes all steps. The first failure stops what is still running and is returned once all has ended.
pub(crate) fn execute(
    environment: &Environment<'_>,
    steps: &[Step],
    cancelled: &AtomicBool,
) -> Result<Outcome, Error> {
    let workers = match environment.request.parallelism {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
    .min(steps.len().max(1));
    let (job_sender, job_receiver) = channel::<Job>();
    let job_receiver = Mutex::new(job_receiver);
    let (done_sender, done_receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let done_sender = done_sender.clone();
            let job_receiver = &job_receiver;
            scope.spawn(move || {
                while let Some((id, inputs)) = next(job_receiver) {
                    // A worker that unwinds would leave the owner waiting for it.
                    let result = catch_unwind(AssertUnwindSafe(|| work(environment, &steps[id], &inputs)));
                    let result = result.unwrap_or_else(|_| Err(Error::internal("a step ended abnormally")));
                    if done_sender.send((id, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done_sender);
        let mut board = Board::new(steps);
        let mut failure = None;
        loop {
            while let Some(job) = board.ready.pop().filter(|_| failure.is_none()) {
                board.running += 1;
                if job_sender.send(job).is_err() {
                    failure.get_or_insert_with(|| Error::internal("all workers are gone"));
                }
            }
            if board.running == 0 {
                break;
            }
            match done_receiver.recv_timeout(POLL) {
                Ok((id, Ok(done))) => board.finished(steps, id, done),
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
struct Board {
    ready: Vec<Job>,
    running: usize,
    /// Number of inputs not there yet.
    missing: Vec<usize>,
    dependents: Vec<Vec<usize>>,
    results: BTreeMap<usize, Arc<RootFs>>,
    cached: usize,
}

impl Board {
    fn new(steps: &[Step]) -> Self {
        let mut missing = vec![0; steps.len()];
        let mut dependents = vec![Vec::new(); steps.len()];
        for step in steps {
            for need in step.needs() {
                missing[step.info.id] += 1;
                dependents[need].push(step.info.id);
            }
        }
        let mut board = Self {
            ready: Vec::new(),
            running: 0,
            missing,
            dependents,
            results: BTreeMap::new(),
            cached: 0,
        };
        for step in steps.iter().rev() {
            if board.missing[step.info.id] == 0 {
                board.ready.push((step.info.id, Vec::new()));
            }
        }
        board
    }

    fn finished(&mut self, steps: &[Step], id: usize, done: Done) {
        self.running -= 1;
        self.cached += usize::from(done.cached);
        self.results.insert(id, done.rootfs);
        for dependent in self.dependents[id].clone() {
            self.missing[dependent] -= 1;
            if self.missing[dependent] == 0 {
                let inputs = steps[dependent]
                    .needs()
                    .filter_map(|need| Some((need, Arc::clone(self.results.get(&need)?))));
                self.ready.push((dependent, inputs.collect()));
            }
        }
    }
}
