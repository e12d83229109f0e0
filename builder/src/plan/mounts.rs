//! `RUN --mount` and `RUN --device`.

use super::evaluate::Evaluator;
use super::mount_options::{Field, fields, parse_bool, parse_id, parse_mode, parse_size};
use super::state::StageState;
use super::step::{CopyFrom, Device, Mount, MountKind};
use super::values::{clean_path, clean_relative};
use crate::build::{Entitlement, Error};
use crate::dockerfile::{Diagnostic, Run, Span, Word, nearest, process_word};
use crate::mounts::Sharing;

/// As BuildKit lists them for its suggestions, and what it forgot.
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "ro",
    "rw",
    "readwrite",
    "destination",
    "size",
    "env",
];
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: [&str; 3] = ["shared", "private", "locked"];
/// What the default id of an SSH agent is called.
const DEFAULT_AGENT: &str = "default";

/// The options of one mount as they are given; which of them may be depends on the type, which may come last.
#[derive(Debug, Default)]
struct Options {
    kind: Option<(usize, Span)>,
    from: Option<Span>,
    source: Option<(String, Span)>,
    target: Option<(String, Span)>,
    id: Option<String>,
    env: Option<(String, Span)>,
    readonly: Option<bool>,
    required: Option<(bool, Span)>,
    size: Option<(u64, Span)>,
    sharing: Option<(Sharing, Span)>,
    mode: Option<(u32, Span)>,
    uid: Option<(u32, Span)>,
    gid: Option<(u32, Span)>,
}

/// The value of `from=`, which is never expanded, if the mount has files from somewhere.
///
/// # Errors
/// A variable in it, or a list that cannot be read.
pub(super) fn from_of(mount: &Word) -> Result<Option<Word>, Diagnostic> {
    let fields = fields(mount)?;
    let value = |key: &str| fields.iter().rev().find(|field| field.key == key);
    let other = value("type").and_then(|field| field.value.as_deref());
    if other.is_some_and(|kind| matches!(kind.to_lowercase().as_str(), "tmpfs" | "secret" | "ssh")) {
        return Ok(None);
    }
    let Some((field, text)) = value("from").and_then(|field| Some((field, field.value.as_ref()?))) else {
        return Ok(None);
    };
    let variable = text.find('$').is_some_and(|at| at + 1 < text.len());
    if variable {
        return Err(Diagnostic::error(
            field.value_span,
            "'from' doesn't support variable expansion, define alias stage instead",
        ));
    }
    Ok(Some(Word {
        text: text.clone(),
        span: field.value_span,
    })
    .filter(|word| !word.text.is_empty()))
}

impl Evaluator<'_> {
    /// The mounts of a RUN, in order, and where the first agent's socket is.
    pub(super) fn mounts(
        &mut self,
        state: &StageState,
        run: &Run,
    ) -> Result<(Vec<Mount>, Option<String>), Error> {
        let mut mounts = Vec::new();
        let mut agents = 0;
        let mut agent = None;
        for (number, word) in run.flags.mounts.iter().enumerate() {
            let options = self.options(state, word)?;
            from_of(word).map_err(|problem| self.problem(problem))?;
            let mount = self.mount(state, word, &options, self.from(number), &mut agents)?;
            if let MountKind::Ssh { target, .. } = &mount.kind {
                agent.get_or_insert_with(|| target.clone());
            }
            mounts.push(mount);
        }
        Ok((mounts, agent))
    }

    fn options(&self, state: &StageState, word: &Word) -> Result<Options, Error> {
        let mut options = Options::default();
        for field in fields(word).map_err(|problem| self.problem(problem))? {
            let key = field.key.as_str();
            let Some(raw) = &field.value else {
                match key {
                    "readonly" | "ro" => options.readonly = Some(true),
                    "readwrite" | "rw" => options.readonly = Some(false),
                    "required" => options.required = Some((true, field.span)),
                    _ => {
                        let message = format!("invalid field '{}' must be a key=value pair", field.text);
                        let known = nearest(key, KEYS).filter(|_| !KEYS.contains(&key));
                        return Err(
                            self.problem(Diagnostic::error(field.span, message).with_suggestion(known))
                        );
                    }
                }
                continue;
            };
            let value = if key == "from" {
                raw.clone()
            } else {
                let expanded = process_word(raw, &|name| state.get(name), self.escape());
                let place = |offset| field.value_span.tail(offset);
                expanded
                    .map_err(|error| self.source.error(place(error.offset), error.message))?
                    .text
            };
            self.option(&mut options, &field, value)?;
        }
        Ok(options)
    }

    fn option(&self, options: &mut Options, field: &Field, value: String) -> Result<(), Error> {
        let (key, span) = (field.key.as_str(), field.value_span);
        let invalid = || {
            self.source
                .error(span, format!("invalid value for {key}: {value}"))
        };
        let one_of = |what: &str, known: &[&'static str]| {
            let lower = value.to_lowercase();
            known.iter().position(|name| *name == lower).ok_or_else(|| {
                let message = format!("unsupported {what} {value:?}");
                let suggestion = nearest(&value, known.iter().copied());
                self.problem(Diagnostic::error(span, message).with_suggestion(suggestion))
            })
        };
        let number = |parsed: Option<u32>| {
            parsed.ok_or_else(|| {
                self.source
                    .error(span, format!("invalid value {value} for {key}"))
            })
        };
        match key {
            "type" => options.kind = Some((one_of("mount type", &TYPES)?, span)),
            "from" => options.from = Some(field.span),
            "source" | "src" => options.source = Some((value, span)),
            "target" | "dst" | "destination" => options.target = Some((value, span)),
            "readonly" | "ro" => options.readonly = Some(parse_bool(&value).ok_or_else(invalid)?),
            "readwrite" | "rw" => {
                options.readonly = Some(!parse_bool(&value).ok_or_else(invalid)?);
            }
            "required" => options.required = Some((parse_bool(&value).ok_or_else(invalid)?, field.span)),
            "size" => options.size = Some((parse_size(&value).ok_or_else(invalid)?, field.span)),
            "id" => options.id = Some(value),
            "env" => options.env = Some((value, span)),
            "sharing" => {
                let sharing = [Sharing::Shared, Sharing::Private, Sharing::Locked];
                options.sharing = Some((sharing[one_of("sharing value", &SHARING)?], field.span));
            }
            "mode" => options.mode = Some((number(parse_mode(&value))?, field.span)),
            "uid" => options.uid = Some((number(parse_id(&value))?, field.span)),
            "gid" => options.gid = Some((number(parse_id(&value))?, field.span)),
            _ => {
                let message = format!("unexpected key '{key}' in '{}'", field.text);
                let problem = Diagnostic::error(field.span, message);
                return Err(self.problem(problem.with_suggestion(nearest(key, KEYS))));
            }
        }
        Ok(())
    }

    fn mount(
        &self,
        state: &StageState,
        word: &Word,
        options: &Options,
        from: Option<CopyFrom>,
        agents: &mut usize,
    ) -> Result<Mount, Error> {
        let name = TYPES[options.kind.map_or(0, |(kind, _)| kind)];
        self.check_allowed(name, options)?;
        let given = |text: &Option<(String, Span)>| {
            text.as_ref()
                .map(|(text, _)| text.clone())
                .filter(|text| !text.is_empty())
        };
        let source = given(&options.source);
        let source_span = options.source.as_ref().map_or(word.span, |(_, span)| *span);
        let target = given(&options.target);
        let owner = (
            options.uid.map_or(0, |(uid, _)| uid),
            options.gid.map_or(0, |(gid, _)| gid),
        );
        let mode = options.mode.map(|(mode, _)| mode);
        let kind = match name {
            "cache" => {
                let target = self.target(state, word, options)?;
                if source.is_some() && from.is_none() {
                    let message =
                        "a cache mount with source needs from, too: it begins with files of a stage or image";
                    return Err(self.source.error(source_span, message));
                }
                let named = options.id.clone().filter(|id| !id.is_empty());
                let written = options.target.as_ref().map_or("", |(text, _)| text);
                let changed = (mode, options.uid, options.gid) != (None, None, None);
                MountKind::Cache {
                    default_id: named.is_none(),
                    id: named.unwrap_or_else(|| clean_relative(written)),
                    namespace: self
                        .request
                        .build_args
                        .get("BUILDKIT_CACHE_MOUNT_NS")
                        .cloned()
                        .flatten()
                        .unwrap_or_default(),
                    target,
                    sharing: options.sharing.map_or(Sharing::Shared, |(sharing, _)| sharing),
                    from,
                    source: clean_path(source.as_deref().unwrap_or("/")),
                    readonly: options.readonly.unwrap_or(false),
                    made: changed.then(|| (mode.unwrap_or(0o755), owner.0, owner.1)),
                }
            }
            "tmpfs" => MountKind::Tmpfs {
                target: self.target(state, word, options)?,
                size: options.size.map(|(size, _)| size).filter(|size| *size > 0),
                readonly: options.readonly.unwrap_or(false),
            },
            "secret" => self.secret(state, word, options, source, target)?,
            "ssh" => {
                let number = *agents;
                *agents += 1;
                MountKind::Ssh {
                    id: options
                        .id
                        .clone()
                        .filter(|id| !id.is_empty())
                        .unwrap_or_else(|| DEFAULT_AGENT.to_owned()),
                    target: match target {
                        Some(_) => self.target(state, word, options)?,
                        None => format!("/run/buildkit/ssh_agent.{number}"),
                    },
                    required: options.required.is_some_and(|(required, _)| required),
                    mode: mode.unwrap_or(0o600),
                    uid: owner.0,
                    gid: owner.1,
                }
            }
            _ => MountKind::Bind {
                target: self.target(state, word, options)?,
                from: from.unwrap_or(CopyFrom::Context),
                source: clean_path(source.as_deref().unwrap_or("/")),
                readonly: options.readonly.unwrap_or(true),
            },
        };
        Ok(Mount {
            span: word.span,
            source_span,
            kind,
        })
    }

    fn secret(
        &self,
        state: &StageState,
        word: &Word,
        options: &Options,
        source: Option<String>,
        target: Option<String>,
    ) -> Result<MountKind, Error> {
        let id = options.id.clone().filter(|id| !id.is_empty());
        let base = |path: &str| {
            path.rsplit('/')
                .find(|part| !part.is_empty())
                .unwrap_or("/")
                .to_owned()
        };
        let id = match (id, source, &target) {
            (Some(_), Some(_), _) => {
                return Err(self.source.error(word.span, "both source and id can't be set"));
            }
            (Some(id), None, _) | (None, Some(id), _) => id,
            (None, None, Some(target)) => base(target),
            (None, None, None) => {
                let message = "invalid secret mount. one of source, target required";
                return Err(self.source.error(word.span, message));
            }
        };
        if let Some((name, span)) = &options.env
            && (name.is_empty() || name.contains(['=', '\0']))
        {
            let message = format!("invalid value for env: {name:?} is no name of a variable");
            return Err(self.source.error(*span, message));
        }
        let env = options.env.as_ref().map(|(name, _)| name.clone());
        Ok(MountKind::Secret {
            target: match (&target, &env) {
                (Some(_), _) => Some(self.target(state, word, options)?),
                (None, Some(_)) => None,
                (None, None) => Some(format!("/run/secrets/{}", base(&id))),
            },
            env,
            required: options.required.is_some_and(|(required, _)| required),
            mode: options.mode.map_or(0o400, |(mode, _)| mode),
            uid: options.uid.map_or(0, |(uid, _)| uid),
            gid: options.gid.map_or(0, |(gid, _)| gid),
            id,
        })
    }

    /// BuildKit's rules about which option goes with which type; it ignores the rest, too.
    fn check_allowed(&self, name: &str, options: &Options) -> Result<(), Error> {
        let refuse = |span: Span, message: String| Err(self.source.error(span, message));
        if !matches!(name, "cache" | "secret" | "ssh") {
            for (given, key) in [(options.mode, "mode"), (options.uid, "uid"), (options.gid, "gid")] {
                if let Some((_, span)) = given {
                    return refuse(span, format!("{key} not allowed for {name:?} type mounts"));
                }
            }
        }
        let unexpected = |key: &str| format!("unexpected key '{key}' for mount type '{name}'");
        if let Some((_, span)) = options.required.filter(|_| !matches!(name, "secret" | "ssh")) {
            return refuse(span, unexpected("required"));
        }
        if let Some((_, span)) = options.size.filter(|_| name != "tmpfs") {
            return refuse(span, unexpected("size"));
        }
        if let Some((_, span)) = options.env.as_ref().filter(|_| name != "secret") {
            return refuse(*span, unexpected("env"));
        }
        if let Some((_, span)) = options.sharing.filter(|_| name != "cache") {
            let message = if name == "secret" {
                "secret mount should not define sharing".to_owned()
            } else {
                format!("invalid cache sharing set for {name} mount")
            };
            return refuse(span, message);
        }
        if let Some(span) = options.from.filter(|_| name == "secret") {
            return refuse(span, "secret mount should not have a from".to_owned());
        }
        match &options.source {
            Some((_, span)) if name == "ssh" => refuse(*span, "ssh does not support source".to_owned()),
            Some((_, span)) if name == "tmpfs" => refuse(*span, unexpected("source")),
            _ => Ok(()),
        }
    }

    /// The mount point; without `target` the working directory.
    fn target(&self, state: &StageState, word: &Word, options: &Options) -> Result<String, Error> {
        let (text, span) = match &options.target {
            Some((text, span)) => (text.as_str(), *span),
            None => ("", word.span),
        };
        let path = if text.starts_with('/') {
            clean_path(text)
        } else {
            clean_path(&format!("{}/{text}", state.cwd()))
        };
        if path == "/" {
            return Err(self.source.error(span, "invalid mount target \"/\""));
        }
        Ok(path)
    }

    /// The devices of a RUN.
    pub(super) fn devices(&self, state: &StageState, run: &Run) -> Result<Vec<Device>, Error> {
        let mut devices = Vec::new();
        for word in &run.flags.devices {
            if !self.request.allow.contains(&Entitlement::Device) {
                return Err(self
                    .source
                    .error(word.span, "device is not allowed for this build"));
            }
            let text = self.expand(state, word)?;
            let mut parts = text.split(',');
            let name = parts.next().unwrap_or_default();
            let name = name.strip_prefix("name=").unwrap_or(name);
            if name.is_empty() {
                return Err(self.source.error(word.span, "device name not set"));
            }
            let mut required = false;
            for part in parts {
                required = match part.split_once('=') {
                    None if part == "required" => true,
                    Some(("required", value)) if parse_bool(value).is_some() => {
                        value.starts_with(['1', 't', 'T'])
                    }
                    _ => {
                        let key = part.split('=').next().unwrap_or_default();
                        let problem =
                            Diagnostic::error(word.span, format!("unexpected key '{key}' in '{text}'"));
                        return Err(self.problem(problem.with_suggestion(nearest(key, ["required", "name"]))));
                    }
                };
            }
            devices.push(Device {
                span: word.span,
                name: name.to_owned(),
                required,
            });
        }
        Ok(devices)
    }

    fn problem(&self, problem: Diagnostic) -> Error {
        Error::Dockerfile(self.source.render(problem))
    }
}
