//! Package managers of distributions.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Findings, Package};
use crate::build::{Error, IoContext as _};
use crate::tree::{RootHandle, resolve};

/// Largest database that is read; Debian's with ten thousand packages has about 15 MB.
const MAX_DATABASE: u64 = 64 << 20;
const MAX_FILES: usize = 20_000;

pub(super) fn scan(root: &RootHandle, findings: &mut Findings) -> Result<(), Error> {
    let release = Release::read(root)?;
    for path in ["var/lib/dpkg/status"] {
        if let Some(text) = read(root, path, findings)? {
            findings.packages.extend(dpkg(&text, path, &release));
        }
    }
    // Images without a package manager keep one file for each package.
    for name in names(root, "var/lib/dpkg/status.d")? {
        let path = format!("var/lib/dpkg/status.d/{name}");
        if !name.ends_with(".md5sums")
            && let Some(text) = read(root, &path, findings)?
        {
            findings.packages.extend(dpkg(&text, &path, &release));
        }
    }
    for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        if let Some(text) = read(root, path, findings)? {
            findings.packages.extend(apk(&text, path, &release));
            break;
        }
    }
    for dir in ["var/lib/rpm", "usr/lib/sysimage/rpm"] {
        for file in ["rpmdb.sqlite", "Packages.db", "Packages"] {
            let path = format!("{dir}/{file}");
            if is_file(root, &path)? {
                findings
                    .notes
                    .push(format!("/{path}: RPM packages are not listed"));
            }
        }
    }
    Ok(())
}

/// The distribution, from `os-release`.
#[derive(Debug, Default)]
struct Release {
    id: String,
    version: String,
}

impl Release {
    fn read(root: &RootHandle) -> Result<Self, Error> {
        let mut ignored = Findings::default();
        for path in ["etc/os-release", "usr/lib/os-release"] {
            let Some(text) = read(root, path, &mut ignored)? else {
                continue;
            };
            let value = |key: &str| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
                line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
            };
            return Ok(Self {
                id: value("ID"),
                version: value("VERSION_ID"),
            });
        }
        Ok(Self::default())
    }

    fn kind(&self, manager: &str, default: &str) -> String {
        let id = if self.id.is_empty() { default } else { &self.id };
        format!("{manager}/{id}")
    }

    fn qualifiers(&self, arch: &str) -> String {
        let mut list = Vec::new();
        if !arch.is_empty() {
            list.push(format!("arch={arch}"));
        }
        if !self.id.is_empty() {
            list.push(
                format!("distro={}-{}", self.id, self.version)
                    .trim_end_matches('-')
                    .to_owned(),
            );
        }
        list.join("&")
    }
}

/// Paragraphs of `Key: value` lines (deb822), of installed packages only.
fn dpkg(text: &str, path: &str, release: &Release) -> Vec<Package> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let fields: BTreeMap<&str, &str> = paragraph
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key, value.trim()))
            .collect();
        let get = |key: &str| fields.get(key).copied().unwrap_or_default();
        let removed = fields
            .get("Status")
            .is_some_and(|status| !status.ends_with(" installed"));
        if removed || get("Package").is_empty() || get("Version").is_empty() {
            continue;
        }
        found.push(Package {
            kind: release.kind("deb", "debian"),
            name: get("Package").to_owned(),
            version: get("Version").to_owned(),
            qualifiers: release.qualifiers(get("Architecture")),
            license: String::new(),
            supplier: get("Maintainer").to_owned(),
            found_in: format!("/{path}"),
        });
    }
    found
}

/// Paragraphs of `K:value` lines (apk's installed database).
fn apk(text: &str, path: &str, release: &Release) -> Vec<Package> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        // Fields of the package come before those of its files, which repeat.
        let get = |key: &str| {
            let line = paragraph
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        if get("P").is_empty() || get("V").is_empty() {
            continue;
        }
        found.push(Package {
            kind: release.kind("apk", "alpine"),
            name: get("P"),
            version: get("V"),
            qualifiers: release.qualifiers(&get("A")),
            license: get("L"),
            supplier: get("m"),
            found_in: format!("/{path}"),
        });
    }
    found
}

/// A file of the image, its links followed inside the image; none if there is no such file.
pub(super) fn read(root: &RootHandle, path: &str, findings: &mut Findings) -> Result<Option<String>, Error> {
    let Some(real) = real_file(root, path)? else {
        return Ok(None);
    };
    let file = root.open_file(&real).at(&real)?;
    let mut bytes = Vec::new();
    file.take(MAX_DATABASE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(&real, &error))?;
    if bytes.len() as u64 > MAX_DATABASE {
        findings
            .notes
            .push(format!("/{path}: longer than {MAX_DATABASE} bytes, not read"));
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn is_file(root: &RootHandle, path: &str) -> Result<bool, Error> {
    Ok(real_file(root, path)?.is_some())
}

fn real_file(root: &RootHandle, path: &str) -> Result<Option<std::path::PathBuf>, Error> {
    let found = match resolve(root, Path::new(path)) {
        Ok(found) => found,
        // An image may hold anything; what leads nowhere is not there.
        Err(Errno::LOOP | Errno::NOTDIR | Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno).at(path),
    };
    let regular = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(found.stat.is_some_and(regular).then_some(found.real))
}

fn names(root: &RootHandle, path: &str) -> Result<Vec<String>, Error> {
    match root.list(Path::new(path)) {
        Ok(names) => Ok(names
            .into_iter()
            .take(MAX_FILES)
            .filter_map(|name| name.into_string().ok())
            .collect()),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Vec::new()),
        Err(errno) => Err(errno).at(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases() {
        let release = Release {
            id: "debian".to_owned(),
            version: "12".to_owned(),
        };
        let text = "Package: bash\nStatus: install ok installed\nMaintainer: M <m@x>\nArchitecture: amd64\nVersion: 5.2-1\n\
            Description: shell\n more: text\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: static\nVersion: 2\n";
        let found = dpkg(text, "var/lib/dpkg/status", &release);
        let short = |found: &[Package]| {
            let list = found.iter().map(|package| {
                format!(
                    "{}/{}@{}?{}",
                    package.kind, package.name, package.version, package.qualifiers
                )
            });
            list.collect::<Vec<_>>()
        };
        assert_eq!(
            short(&found),
            [
                "deb/debian/bash@5.2-1?arch=amd64&distro=debian-12",
                "deb/debian/static@2?distro=debian-12"
            ]
        );
        assert_eq!(found[0].supplier, "M <m@x>");
        let text = "C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nm:N <n@x>\nF:lib\nR:x\n\nP:nothing\n";
        let found = apk(text, "lib/apk/db/installed", &Release::default());
        assert_eq!(short(&found), ["apk/alpine/musl@1.2.5-r0?arch=x86_64"]);
        assert_eq!(found[0].license, "MIT");
    }
}
