//! `--cache-from` and `--cache-to`.

use std::path::PathBuf;

use cooper_daemon::build::{CacheExport, CacheImport, CacheLocation, CacheMode, Compression, ImageRef};

use super::compression;
use super::csv::{boolean, fields, pairs, required, unknown};

const TYPES: [&str; 3] = ["registry", "local", "inline"];
const KEYS: [&str; 13] = [
    "type",
    "ref",
    "src",
    "dest",
    "tag",
    "mode",
    "mounts",
    "compression",
    "compression-level",
    "force-compression",
    "ignore-error",
    "image-manifest",
    "oci-mediatypes",
];

/// `--cache-from`: names of images, or `type=registry,ref=NAME`, `type=local,src=DIR[,tag=TAG]`.
pub(crate) fn imports(flags: &[String]) -> Result<Vec<CacheImport>, String> {
    let mut all = Vec::new();
    for flag in flags {
        if let Some(names) = bare(flag)? {
            for name in names {
                let location = CacheLocation::Registry(reference("cache-from", &name)?);
                all.push(CacheImport { location });
            }
            continue;
        }
        let export = parse("cache-from", flag)?;
        if export.location == CacheLocation::Inline {
            return Err(
                "invalid --cache-from: an inline cache is read with type=registry and the image's name"
                    .to_owned(),
            );
        }
        all.push(CacheImport {
            location: export.location,
        });
    }
    Ok(all)
}

/// `--cache-to`: a name, or `type=registry,ref=NAME`, `type=local,dest=DIR[,tag=TAG]`, `type=inline`, with
/// `mode=min|max`, `mounts=true`, `compression=…` and `ignore-error=true`.
pub(crate) fn exports(flags: &[String]) -> Result<Vec<CacheExport>, String> {
    let mut all = Vec::new();
    for flag in flags {
        match bare(flag)? {
            Some(names) => {
                for name in names {
                    all.push(plain(CacheLocation::Registry(reference("cache-to", &name)?)));
                }
            }
            None => all.push(parse("cache-to", flag)?),
        }
    }
    Ok(all)
}

/// Names alone, as docker takes them.
fn bare(flag: &str) -> Result<Option<Vec<String>>, String> {
    let fields = fields(flag)?;
    Ok((!fields.iter().any(|field| field.contains('='))).then_some(fields))
}

fn plain(location: CacheLocation) -> CacheExport {
    CacheExport {
        location,
        mode: CacheMode::default(),
        mounts: false,
        compression: Compression::default(),
        ignore_error: false,
    }
}

fn parse(flag: &str, text: &str) -> Result<CacheExport, String> {
    let (mut kind, mut name, mut dir, mut tag) = (None, None, None, None);
    let (mut format, mut level, mut force) = (None, None, false);
    let mut export = plain(CacheLocation::Inline);
    for (key, value) in pairs(text)? {
        match key.as_str() {
            "type" => kind = Some(required(flag, "type", value)?),
            "ref" => name = Some(required(flag, "ref", value)?),
            "src" | "dest" => dir = Some(required(flag, &key, value)?),
            "tag" => tag = Some(required(flag, "tag", value)?),
            "mode" => {
                export.mode = match value.as_deref() {
                    Some("min") => CacheMode::Min,
                    Some("max") => CacheMode::Max,
                    other => return Err(unknown(flag, "mode", other.unwrap_or_default(), &["min", "max"])),
                }
            }
            "mounts" => export.mounts = boolean(flag, &key, value.as_deref())?,
            "ignore-error" => export.ignore_error = boolean(flag, &key, value.as_deref())?,
            "compression" => format = Some(required(flag, &key, value)?),
            "compression-level" => level = Some(required(flag, &key, value)?),
            "force-compression" => force = boolean(flag, &key, value.as_deref())?,
            // What BuildKit can be told to do otherwise is all that is done here.
            "image-manifest" | "oci-mediatypes" => {
                if !boolean(flag, &key, value.as_deref())? {
                    return Err(format!("invalid --{flag}: {key}=false is not available"));
                }
            }
            other => return Err(unknown(flag, "key", other, &KEYS)),
        }
    }
    if let Some(compression) = compression(format.as_deref(), level.as_deref(), force)? {
        export.compression = compression;
    }
    export.location = match kind.as_deref().unwrap_or("registry") {
        "registry" => match name {
            Some(name) => CacheLocation::Registry(reference(flag, &name)?),
            None => return Err(format!("invalid --{flag}: type=registry needs ref=NAME")),
        },
        "local" => {
            let key = if flag == "cache-from" { "src" } else { "dest" };
            let path = dir.ok_or_else(|| format!("invalid --{flag}: type=local needs {key}=DIR"))?;
            CacheLocation::Local {
                path: PathBuf::from(path),
                tag,
            }
        }
        "inline" => CacheLocation::Inline,
        kind @ ("gha" | "s3" | "azblob") => {
            return Err(format!(
                "invalid --{flag}: type={kind} is not available: use registry, local or inline"
            ));
        }
        other => return Err(unknown(flag, "type", other, &TYPES)),
    };
    Ok(export)
}

fn reference(flag: &str, name: &str) -> Result<ImageRef, String> {
    super::target::image(name).map_err(|error| format!("invalid --{flag} `{name}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let check = |flag: &str, text: &str, expected: Option<&str>| {
            let text = [text.to_owned()];
            let got = if flag == "from" {
                imports(&text).map(|all| all.into_iter().map(|import| import.location).collect::<Vec<_>>())
            } else {
                exports(&text).map(|all| all.into_iter().map(|export| export.location).collect())
            };
            let show = |location: &CacheLocation| match location {
                CacheLocation::Registry(name) => name.to_string(),
                CacheLocation::Local { path, tag } => format!("{} {tag:?}", path.display()),
                CacheLocation::Inline => "inline".to_owned(),
            };
            let got = got
                .ok()
                .map(|all| all.iter().map(show).collect::<Vec<_>>().join(";"));
            assert_eq!(got.as_deref(), expected, "{flag} {text:?}");
        };
        check("from", "a", Some("docker.io/library/a:latest"));
        check(
            "from",
            "a,b:2",
            Some("docker.io/library/a:latest;docker.io/library/b:2"),
        );
        check("from", "type=registry,ref=r.example/a:b", Some("r.example/a:b"));
        check("from", "ref=a", Some("docker.io/library/a:latest"));
        check("from", "type=local,src=/d,tag=t", Some("/d Some(\"t\")"));
        check("to", "type=local,dest=d", Some("d None"));
        check("to", "type=inline", Some("inline"));
        check("from", "type=inline", None);
        check("from", "type=registry", None);
        check("to", "type=local", None);
        check("to", "type=gha", None);
        check("to", "type=inlin", None);
        check("to", "type=registry,ref=a,image-manifest=false", None);
    }

    #[test]
    fn options() {
        let text =
            "type=registry,ref=a,mode=max,mounts=true,compression=zstd,compression-level=3,ignore-error=true";
        let export = &exports(&[text.to_owned()]).unwrap()[0];
        assert_eq!(
            (export.mode, export.mounts, export.ignore_error),
            (CacheMode::Max, true, true)
        );
        assert_eq!(export.compression.level, Some(3));
        let wrong = exports(&["type=registry,ref=a,mode=mx".to_owned()]).unwrap_err();
        assert!(wrong.contains("did you mean `max`"), "{wrong}");
    }
}
