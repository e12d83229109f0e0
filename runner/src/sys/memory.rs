//! Giving memory back.

use std::fs::File;
use std::io::{BufRead as _, BufReader};

/// Returns free heap to the kernel and drops clean file pages of this process's mappings (program text, constants), so
/// that a long-lived idle process keeps only what it touches again.
pub fn release_memory() {
    // Line by line: the whole text would grow the heap that is about to shrink.
    let Ok(maps) = File::open("/proc/self/smaps") else {
        return;
    };
    let mut current: Option<(usize, usize)> = None;
    let mut droppable = Vec::with_capacity(32);
    for line in BufReader::with_capacity(4096, maps).lines() {
        let Ok(line) = line else { break };
        if let Some(range) = mapping(&line) {
            current = range;
        } else if line.starts_with("Anonymous:") && line.split_ascii_whitespace().nth(1) == Some("0") {
            droppable.extend(current.take());
        }
    }
    for &(start, end) in &droppable {
        // SAFETY: the range is a file mapping that is not writable and holds no anonymous (copied) page, so every
        // page that is dropped reads back the same bytes from the page cache.
        unsafe {
            libc::madvise(
                std::ptr::without_provenance_mut(start),
                end - start,
                libc::MADV_DONTNEED,
            )
        };
    }
    drop(droppable);
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim only returns unused memory of the allocator.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// For the header line of a mapping: its range if it maps a file without write permission. `None` for other lines.
fn mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    let (permissions, inode) = (fields.next()?, fields.nth(2)?);
    let read_only_file = !permissions.contains('w') && permissions.ends_with('p') && inode != "0";
    Some(read_only_file.then_some((start, end)))
}
