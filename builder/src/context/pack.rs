//! A context as a tar stream, for a daemon elsewhere.

use std::io::{self, Read as _, Write};
use std::path::Path;

use rustix::fs::FileType;
use tar::{Builder, EntryType, Header};

use super::source::{parse_ignore, read_ignore};
use crate::build::Error;
use crate::tree::{Entry, FileKind, Filter, RootHandle, select};

/// Writes the files of the context directory `dir` as a tar, as `docker build` sends it to `POST /build`.
///
/// Files that the ignore file names are left out, but the Dockerfile (`dockerfile`, a path below `dir`; none when it comes
/// from elsewhere) and the ignore files always come along, since the daemon needs them. `ignore` is the text of an ignore
/// file that takes the place of those in `dir`. Entries are sorted, owned by root and named without a leading `./`;
/// sockets are left out. Nothing outside of `dir` is read: links are sent as links.
///
/// # Errors
/// Files that cannot be read, a malformed ignore file, or a failing `out`.
pub fn tar_directory(
    dir: &Path,
    dockerfile: Option<&Path>,
    ignore: Option<&[u8]>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let root = RootHandle::open_host(dir)?;
    let dockerfile = dockerfile.map(Path::to_string_lossy);
    let ignore = match ignore {
        Some(text) => parse_ignore(".dockerignore".to_owned(), text)?,
        None => read_ignore(&root, dockerfile.as_deref())?,
    };
    let mut files: Vec<Entry> = Vec::new();
    for selection in select(
        &root,
        "/",
        Filter {
            ignore: ignore.as_ref(),
            ..Filter::default()
        },
    )? {
        files.extend(selection.entries);
    }
    let beside = dockerfile.iter().map(|name| format!("{name}.dockerignore"));
    let needed = beside
        .chain(dockerfile.iter().map(ToString::to_string))
        .chain([".dockerignore".to_owned()]);
    for name in needed {
        let path = Path::new(name.trim_start_matches("./"));
        if !files.iter().any(|entry| entry.real == path)
            && let Ok(entry) = Entry::read(&root, path.to_owned(), path.to_owned())
        {
            files.push(entry);
        }
    }
    files.sort_by(|a, b| a.real.cmp(&b.real));
    let mut tar = Builder::new(out);
    for entry in &files {
        if !entry.real.as_os_str().is_empty() && entry.kind != FileKind::Socket {
            append(&mut tar, &root, entry).map_err(|error| Error::io(&entry.real, &error))?;
        }
    }
    let out = tar.into_inner().map_err(|error| Error::io(dir, &error))?;
    out.flush().map_err(|error| Error::io(dir, &error))
}

fn append(tar: &mut Builder<&mut dyn Write>, root: &RootHandle, entry: &Entry) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode());
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(entry.stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    match &entry.kind {
        FileKind::Regular => {
            let file = root.open_file(&entry.real)?;
            // A file that shrinks meanwhile would break the stream, so its end is filled up.
            let size = u64::try_from(entry.stat.st_size).unwrap_or(0);
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            return tar.append_data(&mut header, &entry.real, file.chain(io::repeat(0)).take(size));
        }
        FileKind::Directory => header.set_entry_type(EntryType::Directory),
        FileKind::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            return tar.append_link(&mut header, &entry.real, target);
        }
        FileKind::Fifo => header.set_entry_type(EntryType::Fifo),
        FileKind::Device(kind, number) => {
            let block = *kind == FileType::BlockDevice;
            header.set_entry_type(if block { EntryType::Block } else { EntryType::Char });
            header.set_device_major(rustix::fs::major(*number))?;
            header.set_device_minor(rustix::fs::minor(*number))?;
        }
        FileKind::Socket => return Ok(()),
    }
    tar.append_data(&mut header, &entry.real, io::empty())
}
