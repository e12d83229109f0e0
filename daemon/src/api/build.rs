//! `POST /cooper/build`: this engine's own build request, and its answer.
//!
//! The body is `u32 length | JSON | parts`: a big-endian length and a [`BuildCall`] as JSON; then, for each of
//! [`BuildCall::parts`] in order, the files of a directory as a tar, plain or compressed, in chunks `u32 length | bytes` of
//! which an empty one is the last. Nothing follows.
//!
//! Directories in the request (contexts, OCI layouts) are relative paths when they are parts, named as in
//! [`BuildCall::parts`]; absolute ones are directories of the engine's host, which only clients that see the engine's
//! files may name ([`BuildDoor::shares_files`]).
//!
//! The answer is one [`BuildLine`] per line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooper_builder::build::{Event, Request};
use cooper_builder::call::{Call, Report};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// [`BuildDoor::version`] of this engine.
pub const BUILD_VERSION: u32 = 1;
/// Longest JSON of a [`BuildCall`], in bytes.
pub const MAX_BUILD_CALL: usize = 32 << 20;
/// Longest chunk of a part, in bytes.
pub const MAX_BUILD_CHUNK: usize = 4 << 20;
/// Name of the main context among the parts.
pub const CONTEXT_PART: &str = "context";
/// Longest value of a secret, in bytes (BuildKit's limit).
pub const MAX_SECRET: usize = 500 * 1024;

/// `GET /cooper/build`: what this door can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildDoor {
    /// [`BUILD_VERSION`] of the engine.
    pub version: u32,
    /// The engine sees the client's files under the same names and with the same rights, so that contexts are named, not
    /// sent.
    pub shares_files: bool,
}

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildCall {
    /// The build. [`Request::dockerfile`] and [`Request::ignore`] are left out: see below.
    pub request: Request,
    /// Takes the place of [`Request::dockerfile`].
    pub dockerfile: Option<Bytes>,
    /// Where the engine is to fetch the Dockerfile, `http` or `https`.
    pub dockerfile_url: Option<String>,
    /// Takes the place of [`Request::ignore`].
    pub ignore: Option<Bytes>,
    /// Asks this about the Dockerfile instead of building it.
    pub call: Option<Call>,
    /// Directories that come with this request: `context`, and `named/0`, `named/1` and so on.
    pub parts: Vec<String>,
    /// Values of `--secret`, by id.
    pub secrets: BTreeMap<String, Bytes>,
    /// Sockets of ssh agents on the engine's host, by id.
    pub ssh: BTreeMap<String, PathBuf>,
}

/// Bytes in base64. Wiped when they are dropped, and never shown: they may be a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(&*self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        match STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => Ok(bytes.into()),
            // The decoder's own message would show a byte of it.
            Err(_) => Err(serde::de::Error::custom("invalid base64")),
        }
    }
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildLine {
    /// Progress.
    Event(Event),
    /// The end of a build that succeeded.
    Result(BuildResult),
    /// The answer to [`BuildCall::call`]; the end.
    Report(Report),
    /// The end of one that did not.
    Error(BuildFailure),
}

/// What was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildResult {
    /// One for each target of the request, in its order.
    pub images: Vec<ImageResult>,
    /// Number of steps.
    pub steps: usize,
    /// Number of those whose result came from the cache.
    pub cached: usize,
}

/// One of the images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageResult {
    /// Its id.
    pub id: String,
    /// Its names in canonical form.
    pub names: Vec<String>,
}

/// Why there is no image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildFailure {
    /// For people: may have an excerpt of the Dockerfile and the last lines of a step.
    pub message: String,
    /// Exit code of the RUN that failed.
    pub code: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_survive_the_wire() {
        let call = BuildCall {
            dockerfile: Some(b"FROM x\n".to_vec().into()),
            call: Some(Call::Describe),
            parts: vec![CONTEXT_PART.to_owned()],
            secrets: BTreeMap::from([("s".to_owned(), vec![0, 255, 7].into())]),
            ..BuildCall::default()
        };
        let text = serde_json::to_string(&call).unwrap();
        assert_eq!(serde_json::from_str::<BuildCall>(&text).unwrap(), call);
        assert_eq!(
            serde_json::from_str::<BuildCall>("{}").unwrap(),
            BuildCall::default()
        );
        for report in [
            Report::Check(Default::default()),
            Report::Outline(Default::default()),
            Report::Targets(Default::default()),
            Report::Describe(Default::default()),
        ] {
            let line = BuildLine::Report(report);
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<BuildLine>(&text).unwrap(), line);
        }
        let shown = format!("{call:?}");
        assert!(
            shown.contains("Bytes(3 bytes)") && !shown.contains("255"),
            "{shown}"
        );
        let wrong = serde_json::from_str::<BuildCall>(r#"{"secrets": {"a": "hunter2!"}}"#).unwrap_err();
        assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
    }
}
