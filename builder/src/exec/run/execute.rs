//! The course of a RUN.

use std::path::Path;
use std::sync::Arc;

use cooper_registry::store::Snapshot;
use cooper_runner::container::{self, StartErrorKind};
use cooper_runner::sandbox::{Output, Sandbox};

use super::super::context::{Environment, RootFs};
use super::super::step::Keep;
use super::debug;
use super::devices::{DIRS, Edits, Registry};
use super::output::{Tail, Utf8};
use super::prepare::Prepared;
use super::sources::Sources;
use super::spec::{hosts, spec};
use super::unchanged::drop_unchanged;
use crate::build::{Error, Event};
use crate::dockerfile::Diagnostic;
use crate::plan::{RunAction, Step};

/// One RUN with what it starts from.
pub(in crate::exec) struct Run<'a> {
    pub(in crate::exec) step: &'a Step,
    pub(in crate::exec) action: &'a RunAction,
    pub(in crate::exec) parent: &'a RootFs,
    pub(in crate::exec) sources: &'a Sources,
    /// Results of the steps that it mounts.
    pub(in crate::exec) input: &'a dyn Fn(usize) -> Option<Arc<RootFs>>,
}

/// Runs the process in `snapshot`.
pub(in crate::exec) fn execute(
    environment: &Environment<'_>,
    run: &Run<'_>,
    snapshot: &Snapshot,
) -> Result<Keep, Error> {
    let Run {
        action,
        parent,
        sources,
        ..
    } = run;
    let edits = devices(environment, action)?;
    let prepared = Prepared::new(environment, action, sources, run.input, snapshot)?;
    environment.check_cancelled()?;
    let spec = spec(environment, action, &prepared, edits, parent, snapshot)?;
    let hosts = hosts(environment.request, action.network);
    let sandbox = Sandbox {
        exec_root: environment.exec_root,
        hosts: &hosts,
    };
    let id = run.step.info.id;
    let mut tail = Tail::default();
    let result = {
        let mut decoders = [Utf8::default(), Utf8::default()];
        let emit = |stderr: bool, text: String| {
            if !text.is_empty() {
                (environment.events)(Event::Output {
                    step: id,
                    stderr,
                    text,
                });
            }
        };
        let mut sink = |output: Output, bytes: &[u8]| {
            tail.push(bytes);
            let stderr = output == Output::Stderr;
            emit(stderr, decoders[usize::from(stderr)].push(bytes));
        };
        let result = sandbox.run(&spec, &mut sink, environment.stop);
        for (number, decoder) in decoders.iter_mut().enumerate() {
            emit(number == 1, decoder.finish());
        }
        result
    };
    environment.check_cancelled()?;
    let Some((code, message)) = failure(result)? else {
        drop(prepared);
        drop_unchanged(&snapshot.upper(), &parent.lowers, environment.empty)?;
        return Ok(if sources.unchanged() { Keep::Yes } else { Keep::No });
    };
    if environment.request.debug {
        debug::offer(environment, id, &sandbox, &spec, parent, snapshot);
    }
    Err(failed(environment, run, &tail, code, &message))
}

fn devices(environment: &Environment<'_>, action: &RunAction) -> Result<Edits, Error> {
    if action.devices.is_empty() {
        return Ok(Edits::default());
    }
    let registry = Registry::load(&DIRS.map(Path::new));
    let edits = registry.edits(&action.devices);
    edits.map_err(|(number, message)| environment.source.error(action.devices[number].span, message))
}

/// Exit code of a process that failed, with what is to be said about it.
fn failure(result: Result<container::ExitStatus, container::Error>) -> Result<Option<(i32, String)>, Error> {
    match result {
        Ok(status) if status.code == 0 => Ok(None),
        Ok(status) if status.oom_killed => Ok(Some((
            status.code,
            "the process was killed: out of memory".to_owned(),
        ))),
        Ok(status) => Ok(Some((status.code, status.error))),
        Err(container::Error::Start {
            kind: StartErrorKind::NotFound,
            message,
        }) => Ok(Some((127, message))),
        Err(container::Error::Start {
            kind: StartErrorKind::NotExecutable,
            message,
        }) => Ok(Some((126, message))),
        Err(error) => Err(error.into()),
    }
}

/// The step, its last lines, and its place in the Dockerfile.
fn failed(environment: &Environment<'_>, run: &Run<'_>, tail: &Tail, code: i32, message: &str) -> Error {
    let command = run.action.args.join(" ");
    let problem = format!("process {command:?} did not complete successfully: exit code: {code}");
    let mut excerpt = format!(" > {}:\n{}", run.step.info.name, tail.text());
    if !message.is_empty() {
        excerpt.push_str(message);
        excerpt.push('\n');
    }
    excerpt.push_str(
        &environment
            .source
            .render(Diagnostic::error(run.step.span, problem)),
    );
    Error::Run {
        command,
        code,
        excerpt,
    }
}
