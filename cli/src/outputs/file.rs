//! A file that is there whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Written beside its final name; goes away unless it is kept.
#[derive(Debug)]
pub(super) struct NewFile {
    file: File,
    /// None for what is no regular file: devices and pipes are written as they are.
    partial: Option<PathBuf>,
    path: PathBuf,
}

impl NewFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let regular = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(io::Error::other("it is a directory"));
            }
            Ok(metadata) => metadata.is_file(),
            Err(_) => true,
        };
        let partial = regular.then(|| {
            let mut name = std::ffi::OsString::from(".");
            name.push(path.file_name().unwrap_or_default());
            name.push(format!(".{}.partial", std::process::id()));
            path.with_file_name(name)
        });
        Ok(Self {
            file: File::create(partial.as_deref().unwrap_or(path))?,
            partial,
            path: path.to_owned(),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives the file its name.
    pub(super) fn keep(mut self) -> io::Result<()> {
        self.file.flush()?;
        match self.partial.take() {
            Some(partial) => std::fs::rename(partial, &self.path),
            None => Ok(()),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // It may be gone.
            let _ = std::fs::remove_file(partial);
        }
    }
}
