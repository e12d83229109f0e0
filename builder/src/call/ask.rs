//! From a request to an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooper_registry::reference::ImageRef;
use cooper_registry::store::Store;

use super::answer::{
    BuildError, Call, Location, Method, Methods, Position, Range, Report, SourceFile, TargetInfo, Targets,
    Violation, Violations,
};
use super::outline::{outline, reachable};
use crate::build::{Error, Request, Services};
use crate::context::{ContextFiles, read_dockerfile};
use crate::dockerfile::{
    CheckOptions, Diagnostic, Diagnostics, Dockerfile, Facts, Span, lint, parse, parse_check_options,
    resolve_target, suggest_stage,
};
use crate::fetch::Fetcher;

/// Answers `call` about the Dockerfile of `request`. Images that are not in `store` are not fetched: what they would set
/// is then not known, and rules that depend on it say nothing.
///
/// # Errors
/// [`Error::NoDockerfile`], [`Error::Ignore`]; [`Error::Dockerfile`] for a file that does not parse, except for
/// [`Call::Check`], whose answer then says why.
pub fn ask(
    store: &Store,
    request: &Request,
    services: &Services<'_>,
    call: Call,
    cancelled: &AtomicBool,
) -> Result<Report, Error> {
    if call == Call::Describe {
        return Ok(Report::Describe(methods()));
    }
    let lease = store.lease()?;
    let fetcher = Fetcher {
        store,
        services,
        lease: &lease,
        stop: cancelled,
    };
    let context = ContextFiles::open(request, &fetcher)?;
    let (name, bytes) = read_dockerfile(request, context.as_ref())?;
    let file = File {
        name: &name,
        bytes: &bytes,
    };
    let dockerfile = match parse(&bytes, &name) {
        Ok(dockerfile) => dockerfile,
        Err(problems) if call == Call::Check => return Ok(Report::Check(file.broken(&problems))),
        Err(problems) => return Err(Error::Dockerfile(problems.render(&bytes, &name))),
    };
    match call {
        Call::Targets => Ok(Report::Targets(targets(&dockerfile, &file))),
        Call::Outline => outline(request, &dockerfile, &file).map(Report::Outline),
        Call::Check | Call::Describe => {
            let ignore = context.as_ref().and_then(|context| context.filter().ignore);
            let stages = match target_name(request) {
                None => None,
                Some(_) => Some(reachable(&dockerfile, target(request, &dockerfile, &file)?)),
            };
            let known = base_variables(store, &dockerfile);
            let options = check_options(request)?;
            let facts = Facts {
                stages: stages.as_ref(),
                ignore,
                base_variables: Some(&known),
                options: options.as_ref(),
            };
            Ok(Report::Check(file.violations(&lint(&dockerfile, &facts))))
        }
    }
}

/// Options in the build argument BUILDKIT_DOCKERFILE_CHECK, which replace those of the file.
///
/// # Errors
/// [`Error::Source`] if they are malformed.
pub(crate) fn check_options(request: &Request) -> Result<Option<CheckOptions>, Error> {
    let Some(Some(text)) = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK") else {
        return Ok(None);
    };
    let options = parse_check_options(text);
    options
        .map(Some)
        .map_err(|problems| Error::Source(format!("BUILDKIT_DOCKERFILE_CHECK: {problems}")))
}

/// Number of the stage that the request asks for.
pub(super) fn target(request: &Request, dockerfile: &Dockerfile, file: &File<'_>) -> Result<usize, Error> {
    let stages = &dockerfile.stages;
    let Some(name) = target_name(request) else {
        return Ok(stages.len() - 1);
    };
    resolve_target(stages, name).ok_or_else(|| {
        let problem = Diagnostic::error(Span::FILE, format!("target stage {name:?} could not be found"));
        let problem = problem.with_suggestion(suggest_stage(stages, name));
        Error::Dockerfile(Diagnostics::from(problem).render(file.bytes, file.name))
    })
}

/// Name of the stage that the first target asks for; none for the last one.
fn target_name(request: &Request) -> Option<&str> {
    let stage = request.targets.first()?.stage.as_deref();
    stage.filter(|name| !name.is_empty())
}

/// What the base images that are here set.
fn base_variables(store: &Store, dockerfile: &Dockerfile) -> BTreeMap<usize, BTreeSet<String>> {
    let mut known = BTreeMap::new();
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let Ok(name) = stage.base.text.parse::<ImageRef>() else {
            continue;
        };
        let Ok(image) = store.image(&name.to_string()) else {
            continue;
        };
        let pairs = image.config.config.env.unwrap_or_default();
        let names = pairs
            .iter()
            .filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
        known.insert(index, names.collect());
    }
    known
}

fn targets(dockerfile: &Dockerfile, file: &File<'_>) -> Targets {
    let last = dockerfile.stages.len() - 1;
    let targets = dockerfile
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| TargetInfo {
            name: stage.name.clone().unwrap_or_default(),
            default: index == last,
            description: stage.doc.clone().unwrap_or_default(),
            base: stage.base.text.clone(),
            platform: stage
                .platform
                .as_ref()
                .map(|word| word.text.clone())
                .unwrap_or_default(),
            location: file.location(stage.span),
        });
    Targets {
        targets: targets.collect(),
        sources: file.sources(),
    }
}

fn methods() -> Methods {
    let method = |name: &str, description: &str| Method {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        description: description.to_owned(),
    };
    Methods {
        requests: vec![
            method("check", "find what is suspicious in the build definition"),
            method("outline", "list all parameters that the build target supports"),
            method("targets", "list all targets that the build definition supports"),
            method("subrequests.describe", "list available requests"),
        ],
    }
}

/// A Dockerfile's name and bytes.
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: &'a [u8],
}

impl File<'_> {
    pub(super) fn sources(&self) -> Vec<SourceFile> {
        vec![SourceFile {
            filename: self.name.to_owned(),
            language: "Dockerfile".to_owned(),
            data: STANDARD.encode(self.bytes),
        }]
    }

    pub(super) fn location(&self, span: Span) -> Location {
        let text = &self.bytes[span.range().start.min(self.bytes.len())..span.end.min(self.bytes.len())];
        let lines = text.strip_suffix(b"\n").unwrap_or(text);
        let more = lines.iter().filter(|&&byte| byte == b'\n').count();
        Location {
            source_index: 0,
            ranges: vec![Range {
                start: Position { line: span.line },
                end: Position {
                    line: span.line + more,
                },
            }],
        }
    }

    fn violations(&self, found: &Diagnostics) -> Violations {
        let warnings = found.iter().filter_map(|diagnostic| {
            let rule = diagnostic.rule?;
            let detail = match &diagnostic.help {
                Some(help) => format!("{} ({help})", diagnostic.message),
                None => diagnostic.message.clone(),
            };
            Some(Violation {
                rule_name: rule.name().to_owned(),
                description: rule.description().to_owned(),
                url: rule.url().unwrap_or_default(),
                detail,
                location: self.location(diagnostic.span),
            })
        });
        Violations {
            warnings: warnings.collect(),
            sources: self.sources(),
            build_error: None,
            text: found.render(self.bytes, self.name),
        }
    }

    /// The answer about a file with errors.
    fn broken(&self, problems: &Diagnostics) -> Violations {
        let errors = || problems.iter().filter(|problem| problem.rule.is_none());
        let messages: Vec<String> = errors().map(ToString::to_string).collect();
        Violations {
            build_error: Some(BuildError {
                message: messages.join("; "),
                location: errors()
                    .next()
                    .map(|problem| self.location(problem.span))
                    .unwrap_or_default(),
            }),
            ..self.violations(problems)
        }
    }
}
