//! Questions and answers, as they are serialised.

use serde::{Deserialize, Serialize};

/// A question about a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// What the build checks find.
    Check,
    /// What a target takes: arguments, secrets, keys, caches.
    Outline,
    /// Which targets there are.
    Targets,
    /// Which questions there are.
    Describe,
}

/// An answer. Which one it is tells from its fields when it is read, so an outline, which may have none of its own, is last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Report {
    /// To [`Call::Check`].
    Check(Violations),
    /// To [`Call::Targets`].
    Targets(Targets),
    /// To [`Call::Describe`].
    Describe(Methods),
    /// To [`Call::Outline`].
    Outline(Outline),
}

/// What the build checks found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Violations {
    /// In the order of the file.
    pub warnings: Vec<Violation>,
    /// The files that locations refer to.
    pub sources: Vec<SourceFile>,
    /// Why the file cannot be built at all.
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    pub build_error: Option<BuildError>,
    /// The same for people, with excerpts of the file.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub text: String,
}

/// One finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Name of the check.
    pub rule_name: String,
    /// What the check is about.
    pub description: String,
    /// Where that is explained.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub url: String,
    /// What was found.
    pub detail: String,
    /// Where.
    pub location: Location,
}

/// Why a file cannot be built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildError {
    /// All errors.
    pub message: String,
    /// Where the first one is.
    pub location: Location,
}

/// Places in one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Index of the file.
    #[serde(default)]
    pub source_index: usize,
    /// The lines.
    pub ranges: Vec<Range>,
}

/// Whole lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First.
    pub start: Position,
    /// Last.
    pub end: Position,
}

/// A line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// From 1.
    pub line: usize,
}

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name.
    pub filename: String,
    /// `Dockerfile`
    pub language: String,
    /// Its bytes, in base64.
    pub data: String,
}

/// What a target takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// The target's name, if it has one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub name: String,
    /// From the comment above FROM.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub description: String,
    /// Build arguments.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub args: Vec<Argument>,
    /// Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub secrets: Vec<Requirement>,
    /// SSH agents.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ssh: Vec<Requirement>,
    /// Cache mounts.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cache: Vec<CacheMount>,
    /// The files that locations refer to.
    pub sources: Vec<SourceFile>,
}

/// A build argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// From the comment above ARG.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub description: String,
    /// Given or default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// Its declaration.
    pub location: Location,
}

/// A secret or an SSH agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub required: bool,
    /// Its first use.
    pub location: Location,
}

/// A cache mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its first use.
    pub location: Location,
}

/// The targets of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// In the order of the file.
    pub targets: Vec<TargetInfo>,
    /// The files that locations refer to.
    pub sources: Vec<SourceFile>,
}

/// A target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// Its name; empty for a stage without one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub name: String,
    /// Whether it is built if none is named.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub default: bool,
    /// From the comment above FROM.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub description: String,
    /// What it is based on.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub base: String,
    /// `--platform` of FROM.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub platform: String,
    /// The FROM instruction.
    pub location: Location,
}

/// The questions that are understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Methods {
    /// In the order in which they are shown.
    pub requests: Vec<Method>,
}

/// A question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// `check`, as `--call` takes it.
    pub name: String,
    /// BuildKit's version of it.
    pub version: String,
    /// What it tells.
    pub description: String,
}
