//! Variables that exist outside of stages: arguments in front of the first FROM, platforms, proxies.

use std::collections::BTreeMap;

use cooper_registry::oci::Platform;

use super::source::Source;
use crate::build::{Error, Request};
use crate::dockerfile::Dockerfile;

/// Proxy variables, usable in RUN without a declaration; never in the history or a cache key unless declared.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Values of the global scope, visible in FROM and importable into stages by a valueless ARG.
#[derive(Debug, Clone, Default)]
pub(crate) struct Globals {
    values: BTreeMap<String, String>,
}

impl Globals {
    /// Predefined platform arguments, overridden by `--build-arg`, then the file's own. `stage` is the name of the target.
    pub(crate) fn new(
        request: &Request,
        dockerfile: &Dockerfile,
        source: &Source<'_>,
        target: &Platform,
        stage: Option<&str>,
    ) -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        for (side, platform) in [("BUILD", &Platform::host().normalized()), ("TARGET", target)] {
            for (key, value) in [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("OSVERSION", platform.os_version.clone().unwrap_or_default()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", platform.variant.clone().unwrap_or_default()),
            ] {
                values.insert(format!("{side}{key}"), value);
            }
        }
        values.insert("TARGETSTAGE".to_owned(), stage.unwrap_or("default").to_owned());
        for (key, value) in &mut values {
            if let Some(Some(given)) = request.build_args.get(key) {
                value.clone_from(given);
            }
        }
        let mut globals = Self { values };
        let escape = dockerfile.directives.escape.char();
        for arg in &dockerfile.global_args {
            let name = source.expand(&arg.name, &|key| globals.get(key), escape)?;
            let value = match (request.build_args.get(&name), &arg.default) {
                (Some(Some(given)), _) => Some(given.clone()),
                (_, Some(default)) => Some(source.expand(default, &|key| globals.get(key), escape)?),
                _ => None,
            };
            if let Some(value) = value {
                globals.values.insert(name, value);
            }
        }
        Ok(globals)
    }

    /// Names of all variables, for suggestions.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Value of a variable, none if it is not set.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}

/// The proxy variables of `--build-arg`, in both cases, as BuildKit passes them to RUN.
pub(super) fn proxies(request: &Request) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (key, value) in &request.build_args {
        let upper = key.to_uppercase();
        if let (true, Some(value)) = (PROXIES.contains(&upper.as_str()), value) {
            found.push((upper.clone(), value.clone()));
            found.push((upper.to_lowercase(), value.clone()));
        }
    }
    found
}

/// Arguments about attestations, which no RUN sees.
const NOT_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Whether an ARG of this name becomes a variable.
pub(super) fn is_variable(name: &str) -> bool {
    !NOT_ENVIRONMENT.contains(&name)
}

/// The clamp that the build argument or the global ARG of the name SOURCE_DATE_EPOCH asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Epoch {
    /// None is asked for, or what is asked for has no time of its own: files of this host, or an image.
    None,
    /// Unix seconds.
    Seconds(i64),
    /// The time of the commit or file that the build's context is; only remote contexts have one.
    Context,
    /// The same of a named context.
    Named(String),
}

/// What `--build-arg SOURCE_DATE_EPOCH`, or else the file's global ARG, means; BuildKit 0.30 and later take more than
/// numbers.
pub(crate) fn epoch(request: &Request, dockerfile: &Dockerfile, source: &Source<'_>) -> Result<Epoch, Error> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let declared = dockerfile.global_args.iter().rfind(|arg| arg.name.text == NAME);
    let value = match (request.build_args.get(NAME), declared) {
        (Some(Some(given)), _) => given.clone(),
        (_, Some(_)) => Globals::new(request, dockerfile, source, &Platform::host().normalized(), None)?
            .get(NAME)
            .unwrap_or_default(),
        _ => return Ok(Epoch::None),
    };
    if value.is_empty() {
        return Ok(Epoch::None);
    }
    if let Ok(seconds) = value.parse() {
        return Ok(Epoch::Seconds(seconds));
    }
    if value == "context" {
        return Ok(Epoch::Context);
    }
    if request.named_contexts.contains_key(&value.to_lowercase()) {
        return Ok(Epoch::Named(value.to_lowercase()));
    }
    let message = format!("invalid SOURCE_DATE_EPOCH: {value:?} is no number of seconds, nor a context");
    let is_stage = dockerfile
        .stages
        .iter()
        .find(|stage| stage.name.as_deref() == Some(&value.to_lowercase()));
    Err(match (is_stage, declared) {
        (Some(stage), _) => source.unsupported(stage.span, "SOURCE_DATE_EPOCH of a stage"),
        (None, Some(arg)) if !matches!(request.build_args.get(NAME), Some(Some(_))) => {
            source.error(arg.default.as_ref().unwrap_or(&arg.name).span, message)
        }
        _ => Error::Source(message),
    })
}

/// Whether a build argument means something without being declared.
pub(super) fn is_predefined(name: &str) -> bool {
    let platform = ["BUILD", "TARGET"].iter().any(|side| {
        name.strip_prefix(side).is_some_and(|rest| {
            matches!(
                rest,
                "PLATFORM" | "OS" | "OSVERSION" | "ARCH" | "VARIANT" | "STAGE"
            )
        })
    });
    platform
        || PROXIES.contains(&name.to_uppercase().as_str())
        || name.starts_with("BUILDKIT_")
        || name == "SOURCE_DATE_EPOCH"
}
