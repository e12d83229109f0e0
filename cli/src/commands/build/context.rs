//! Where the files and the Dockerfile of a build are.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::commands::create::usage;
use crate::failure::{Failure, Result};
use crate::settings::build::is_remote;

/// Longest Dockerfile read from stdin or from outside of the context.
const MAX_DOCKERFILE: u64 = 4 << 20;
/// Longest ignore file beside such a Dockerfile.
const MAX_IGNORE: u64 = 4 << 20;
/// A tar's block.
const BLOCK: usize = 512;

/// What COPY and ADD see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Files {
    None,
    /// Absolute, without links.
    Directory(PathBuf),
    /// An archive on stdin, of which these bytes were read.
    Archive(Vec<u8>),
    /// URL of a git repository or of an archive.
    Remote(String),
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dockerfile {
    /// Among the files.
    Inside,
    Content(Vec<u8>),
    /// For the engine to fetch.
    Url(String),
}

/// Context and Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) files: Files,
    pub(super) dockerfile: Dockerfile,
    /// Its path in the context, or what messages call it.
    pub(super) name: String,
    /// `NAME.dockerignore` beside a Dockerfile outside of the context.
    pub(super) ignore: Option<Vec<u8>>,
    /// A Dockerfile outside of the context, to watch.
    pub(super) outside: Option<PathBuf>,
}

impl Source {
    /// Understands the context argument and `--file`.
    pub(super) fn find(context: &Path, file: Option<&Path>, stdin: &mut dyn Read) -> Result<Self> {
        let dash = Path::new("-");
        if context == dash {
            return Self::from_stdin(file, stdin);
        }
        let files = if context.is_dir() {
            Files::Directory(
                context
                    .canonicalize()
                    .map_err(|error| unusable(context, &error))?,
            )
        } else {
            match context.to_str().filter(|text| is_remote(text)) {
                Some(url) => Files::Remote(url.to_owned()),
                None => {
                    let why = match std::fs::metadata(context) {
                        Ok(_) => "not a directory".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    return Err(Failure::new(format!("context {}: {why}", context.display())));
                }
            }
        };
        let with = |dockerfile, name: &str| Self {
            files: files.clone(),
            dockerfile,
            name: name.to_owned(),
            ignore: None,
            outside: None,
        };
        let Some(file) = file else {
            return Ok(with(Dockerfile::Inside, "Dockerfile"));
        };
        if file == dash {
            let content = read(stdin, MAX_DOCKERFILE).map_err(|error| unreadable(dash, &error))?;
            return Ok(with(Dockerfile::Content(content), "Dockerfile"));
        }
        let text = file
            .to_str()
            .ok_or_else(|| unreadable(file, &io::Error::other("its name is not UTF-8")))?;
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(with(Dockerfile::Url(text.to_owned()), text));
        }
        match &files {
            Files::Directory(directory) => match inside(directory, file)? {
                Some(name) => Ok(with(Dockerfile::Inside, &name)),
                None => Ok(Self {
                    ignore: beside(file)?,
                    outside: Some(file.to_owned()),
                    ..with(Dockerfile::Content(read_file(file, MAX_DOCKERFILE)?), text)
                }),
            },
            _ => Ok(with(Dockerfile::Inside, text)),
        }
    }

    /// An archive, or a Dockerfile alone.
    fn from_stdin(file: Option<&Path>, stdin: &mut dyn Read) -> Result<Self> {
        let dash = Path::new("-");
        if file == Some(dash) {
            return Err(usage(
                "stdin cannot be both the context and the Dockerfile".to_owned(),
            ));
        }
        let failed = |error: io::Error| Failure::new(format!("cannot read the context from stdin: {error}"));
        let mut head = read_up_to(stdin, BLOCK).map_err(failed)?;
        if is_archive(&head) {
            let name = file.map_or(Some("Dockerfile"), Path::to_str);
            return Ok(Self {
                files: Files::Archive(head),
                dockerfile: Dockerfile::Inside,
                name: name.unwrap_or("Dockerfile").to_owned(),
                ignore: None,
                outside: None,
            });
        }
        if let Some(file) = file {
            return Err(usage(format!(
                "stdin is a Dockerfile, not an archive: leave --file {} out",
                file.display()
            )));
        }
        let rest = read(stdin, MAX_DOCKERFILE).map_err(|error| unreadable(dash, &error))?;
        head.extend_from_slice(&rest);
        Ok(Self {
            files: Files::None,
            dockerfile: Dockerfile::Content(head),
            name: "Dockerfile".to_owned(),
            ignore: None,
            outside: None,
        })
    }
}

fn unusable(context: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("context {}: {error}", context.display()))
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot read the Dockerfile {}: {error}", file.display()))
}

/// The Dockerfile's path in the context, if it is there. The directory is resolved, the file itself is not: a link in the
/// context is the engine's to follow.
fn inside(directory: &Path, file: &Path) -> Result<Option<String>> {
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let missing = |error: io::Error| {
        let failure = unreadable(file, &error);
        let guess = directory.join(file);
        if guess.is_file() {
            let guess = guess.display();
            failure.hint(format!(
                "the path is not relative to the context: did you mean {guess}?"
            ))
        } else {
            failure
        }
    };
    let parent = parent.canonicalize().map_err(missing)?;
    let absolute = parent.join(file.file_name().unwrap_or_default());
    std::fs::symlink_metadata(&absolute).map_err(missing)?;
    let inside = absolute.strip_prefix(directory).ok().and_then(Path::to_str);
    Ok(inside.map(str::to_owned))
}

/// `FILE.dockerignore`.
fn beside(file: &Path) -> Result<Option<Vec<u8>>> {
    let mut name = file.as_os_str().to_owned();
    name.push(".dockerignore");
    let path = PathBuf::from(name);
    if path.exists() {
        read_file(&path, MAX_IGNORE).map(Some)
    } else {
        Ok(None)
    }
}

fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = std::fs::File::open(path).and_then(|mut file| read(&mut file, limit));
    read.map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}

/// Reads to the end, which must come within `limit` bytes.
fn read(source: &mut dyn Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    source.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::other(format!("longer than {limit} bytes")));
    }
    Ok(content)
}

fn read_up_to(source: &mut dyn Read, count: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    source.take(count as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether these are the first bytes of a tar, or of something compressed.
fn is_archive(head: &[u8]) -> bool {
    let compressed: [&[u8]; 4] = [
        &[0x1f, 0x8b],
        &[0x28, 0xb5, 0x2f, 0xfd],
        b"BZh",
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
    ];
    compressed.iter().any(|magic| head.starts_with(magic)) || is_tar(head)
}

/// Whether a block is a tar's header, by its check sum, or the first of an empty tar.
fn is_tar(block: &[u8]) -> bool {
    if block.len() < BLOCK {
        return false;
    }
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let field = std::str::from_utf8(&block[148..156]).unwrap_or_default();
    let Ok(expected) = u32::from_str_radix(field.trim_matches(['\0', ' ']), 8) else {
        return false;
    };
    let bytes = block.iter().enumerate();
    let sum: u32 = bytes
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    sum == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case<'a> {
        context: &'a str,
        file: Option<&'a str>,
        stdin: &'a [u8],
    }

    fn tar() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, "file", &b"hi"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn sources() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("context/sub")).unwrap();
        for file in ["context/Dockerfile", "context/sub/Other", "Outside"] {
            std::fs::write(at(file), "FROM scratch\n").unwrap();
        }
        std::fs::write(at("Outside.dockerignore"), "*\n").unwrap();
        let find = |case: Case<'_>| {
            let context = match case.context {
                "-" => "-".into(),
                url if is_remote(url) => url.into(),
                name => at(name),
            };
            let file = case.file.map(|file| match file {
                "-" | "sub/Other" => file.into(),
                url if is_remote(url) => url.into(),
                name => at(name),
            });
            Source::find(&context, file.as_deref(), &mut { case.stdin })
        };
        let check = |context, file, stdin: &[u8], expected: Option<&str>| {
            let got = find(Case { context, file, stdin }).ok().map(|source| {
                let files = match source.files {
                    Files::None => "none",
                    Files::Directory(_) => "directory",
                    Files::Archive(_) => "archive",
                    Files::Remote(_) => "remote",
                };
                let dockerfile = match source.dockerfile {
                    Dockerfile::Inside => "inside",
                    Dockerfile::Content(_) => "content",
                    Dockerfile::Url(_) => "url",
                };
                let name = source.name.rsplit('/').next().unwrap_or_default().to_owned();
                let ignore = if source.ignore.is_some() { " ignore" } else { "" };
                format!("{files} {dockerfile} {name}{ignore}")
            });
            assert_eq!(got.as_deref(), expected, "{context} {file:?}");
        };
        check("context", None, b"", Some("directory inside Dockerfile"));
        check(
            "context",
            Some("context/sub/Other"),
            b"",
            Some("directory inside Other"),
        );
        check(
            "context",
            Some("Outside"),
            b"",
            Some("directory content Outside ignore"),
        );
        check(
            "context",
            Some("-"),
            b"FROM x",
            Some("directory content Dockerfile"),
        );
        check("context", Some("https://e.org/D"), b"", Some("directory url D"));
        check("context", Some("missing"), b"", None);
        check("context", Some("sub/Other"), b"", None);
        check("Outside", None, b"", None);
        check("nowhere", None, b"", None);
        check("https://e.org/x.git", None, b"", Some("remote inside Dockerfile"));
        check(
            "https://e.org/x.git",
            Some("sub/Other"),
            b"",
            Some("remote inside Other"),
        );
        check("-", None, b"FROM x", Some("none content Dockerfile"));
        check("-", None, b"", Some("none content Dockerfile"));
        check("-", None, &tar(), Some("archive inside Dockerfile"));
        check("-", None, &[0; 1024], Some("archive inside Dockerfile"));
        check("-", None, &[0x1f, 0x8b, 8], Some("archive inside Dockerfile"));
        check("-", Some("sub/Other"), &tar(), Some("archive inside Other"));
        check("-", Some("sub/Other"), b"FROM x", None);
        check("-", Some("-"), b"FROM x", None);
        let hint = find(Case {
            context: "context",
            file: Some("sub/Other"),
            stdin: b"",
        })
        .unwrap_err();
        assert!(hint.to_string().contains("did you mean"), "{hint}");
    }
}
