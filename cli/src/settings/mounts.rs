//! `--volume`, `--mount` and `--tmpfs`.

use std::collections::BTreeMap;
use std::path::Path;

use cooper_daemon::api::{BindOptions, Mount, TmpfsOptions};

use super::values;

/// What `--volume` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// `SOURCE:TARGET[:OPTIONS]`, for `HostConfig.Binds`; a relative SOURCE was made absolute.
    Bind(String),
    /// `TARGET` alone, for `Config.Volumes`.
    Anonymous(String),
}

/// Understands `--volume`; relative sources (`.`, `./x`, `../x`) are taken from `directory`, as docker does.
pub(crate) fn volume(text: &str, directory: &Path) -> Result<Volume, String> {
    let wrong = |why: &str| format!("invalid volume `{text}`: {why}");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => {
            return if target.starts_with('/') {
                Ok(Volume::Anonymous(target.to_owned()))
            } else {
                Err(wrong("the target must be an absolute path"))
            };
        }
        [source, target] => (source, target, None),
        [source, target, options] => (source, target, Some(options)),
        _ => return Err(wrong("expected SOURCE:TARGET[:OPTIONS]")),
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(wrong("expected SOURCE:TARGET[:OPTIONS] with an absolute TARGET"));
    }
    for option in options.iter().flat_map(|options| options.split(',')) {
        if !matches!(
            option,
            "ro" | "rw"
                | "z"
                | "Z"
                | "nocopy"
                | "private"
                | "rprivate"
                | "shared"
                | "rshared"
                | "slave"
                | "rslave"
                | "cached"
                | "delegated"
                | "consistent"
        ) {
            return Err(wrong(&format!("unknown option `{option}`")));
        }
    }
    let source = if source.starts_with('.') {
        normalise(&directory.join(source))
    } else {
        source.to_owned()
    };
    Ok(Volume::Bind(match options {
        Some(options) => format!("{source}:{target}:{options}"),
        None => format!("{source}:{target}"),
    }))
}

/// Removes `.` and `..` by text, as Go's `filepath.Abs`.
fn normalise(path: &Path) -> String {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => parts.push(name),
            std::path::Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    let parts: Vec<_> = parts.iter().map(|part| part.to_string_lossy()).collect();
    format!("/{}", parts.join("/"))
}

/// Understands `--mount type=bind,source=/a,target=/b,readonly`.
pub(crate) fn mount(text: &str, directory: &Path) -> Result<Mount, String> {
    let wrong = |why: &str| format!("invalid mount `{text}`: {why}");
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    let mut bind = BindOptions::default();
    let mut tmpfs = TmpfsOptions::default();
    for field in text.split(',') {
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (field, None),
        };
        let name = name.trim().to_ascii_lowercase();
        let flag = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(wrong(&format!("invalid value for {name}: `{other}`"))),
        };
        match (name.as_str(), value) {
            ("readonly" | "ro", _) => mount.read_only = flag()?,
            ("bind-nonrecursive", _) => bind.non_recursive = flag()?,
            ("bind-create-src", _) => bind.create_mountpoint = flag()?,
            ("type", Some(value)) => mount.kind = value.to_ascii_lowercase(),
            ("source" | "src", Some(value)) => value.clone_into(&mut mount.source),
            ("target" | "dst" | "destination", Some(value)) => value.clone_into(&mut mount.target),
            ("bind-propagation", Some(value)) => value.clone_into(&mut bind.propagation),
            ("tmpfs-size", Some(value)) => {
                tmpfs.size_bytes = values::bytes(value).map_err(|error| wrong(&error))?;
            }
            ("tmpfs-mode", Some(value)) => {
                tmpfs.mode = u32::from_str_radix(value, 8).map_err(|_| wrong("tmpfs-mode is not octal"))?;
            }
            (_, None) => return Err(wrong(&format!("`{field}` needs a value"))),
            _ => return Err(wrong(&format!("unknown key `{name}`"))),
        }
    }
    if mount.target.is_empty() {
        return Err(wrong("target is required"));
    }
    match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(wrong("source is required"));
            }
            if mount.source.starts_with('.') {
                mount.source = normalise(&directory.join(&mount.source));
            }
            if bind != BindOptions::default() {
                mount.bind_options = Some(bind);
            }
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(wrong("a tmpfs has no source"));
            }
            if tmpfs != TmpfsOptions::default() {
                mount.tmpfs_options = Some(tmpfs);
            }
        }
        "volume" => {
            return Err(wrong(
                "type=bind or type=tmpfs is required, volumes are not available yet",
            ));
        }
        other => return Err(wrong(&format!("unknown type `{other}`"))),
    }
    Ok(mount)
}

/// Understands `--tmpfs TARGET[:OPTIONS]`.
pub(crate) fn tmpfs(entries: &[String]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|entry| {
            let (target, options) = entry.split_once(':').unwrap_or((entry, ""));
            (target.to_owned(), options.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let check = |text: &str, expected: Option<Volume>| {
            assert_eq!(volume(text, Path::new("/here/now")).ok(), expected, "{text}");
        };
        let bind = |text: &str| Some(Volume::Bind(text.to_owned()));
        check("/a:/b", bind("/a:/b"));
        check("/a:/b:ro", bind("/a:/b:ro"));
        check("./x/../y:/b", bind("/here/now/y:/b"));
        check(".:/b:ro,z", bind("/here/now:/b:ro,z"));
        check("../../..:/b", bind("/:/b"));
        check("data:/b", bind("data:/b"));
        check("/b", Some(Volume::Anonymous("/b".to_owned())));
        check("b", None);
        check("/a:b", None);
        check("/a:/b:nope", None);
        check("/a:/b:ro:x", None);
    }

    #[test]
    fn mounts() {
        let check = |text: &str, expected: Result<&str, &str>| match (mount(text, Path::new("/w")), expected)
        {
            (Ok(mount), Ok(json)) => assert_eq!(serde_json::to_string(&mount).unwrap(), json, "{text}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check(
            "type=bind,src=./a,dst=/b,readonly",
            Ok("{\"Type\":\"bind\",\"Source\":\"/w/a\",\"Target\":\"/b\",\"ReadOnly\":true}"),
        );
        check(
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777",
            Ok(
                "{\"Type\":\"tmpfs\",\"Target\":\"/t\",\"TmpfsOptions\":{\"SizeBytes\":1048576,\"Mode\":1023}}",
            ),
        );
        check("type=bind,target=/b", Err("source is required"));
        check("type=bind,source=/a", Err("target is required"));
        check("source=/a,target=/b", Err("not available yet"));
        check("type=bind,source=/a,target=/b,colour=red", Err("unknown key"));
        check(
            "type=bind,source=/a,target=/b,readonly=maybe",
            Err("invalid value"),
        );
    }
}
