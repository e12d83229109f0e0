//! Rules of the house that no compiler checks: who may import whom, where `unsafe` may stand, how long files may be.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// What each crate may depend on within the workspace, outside of tests.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("cooper", &["cooper-daemon"]),
    (
        "cooper-daemon",
        &["cooper-builder", "cooper-registry", "cooper-runner"],
    ),
    ("cooper-builder", &["cooper-registry", "cooper-runner"]),
    ("cooper-registry", &[]),
    ("cooper-runner", &[]),
];
/// Crates that never see an async runtime.
const SYNCHRONOUS: [&str; 2] = ["cooper-builder", "cooper-runner"];
/// The only place of `unsafe`.
const UNSAFE_ROOM: &str = "runner/src/sys";
/// Longest file, not counting its tests.
const MAX_LINES: usize = 700;
/// Longer files, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .expect("cargo metadata works where cargo test does")
}

/// Every Rust file of the workspace with its path from the workspace's root and its text.
fn sources() -> Vec<(String, String)> {
    let root = PathBuf::from(metadata().workspace_root);
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = ["registry", "runner", "builder", "daemon", "cli"]
        .iter()
        .map(|room| root.join(room))
        .collect();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(
        found.len() > 50,
        "the sources were not found: {} files",
        found.len()
    );
    found
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let allowed: BTreeMap<_, BTreeSet<_>> = ALLOWED
        .iter()
        .map(|(name, others)| (*name, others.iter().copied().collect()))
        .collect();
    let members: BTreeSet<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(
        members,
        allowed.keys().copied().collect::<BTreeSet<_>>(),
        "the list of rooms has changed"
    );
    for package in &metadata.packages {
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
        {
            let name = dependency.name.as_str();
            assert!(
                !members.contains(name) || allowed[package.name.as_str()].contains(name),
                "{} must not depend on {name}",
                package.name
            );
        }
    }
}

#[test]
fn builder_and_runner_are_synchronous() {
    const ASYNC: [&str; 7] = [
        "tokio",
        "async-std",
        "smol",
        "futures-util",
        "hyper",
        "axum",
        "reqwest",
    ];
    for package in metadata()
        .packages
        .iter()
        .filter(|package| SYNCHRONOUS.contains(&package.name.as_str()))
    {
        for dependency in &package.dependencies {
            assert!(
                !ASYNC.contains(&dependency.name.as_str()),
                "{} uses {}",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn unsafe_stays_in_its_room() {
    // Put together here so that this file does not contain what it looks for.
    let word = ["un", "safe"].concat();
    let forms = [" {", " fn", " impl", " extern", " trait"].map(|next| format!("{word}{next}"));
    let attribute = format!("{word}_code");
    for (name, text) in sources() {
        if name.starts_with(UNSAFE_ROOM) {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let lowers_the_lint = code.contains(&attribute)
                && (code.contains("allow(") || code.contains("expect("))
                && name != "runner/src/lib.rs";
            assert!(
                !lowers_the_lint && !forms.iter().any(|form| code.contains(form.as_str())),
                "{name}:{}: {}",
                index + 1,
                line.trim()
            );
        }
    }
}

#[test]
fn files_stay_short() {
    for (name, text) in sources() {
        let length = text
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .count();
        if name.contains("/tests/") || LONG_FILES.iter().any(|(long, _)| *long == name) {
            continue;
        }
        assert!(
            length <= MAX_LINES,
            "{name} has {length} lines: split it, or list it in LONG_FILES with the reason"
        );
    }
}
