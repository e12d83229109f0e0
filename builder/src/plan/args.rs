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
    /// Predefined platform arguments, overridden by `--build-arg`, then the file's own.
    pub(crate) fn new(
        request: &Request,
        dockerfile: &Dockerfile,
        source: &Source<'_>,
    ) -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        let platform = Platform::host();
        let variant = platform.variant.clone().unwrap_or_default();
        let mut name = format!("{}/{}", platform.os, platform.architecture);
        if !variant.is_empty() {
            name = format!("{name}/{variant}");
        }
        for side in ["BUILD", "TARGET"] {
            for (key, value) in [
                ("PLATFORM", name.as_str()),
                ("OS", &platform.os),
                ("OSVERSION", ""),
                ("ARCH", &platform.architecture),
                ("VARIANT", &variant),
            ] {
                values.insert(format!("{side}{key}"), value.to_owned());
            }
        }
        let target = request.target().unwrap_or("default");
        values.insert("TARGETSTAGE".to_owned(), target.to_owned());
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
