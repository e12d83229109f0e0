//! Lock files and installed packages of languages.

use serde_json::Value;

use super::Package;

/// Names of the files that [`read`] understands.
pub(super) fn is_known(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(
        name,
        "Cargo.lock" | "poetry.lock" | "uv.lock" | "package-lock.json" | ".package-lock.json"
    ) || is_python_metadata(path)
}

fn is_python_metadata(path: &str) -> bool {
    path.ends_with(".dist-info/METADATA") || path.ends_with(".egg-info/PKG-INFO")
}

/// Packages of one file; none if it cannot be parsed.
pub(super) fn read(path: &str, text: &str) -> Option<Vec<Package>> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let pairs = match name {
        "Cargo.lock" | "poetry.lock" | "uv.lock" => toml_packages(text),
        "package-lock.json" | ".package-lock.json" => npm(text)?,
        _ => python(text),
    };
    let kind = match name {
        "Cargo.lock" => "cargo",
        "package-lock.json" | ".package-lock.json" => "npm",
        _ => "pypi",
    };
    let package = |(name, version)| Package {
        kind: kind.to_owned(),
        name,
        version,
        qualifiers: String::new(),
        license: String::new(),
        supplier: String::new(),
        found_in: format!("/{path}"),
    };
    Some(pairs.into_iter().map(package).collect())
}

/// `name` and `version` of each `[[package]]`: tools write these files, one key a line.
fn toml_packages(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for table in text.split("[[package]]").skip(1) {
        // Sub-tables of the package have names of their own.
        let own = table.split("\n[").next().unwrap_or(table);
        let get = |key: &str| {
            let value = own
                .lines()
                .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='))?;
            Some(value.trim().trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version)) = (get("name "), get("version ")) {
            found.push((name, version));
        }
    }
    found
}

/// Versions 2 and 3 of npm's lock file: `packages` by path.
fn npm(text: &str) -> Option<Vec<(String, String)>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut found = Vec::new();
    for (path, package) in value.get("packages")?.as_object()? {
        let Some((_, name)) = path.rsplit_once("node_modules/") else {
            continue;
        };
        if let Some(version) = package.get("version").and_then(Value::as_str) {
            found.push((name.to_owned(), version.to_owned()));
        }
    }
    Some(found)
}

/// Core metadata: headers up to the first empty line.
fn python(text: &str) -> Vec<(String, String)> {
    let head = text.split("\n\n").next().unwrap_or(text);
    let get = |key: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|value| value.trim().to_owned())
    };
    get("Name:").zip(get("Version:")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        for (path, text, expected) in [
            (
                "app/Cargo.lock",
                "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"b\"\nversion = \"2.0.0\"\n",
                "cargo a 1.0.0, cargo b 2.0.0",
            ),
            (
                "poetry.lock",
                "[[package]]\nname = \"x\"\nversion = \"3\"\n\n[package.dependencies]\nname = \"no\"\n",
                "pypi x 3",
            ),
            (
                "package-lock.json",
                r#"{"packages":{"":{"version":"0"},"node_modules/@s/p":{"version":"1"},"node_modules/a/node_modules/b":{"version":"2"}}}"#,
                "npm @s/p 1, npm b 2",
            ),
            (
                "x/foo-1.dist-info/METADATA",
                "Metadata-Version: 2.1\nName: foo\nVersion: 1\n\nName: no\n",
                "pypi foo 1",
            ),
        ] {
            assert!(is_known(path), "{path}");
            let found = read(path, text).unwrap();
            let found: Vec<String> = found
                .iter()
                .map(|package| format!("{} {} {}", package.kind, package.name, package.version))
                .collect();
            assert_eq!(found.join(", "), expected, "{path}");
        }
        assert!(read("package-lock.json", "{").is_none());
        assert!(!is_known("a/METADATA") && !is_known("Cargo.toml"));
    }
}
