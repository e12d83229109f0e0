//! What a context argument and `--build-context NAME=VALUE` mean.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cooper_daemon::build::ImageRef;

use super::target::image;

/// What a named context stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Directory(PathBuf),
    Remote(String),
    Image(ImageRef),
    /// Directory of an OCI layout, with a tag or digest in it.
    OciLayout(PathBuf, Option<String>),
}

/// Whether a context is a git repository or an archive elsewhere, by moby's rules.
pub(crate) fn is_remote(text: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
        || is_scp(text)
}

/// `user@host:path`, git's short form of ssh.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else {
        return false;
    };
    let Some((host, path)) = rest.split_once(':') else {
        return false;
    };
    let word = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    word(user) && word(host) && path.split('#').next().is_some_and(|path| path.ends_with(".git"))
}

/// The named contexts; names are in lower case, as stages are.
pub(crate) fn named_contexts(flags: &[String]) -> Result<BTreeMap<String, Named>, String> {
    let mut all = BTreeMap::new();
    for flag in flags {
        let wrong = |why: &str| format!("invalid --build-context `{flag}`: {why}");
        let (name, value) = flag
            .split_once('=')
            .filter(|(name, value)| !name.trim().is_empty() && !value.is_empty())
            .ok_or_else(|| wrong("expected NAME=DIR, URL, docker-image://NAME or oci-layout://DIR"))?;
        let context = if let Some(name) = value.strip_prefix("docker-image://") {
            Named::Image(image(name).map_err(|error| wrong(&error))?)
        } else if let Some(layout) = value.strip_prefix("oci-layout://") {
            let (path, reference) = layout_reference(layout);
            if path.is_empty() {
                return Err(wrong("the directory is missing"));
            }
            Named::OciLayout(path.into(), reference.map(str::to_owned))
        } else if value.starts_with("target:") {
            return Err(wrong("target: is for bake files"));
        } else if is_remote(value) {
            Named::Remote(value.to_owned())
        } else {
            Named::Directory(value.into())
        };
        all.insert(name.trim().to_lowercase(), context);
    }
    Ok(all)
}

/// Splits `PATH[:TAG][@DIGEST]`; a digest wins over a tag.
fn layout_reference(text: &str) -> (&str, Option<&str>) {
    let (text, digest) = match text.rsplit_once('@') {
        Some((path, digest)) if digest.contains(':') => (path, Some(digest)),
        _ => (text, None),
    };
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, digest.or(Some(tag))),
        _ => (text, digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes() {
        for (text, expected) in [
            ("https://example.org/x.tar.gz", true),
            ("git://example.org/x", true),
            ("git@example.org:a/b.git#main:sub", true),
            ("me@host:repo.git", true),
            ("github.com/a/b", true),
            (".", false),
            ("dir/github.com/x", false),
            ("a@b", false),
            ("/abs", false),
        ] {
            assert_eq!(is_remote(text), expected, "{text}");
        }
    }

    #[test]
    fn named() {
        let check = |flag: &str, expected: Option<(&str, Named)>| {
            let got = named_contexts(&[flag.to_owned()]).ok();
            let expected = expected.map(|(name, context)| BTreeMap::from([(name.to_owned(), context)]));
            assert_eq!(got, expected, "{flag}");
        };
        let layout =
            |path: &str, reference: Option<&str>| Named::OciLayout(path.into(), reference.map(str::to_owned));
        check("A=dir", Some(("a", Named::Directory("dir".into()))));
        check(
            "a::linux/arm64=d=e",
            Some(("a::linux/arm64", Named::Directory("d=e".into()))),
        );
        check(
            "a=docker-image://b",
            Some(("a", Named::Image("docker.io/library/b:latest".parse().unwrap()))),
        );
        check("a=oci-layout://d", Some(("a", layout("d", None))));
        check("a=oci-layout:///d/e:t", Some(("a", layout("/d/e", Some("t")))));
        check(
            "a=oci-layout://d:t@sha256:ab",
            Some(("a", layout("d", Some("sha256:ab")))),
        );
        check(
            "a=https://x/y.git",
            Some(("a", Named::Remote("https://x/y.git".to_owned()))),
        );
        for wrong in [
            "a",
            "=d",
            "a=",
            "a=docker-image://B",
            "a=oci-layout://",
            "a=target:x",
        ] {
            check(wrong, None);
        }
    }
}
