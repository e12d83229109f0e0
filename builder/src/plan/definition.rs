//! What a step is, as a hash that is known before anything runs.

use cooper_registry::digest::{Algorithm, Hasher};
use cooper_registry::oci::Platform;

use super::step::{Action, BaseSource, CopyAction, CopyFrom, CopySource, Device, RunAction, WorkdirAction};

/// The definition key of a step: a hash of what it does and of the definition keys of what it starts from.
///
/// Steps of one build with equal definitions are the same step. Numbers of steps, names of stages, places in the file and
/// values of proxies are not in it. The digests of base images are; the files of contexts are not, these are known only
/// once a step reads them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Definition(String);

impl Definition {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Collects the parts of a [`Definition`].
pub(super) struct Definer(Hasher);

impl Definer {
    pub(super) fn new(kind: &str) -> Self {
        let mut definer = Self(Algorithm::Sha256.hasher());
        definer.add("kind", kind);
        definer
    }

    /// Adds a part; order and repetition matter, and parts do not run together.
    pub(super) fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    pub(super) fn add_some(&mut self, name: &str, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    pub(super) fn finish(self) -> Definition {
        Definition(self.0.finish().hex().to_owned())
    }
}

/// Defines a step; `of` knows the definitions of the steps it needs, `context` the named contexts.
///
/// Every field of an action is mentioned here: one that is forgotten would make two steps one.
pub(super) fn define(
    action: &Action,
    parent: Option<usize>,
    platform: &Platform,
    no_cache: bool,
    of: &dyn Fn(usize) -> Option<Definition>,
    context: &dyn Fn(usize) -> String,
) -> Definition {
    let input = |step: Option<usize>| {
        let found = step.and_then(of);
        found.map_or_else(|| "scratch".to_owned(), |definition| definition.0)
    };
    let mut definer = match action {
        Action::Base(base) => {
            let mut definer = Definer::new("FROM");
            definer.add("source", base.source.text());
            if let BaseSource::Layout { path, .. } = &base.source {
                definer.add("path", path.as_os_str().as_encoded_bytes());
            }
            definer
        }
        Action::Run(action) => run(action, &input, context),
        Action::Copy(action) => copy(action, &input, context),
        Action::Fetch(remote) => {
            let mut definer = Definer::new("fetch");
            definer.add("remote", format!("{remote:?}"));
            definer
        }
        Action::Workdir(WorkdirAction { path, user }) => {
            let mut definer = Definer::new("WORKDIR");
            definer.add("path", path);
            definer.add("user", user);
            definer
        }
        // The file system of another step as it is.
        Action::Nothing => Definer::new("nothing"),
        Action::Same(step) => {
            let mut definer = Definer::new("same");
            definer.add("step", input(Some(*step)));
            definer
        }
    };
    definer.add("parent", input(parent));
    definer.add("platform", platform.to_string());
    definer.add_some("no-cache", no_cache.then_some(""));
    definer.finish()
}

fn run(
    action: &RunAction,
    input: &dyn Fn(Option<usize>) -> String,
    context: &dyn Fn(usize) -> String,
) -> Definer {
    let RunAction {
        args,
        env,
        proxies: _,
        cwd,
        user,
        network,
        hostname,
        script,
        mounts,
        insecure,
        devices,
    } = action;
    let mut definer = Definer::new("RUN");
    args.iter().for_each(|arg| definer.add("arg", arg));
    env.iter().for_each(|pair| definer.add("env", pair));
    definer.add("cwd", cwd);
    definer.add("user", user);
    definer.add("network", format!("{network:?}"));
    definer.add("hostname", hostname);
    if let Some(script) = script {
        definer.add("script", &script.name);
        definer.add("script", &script.bytes);
    }
    for mount in mounts {
        definer.add("mount", mount.kind.text());
        match mount.kind.from() {
            None => {}
            Some(CopyFrom::Context) => definer.add("mount-context", ""),
            Some(CopyFrom::Named(number)) => definer.add("mount-context", context(number)),
            Some(CopyFrom::Step(step)) => definer.add("mount-from", input(step)),
        }
    }
    definer.add_some("insecure", insecure.then_some(""));
    for Device {
        span: _,
        name,
        required,
    } in devices
    {
        definer.add("device", format!("{name} required={required}"));
    }
    definer
}

fn copy(
    action: &CopyAction,
    input: &dyn Fn(Option<usize>) -> String,
    context: &dyn Fn(usize) -> String,
) -> Definer {
    let CopyAction {
        add,
        from,
        sources,
        files,
        dest,
        chown,
        chmod,
        unpack,
        unpack_fetched,
        link,
        parents,
        excludes,
    } = action;
    let mut definer = Definer::new(if *add { "ADD" } else { "COPY" });
    match from {
        CopyFrom::Context => definer.add("context", ""),
        CopyFrom::Named(number) => definer.add("context", context(*number)),
        CopyFrom::Step(step) => definer.add("from", input(*step)),
    }
    for source in sources {
        match source {
            CopySource::Path(path, _) => definer.add("source", path),
            CopySource::Http { step, name } => {
                definer.add("http", input(Some(*step)));
                definer.add("name", name);
            }
            CopySource::Git { step } => definer.add("git", input(Some(*step))),
        }
    }
    for file in files {
        definer.add("file", &file.name);
        definer.add("file", &file.bytes);
    }
    definer.add("dest", dest);
    definer.add_some("chown", chown.as_ref());
    definer.add_some("chmod", chmod.as_ref().map(|(text, _)| text));
    for (name, given) in [
        ("unpack", unpack),
        ("unpack-fetched", unpack_fetched),
        ("link", link),
        ("parents", parents),
    ] {
        definer.add_some(name, given.then_some(""));
    }
    definer.add_some(
        "excludes",
        excludes.as_ref().map(|patterns| format!("{patterns:?}")),
    );
    definer
}
