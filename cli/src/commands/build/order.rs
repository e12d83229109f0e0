//! What is to be built, and how it is to be shown.

use std::path::{Path, PathBuf};

use cooper_daemon::api::{BuildCall, CONTEXT_PART};
use cooper_daemon::build::{Context, NamedContext, NetworkMode, Request, Target};
use serde_json::Value;

use super::context::{Dockerfile, Files, Source};
use super::parts::Part;
use super::watch::{Tree, Watched};
use super::{flags, local};
use crate::args::build::{BuildArgs, ExplainFormat, ProgressMode};
use crate::args::create::RunArgs;
use crate::commands::create::usage;
use crate::failure::Result;
use crate::outputs::OutputSpec;
use crate::settings::build::{Named, agents, named_contexts, question, secrets};

/// One build, ready to be sent.
#[derive(Debug)]
pub(in crate::commands) struct Order {
    /// Without its contexts.
    call: BuildCall,
    source: Source,
    /// Named contexts on this machine, absolute.
    directories: Vec<(String, Named)>,
    pub(super) progress: ProgressMode,
    pub(super) explain: Option<ExplainFormat>,
    /// docker's configuration.
    pub(super) config: Value,
}

impl Order {
    /// What `build` builds.
    pub(super) fn new(args: &BuildArgs, outputs: &[OutputSpec]) -> Result<Self> {
        let config = local::docker_config()?;
        let source = Source::find(&args.context, args.file.as_deref(), &mut std::io::stdin().lock())?;
        if args.watch && matches!(source.dockerfile, Dockerfile::Content(_)) && source.outside.is_none() {
            return Err(usage(
                "--watch cannot read a Dockerfile from stdin again".to_owned(),
            ));
        }
        if args.security_opt.iter().any(|option| !option.is_empty()) {
            return Err(usage(
                "--security-opt is for Windows: RUN --security=insecure with --allow security.insecure lifts the sandbox"
                    .to_owned(),
            ));
        }
        let mut order = Self::plain(config, source, &args.build_arg)?;
        order.progress = if args.quiet {
            ProgressMode::Quiet
        } else {
            args.progress
        };
        order.explain = args.explain;
        if let Some(question) = question(args.call.as_deref(), args.check).map_err(usage)? {
            order.call.call = Some(question.call);
            // There is nothing but the answer to show.
            order.progress = ProgressMode::None;
        }
        let request = flags::request(args, outputs, &order.call.request).map_err(usage)?;
        order.call.request = request;
        for (name, named) in named_contexts(&args.build_context).map_err(usage)? {
            order.name_context(name, named)?;
        }
        let own = |name: &str| std::env::var_os(name).is_some();
        for (id, source) in secrets(&args.secret, &own).map_err(usage)? {
            let value = local::secret(&id, &source)?;
            if order.call.secrets.insert(id.clone(), value).is_some() {
                return Err(usage(format!("--secret id={id} is given twice")));
            }
        }
        let agent = std::env::var("SSH_AUTH_SOCK").ok();
        for (id, path) in agents(&args.ssh, agent.as_deref()).map_err(usage)? {
            let path = local::agent(&id, &path)?;
            order.call.ssh.insert(id, path);
        }
        Ok(order)
    }

    /// What `run --build` builds.
    pub(in crate::commands) fn for_run(args: &RunArgs, directory: &Path) -> Result<Self> {
        let source = Source::find(
            directory,
            args.build_file.as_deref(),
            &mut std::io::stdin().lock(),
        )?;
        let mut order = Self::plain(local::docker_config()?, source, &args.build_arg)?;
        order.call.request.pull = args.flags.pull == crate::args::create::PullPolicy::Always;
        order.call.request.targets = vec![Target {
            stage: args.build_target.clone(),
            names: Vec::new(),
        }];
        if args.flags.quiet {
            order.progress = ProgressMode::Quiet;
        }
        Ok(order)
    }

    fn plain(config: Value, source: Source, build_arg: &[String]) -> Result<Self> {
        let own = |name: &str| std::env::var(name).ok();
        let host = own("DOCKER_HOST").unwrap_or_default();
        let request = Request {
            dockerfile_name: source.name.clone(),
            build_args: local::build_args(build_arg, &config, &host, &own),
            // RUN needs a network; without bridges it is the host's.
            network: NetworkMode::Host,
            ..Request::default()
        };
        let (dockerfile, dockerfile_url) = match &source.dockerfile {
            Dockerfile::Inside => (None, None),
            Dockerfile::Content(content) => (Some(content.clone().into()), None),
            Dockerfile::Url(url) => (None, Some(url.clone())),
        };
        let ignore = source.ignore.clone().map(Into::into);
        Ok(Self {
            call: BuildCall {
                request,
                dockerfile,
                dockerfile_url,
                ignore,
                ..BuildCall::default()
            },
            source,
            directories: Vec::new(),
            progress: ProgressMode::Auto,
            explain: None,
            config,
        })
    }

    fn name_context(&mut self, name: String, named: Named) -> Result {
        let find = |path: PathBuf| {
            let fail = |why: String| usage(format!("--build-context {name}={}: {why}", path.display()));
            let found = path.canonicalize().map_err(|error| fail(error.to_string()))?;
            if found.is_dir() {
                Ok(found)
            } else {
                Err(fail("not a directory".to_owned()))
            }
        };
        let contexts = &mut self.call.request.named_contexts;
        match named {
            Named::Remote(url) => drop(contexts.insert(name, NamedContext::Remote(url))),
            Named::Image(image) => drop(contexts.insert(name, NamedContext::Image(image))),
            Named::Directory(path) => {
                let path = find(path)?;
                self.directories.push((name, Named::Directory(path)));
            }
            Named::OciLayout(path, reference) => {
                let path = find(path)?;
                self.directories.push((name, Named::OciLayout(path, reference)));
            }
        }
        Ok(())
    }

    /// The call for an engine that sees our files or does not, with what must be sent. Paths that JSON cannot carry are
    /// sent, too.
    pub(super) fn settle(self, shares_files: bool) -> Result<(BuildCall, Vec<Part>)> {
        let mut call = self.call;
        let mut parts = Vec::new();
        if !shares_files && let Some(id) = call.ssh.keys().next() {
            return Err(usage(format!(
                "--ssh {id} works with an engine on this host only"
            )));
        }
        let names_path = |path: &Path| shares_files && path.to_str().is_some();
        let mut send = |name: &str, part: Part| {
            call.parts.push(name.to_owned());
            parts.push(part);
            PathBuf::from(name)
        };
        call.request.context = match self.source.files {
            Files::None => Context::Empty,
            Files::Remote(url) => Context::Remote(url),
            Files::Archive(head) => Context::Directory(send(CONTEXT_PART, Part::Stdin(head))),
            Files::Directory(path) if names_path(&path) => Context::Directory(path),
            Files::Directory(path) => {
                let inside = self.source.dockerfile == Dockerfile::Inside;
                let part = Part::Directory {
                    path,
                    dockerfile: inside.then(|| PathBuf::from(&self.source.name)),
                    ignore: self.source.ignore,
                };
                Context::Directory(send(CONTEXT_PART, part))
            }
        };
        for (number, (name, named)) in self.directories.into_iter().enumerate() {
            let mut place = |path: PathBuf, ignore: Option<Vec<u8>>| {
                if names_path(&path) {
                    return path;
                }
                let part = Part::Directory {
                    path,
                    dockerfile: None,
                    ignore,
                };
                send(&format!("named/{number}"), part)
            };
            let context = match named {
                Named::Directory(path) => NamedContext::Directory(place(path, None)),
                Named::OciLayout(path, reference) => NamedContext::OciLayout {
                    // Nothing in a layout is ignored.
                    path: place(path, Some(Vec::new())),
                    reference,
                },
                Named::Remote(_) | Named::Image(_) => continue,
            };
            call.request.named_contexts.insert(name, context);
        }
        Ok((call, parts))
    }

    /// What `--watch` watches; an error when the context is not a directory on this machine.
    pub(in crate::commands) fn watched(&self) -> Result<Watched> {
        let Files::Directory(root) = &self.source.files else {
            let why = "--watch needs a context directory: nothing can be watched on stdin or elsewhere";
            return Err(usage(why.to_owned()));
        };
        let inside = self.source.dockerfile == Dockerfile::Inside;
        let mut trees = vec![Tree {
            root: root.clone(),
            dockerfile: inside.then(|| PathBuf::from(&self.source.name)),
            ignore: self.source.ignore.clone(),
        }];
        for (_, named) in &self.directories {
            if let Named::Directory(path) | Named::OciLayout(path, _) = named {
                trees.push(Tree {
                    root: path.clone(),
                    dockerfile: None,
                    ignore: matches!(named, Named::OciLayout(..)).then(Vec::new),
                });
            }
        }
        Ok(Watched {
            trees,
            dockerfile: self.source.outside.clone(),
        })
    }

    /// SOURCE_DATE_EPOCH, where it is a time.
    pub(super) fn epoch(&self) -> Option<i64> {
        let value = self.call.request.build_args.get("SOURCE_DATE_EPOCH")?;
        value.as_deref()?.parse().ok()
    }

    /// Whether a RUN that fails offers a shell already.
    pub(super) fn debugs(&self) -> bool {
        self.call.request.debug
    }
}
