//! Image references with Docker's normalisation (distribution/reference grammar).
//!
//! `busybox` means `docker.io/library/busybox:latest`; the *familiar* form is what people type and read. A repository
//! of the built-in registry and an image name are the same thing: `/v2/demo/…` is the repository
//! `docker.io/library/demo`, which `cooper build -t demo` fills.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The registry that a name without a domain belongs to.
pub const DEFAULT_DOMAIN: &str = "docker.io";

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("invalid reference format: empty")]
    Empty,
    /// The text does not match the reference grammar; `reason` says which part.
    #[error("invalid reference format: {text:?}: {reason}")]
    Format {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Upper-case letters in the repository name.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
}

/// A normalised repository name: domain plus path, e.g. `docker.io/library/busybox`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName {
    domain: String,
    path: String,
}

/// A tag, `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Tag(String);

/// A repository with at most one tag and at most one digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// The repository.
    pub repo: RepoName,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest, if one was written.
    pub digest: Option<Digest>,
}

impl Tag {
    /// `latest`.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bytes = text.as_bytes();
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let valid = !bytes.is_empty()
            && bytes.len() <= 128
            && word(bytes[0])
            && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::Format {
                text: text.to_owned(),
                reason: "invalid tag",
            })
        }
    }
}

impl RepoName {
    /// The registry host with its port, `docker.io` by default.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path below the domain, `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The short form that Docker prints: `busybox`, `user/app`, `localhost:5000/app`.
    pub fn familiar(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.to_string();
        }
        self.path
            .strip_prefix("library/")
            .filter(|rest| !rest.contains('/'))
            .unwrap_or(&self.path)
            .to_owned()
    }
}

impl FromStr for RepoName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let fail = |reason| ReferenceError::Format {
            text: text.to_owned(),
            reason,
        };
        let (domain, rest) = match text.split_once('/') {
            Some((head, rest)) if is_domain(head) => (head, rest),
            _ => (DEFAULT_DOMAIN, text),
        };
        let domain = if domain == "index.docker.io" {
            DEFAULT_DOMAIN
        } else {
            domain
        };
        if !valid_domain(domain) {
            return Err(fail("invalid registry host"));
        }
        if rest.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(rest.to_owned()));
        }
        if !rest.split('/').all(valid_component) {
            return Err(fail("invalid repository name"));
        }
        let path = if domain == DEFAULT_DOMAIN && !rest.contains('/') {
            format!("library/{rest}")
        } else {
            rest.to_owned()
        };
        if domain.len() + 1 + path.len() > 255 {
            return Err(fail("repository name must not be more than 255 characters"));
        }
        Ok(Self {
            domain: domain.to_owned(),
            path,
        })
    }
}

/// Docker's rule: the first component is a host when it has a dot or a colon, is `localhost`, or has upper case.
fn is_domain(head: &str) -> bool {
    head.contains(['.', ':']) || head == "localhost" || head.bytes().any(|b| b.is_ascii_uppercase())
}

fn valid_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => {
                let hex = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
                if host.is_empty() || !host.bytes().all(hex) {
                    return false;
                }
                ("x", port.strip_prefix(':'))
            }
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn valid_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    bytes.chunk_by(|&a, &b| alnum(a) == alnum(b)).all(|run| {
        alnum(run[0]) || run == b"." || run == b"_" || run == b"__" || run.iter().all(|&b| b == b'-')
    })
}

impl ImageRef {
    /// The tag to use where Docker assumes `latest`: the written one, or `latest` when there is no digest either.
    pub fn tag_or_latest(&self) -> Option<Tag> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(Tag::latest()),
        }
    }

    /// The short form with tag and digest as written.
    pub fn familiar(&self) -> String {
        self.render(&self.repo.familiar())
    }

    fn render(&self, name: &str) -> String {
        let mut text = name.to_owned();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(&tag.0);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason| ReferenceError::Format {
            text: text.to_owned(),
            reason,
        };
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest.parse().map_err(|_| fail("invalid digest"))?)),
            None => (text, None),
        };
        let name_end = named.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match named[name_end..].find(':') {
            Some(colon) => {
                let at = name_end + colon;
                (
                    &named[..at],
                    Some(named[at + 1..].parse().map_err(|_| fail("invalid tag"))?),
                )
            }
            None => (named, None),
        };
        if digest.is_none()
            && name.len() == 64
            && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(fail("cannot be a 64-byte hexadecimal string"));
        }
        Ok(Self {
            repo: name.parse()?,
            tag,
            digest,
        })
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)
    }
}

impl fmt::Debug for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&self.repo.to_string()))
    }
}

impl Serialize for ImageRef {
    /// In canonical form.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (text, full form, familiar form); the full form is empty where the text is refused.
    #[test]
    fn normalisation() {
        let hex = "0".repeat(64);
        let digest = format!("sha256:{hex}");
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/library/a", "docker.io/library/a", "a"),
            ("localhost/a", "localhost/a", "localhost/a"),
            ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000/a:b"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("a__b/c---d/e.f", "docker.io/a__b/c---d/e.f", "a__b/c---d/e.f"),
            ("a/blobs/b", "docker.io/a/blobs/b", "a/blobs/b"),
            (
                &format!("a@{digest}"),
                &format!("docker.io/library/a@{digest}"),
                &format!("a@{digest}"),
            ),
            (
                &format!("a:t@{digest}"),
                &format!("docker.io/library/a:t@{digest}"),
                &format!("a:t@{digest}"),
            ),
            (&hex, "", ""),
            ("", "", ""),
            ("Upper", "", ""),
            ("a___b", "", ""),
            ("-a", "", ""),
            ("a/", "", ""),
            ("a//b", "", ""),
            ("../a", "", ""),
            ("a:", "", ""),
            ("a:-b", "", ""),
            ("a@sha256:00", "", ""),
            ("host:port/a", "", ""),
            (&format!("a/{}", "b".repeat(260)), "", ""),
        ] {
            let parsed = text.parse::<ImageRef>();
            let got = parsed.as_ref().map_or(String::new(), ToString::to_string);
            assert_eq!(got, full, "{text}");
            assert_eq!(
                parsed.map_or(String::new(), |reference| reference.familiar()),
                familiar,
                "{text}"
            );
        }
    }

    #[test]
    fn latest_only_without_digest() {
        let tag = |text: &str| {
            text.parse::<ImageRef>()
                .expect("valid")
                .tag_or_latest()
                .map(|tag| tag.to_string())
        };
        assert_eq!(tag("a").as_deref(), Some("latest"));
        assert_eq!(tag("a:b").as_deref(), Some("b"));
        assert_eq!(tag(&format!("a@sha256:{}", "0".repeat(64))), None);
    }
}
