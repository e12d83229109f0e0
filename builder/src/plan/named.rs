//! Named contexts (`--build-context`).

use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;

use super::step::BaseSource;
use crate::build::{NamedContext, Request};

/// What a name means when a named context has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replacement {
    /// An image.
    Image(BaseSource),
    /// Files: number of the context in [`Request::named_contexts`].
    Files(usize),
}

/// The named context that stands for a stage or image `name` on `platform`; one for this platform alone goes first.
///
/// As BuildKit (`dockerui.NamedContext`): `scratch` and `context` are never replaced; of an image the short form counts,
/// without the tag `latest`.
pub(super) fn replacement(request: &Request, name: &str, platform: &Platform) -> Option<Replacement> {
    if request.named_contexts.is_empty() || ["scratch", "context"].contains(&name.to_lowercase().as_str()) {
        return None;
    }
    let name = match name.parse::<ImageRef>() {
        Ok(image) => {
            let short = image.familiar();
            short.strip_suffix(":latest").unwrap_or(&short).to_owned()
        }
        Err(_) => name.to_lowercase(),
    };
    // Keys are compared in the same form, so that `alpine:latest` and `docker.io/library/alpine` replace `alpine`.
    let find = |wanted: Option<&Platform>| {
        request.named_contexts.iter().enumerate().find(|(_, (key, _))| {
            let (base, suffix) = match key.split_once("::") {
                Some((base, suffix)) => (base, Some(suffix)),
                None => (key.as_str(), None),
            };
            let same = match base.parse::<ImageRef>() {
                Ok(image) => {
                    let short = image.familiar();
                    short.strip_suffix(":latest").unwrap_or(&short) == name
                }
                Err(_) => base.to_lowercase() == name,
            };
            same && match (suffix, wanted) {
                (None, None) => true,
                (Some(suffix), Some(wanted)) => {
                    suffix.parse::<Platform>().is_ok_and(|found| found == *wanted)
                }
                _ => false,
            }
        })
    };
    let (number, (key, context)) = find(Some(&platform.normalized())).or_else(|| find(None))?;
    Some(match context {
        NamedContext::Directory(_) | NamedContext::Remote(_) => Replacement::Files(number),
        NamedContext::Image(image) => {
            let mut image = image.clone();
            image.tag = image.tag_or_latest();
            Replacement::Image(BaseSource::Named(image))
        }
        NamedContext::OciLayout { path, reference } => Replacement::Image(BaseSource::Layout {
            name: key.clone(),
            path: path.clone(),
            reference: reference.clone(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_replaced() {
        let directory = |path: &str| NamedContext::Directory(path.into());
        let request = Request {
            named_contexts: [
                ("alpine", "1"),
                ("debian:12", "2"),
                ("docker.io/library/busybox:latest", "3"),
                ("src", "4"),
                ("src::linux/aarch64", "5"),
                ("only::linux/arm64", "6"),
                ("scratch", "7"),
            ]
            .into_iter()
            .map(|(key, path)| (key.to_owned(), directory(path)))
            .collect(),
            ..Request::default()
        };
        for (name, platform, expected) in [
            ("alpine", "linux/amd64", Some("alpine")),
            ("ALPINE", "linux/amd64", Some("alpine")),
            ("alpine:latest", "linux/amd64", Some("alpine")),
            ("docker.io/library/alpine:latest", "linux/amd64", Some("alpine")),
            ("alpine:3", "linux/amd64", None),
            ("debian:12", "linux/amd64", Some("debian:12")),
            ("debian", "linux/amd64", None),
            ("busybox", "linux/amd64", Some("docker.io/library/busybox:latest")),
            ("src", "linux/amd64", Some("src")),
            ("src", "linux/arm64", Some("src::linux/aarch64")),
            ("only", "linux/amd64", None),
            ("only", "linux/arm64", Some("only::linux/arm64")),
            ("scratch", "linux/amd64", None),
        ] {
            let found = replacement(&request, name, &platform.parse().unwrap());
            let number = |key| {
                request
                    .named_contexts
                    .keys()
                    .position(|known| known == key)
                    .unwrap()
            };
            let expected = expected.map(|key| Replacement::Files(number(key)));
            assert_eq!(found, expected, "{name} {platform}");
        }
    }
}
