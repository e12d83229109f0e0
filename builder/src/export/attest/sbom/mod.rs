//! What is in an image, as SPDX 2.3: the built-in scanner.
//!
//! It reads the databases of Debian's and Alpine's package managers and lock files of languages. What it sees and
//! cannot read (RPM's database) the document names. Everything comes from the image, so sizes and numbers are bounded,
//! and what cannot be parsed is left out with a note.

mod lock;
mod packages;
mod spdx;
mod walk;

use serde_json::Value;

use super::super::publish::{Finished, Publisher};
use super::stamp;
use crate::build::Error;
use crate::tree::mount_readonly;

pub(super) const PREDICATE: &str = "https://spdx.dev/Document";

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// The package URL without version and qualifiers: `deb/debian`, `cargo`.
    kind: String,
    name: String,
    version: String,
    /// Qualifiers of the package URL: `arch=amd64`.
    qualifiers: String,
    license: String,
    supplier: String,
    /// The file that told.
    found_in: String,
}

/// What a scan gave.
#[derive(Debug, Default)]
pub(super) struct Findings {
    packages: Vec<Package>,
    /// What was seen and not read.
    notes: Vec<String>,
}

/// Scans a finished root file system.
pub(super) fn scan(publisher: &Publisher<'_>, finished: &Finished, title: &str) -> Result<Value, Error> {
    let root = mount_readonly(&finished.lowers, publisher.empty)?;
    let mut findings = Findings::default();
    packages::scan(&root, &mut findings)?;
    walk::scan(&root, &mut findings)?;
    findings.packages.sort();
    findings.packages.dedup();
    findings.notes.sort();
    let created = stamp(publisher.request.source_date_epoch, jiff::Timestamp::now())?;
    spdx::document(title, &finished.config.rootfs.diff_ids, &findings, &created)
}
