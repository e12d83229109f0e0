//! How much disk a container's own files take.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Bytes allocated below `dir` as `du` counts them, hard links counted once per name.
///
/// Never follows a symlink and never crosses into another file system; what vanishes or cannot be read counts nothing,
/// because a running container changes under the walk.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    let Ok(root) = std::fs::symlink_metadata(dir) else {
        return 0;
    };
    let mut total = 0;
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != root.dev() {
                continue;
            }
            total += metadata.blocks() * 512;
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    total
}
