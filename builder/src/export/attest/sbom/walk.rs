//! Looks through the whole tree for files of languages' package managers.

use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::packages::read;
use super::{Findings, lock};
use crate::build::{Error, IoContext as _};
use crate::tree::RootHandle;

/// Directories that are looked into; images with more are not looked through to the end.
const MAX_DIRECTORIES: usize = 500_000;
/// Deeper ones are left out.
const MAX_DEPTH: usize = 64;
/// Not part of the image's software.
const SKIPPED: [&str; 3] = ["proc", "sys", "dev"];

pub(super) fn scan(root: &RootHandle, findings: &mut Findings) -> Result<(), Error> {
    let mut pending = vec![PathBuf::new()];
    let mut seen = 0;
    while let Some(dir) = pending.pop() {
        seen += 1;
        if seen > MAX_DIRECTORIES {
            findings.notes.push(format!(
                "more than {MAX_DIRECTORIES} directories: not all were looked into"
            ));
            return Ok(());
        }
        for name in root.list(&dir).at(&dir)? {
            // What has no text for a name is no lock file.
            let Some(text) = name.to_str() else { continue };
            let path = dir.join(text);
            let Some(shown) = path.to_str() else { continue };
            let stat = match root.stat(&path) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno).at(&path),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if SKIPPED.contains(&shown) => {}
                FileType::Directory if path.components().count() < MAX_DEPTH => pending.push(path),
                FileType::RegularFile if lock::is_known(shown) => {
                    let Some(text) = read(root, shown, findings)? else {
                        continue;
                    };
                    match lock::read(shown, &text) {
                        Some(found) => findings.packages.extend(found),
                        None => findings.notes.push(format!("/{shown}: not understood")),
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}
