//! Parsing.

use std::path::PathBuf;

use cooper_daemon::export::{Annotation, AnnotationPlace, Compression, CompressionKind, Platform};

use crate::settings::build::fields;

/// What `type=` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    /// An image in the store, perhaps pushed; `registry` is this with `push=true`.
    Image,
    /// What `docker load` takes; without a destination the image simply stays in the store.
    Docker,
    /// An OCI layout.
    Oci,
    /// The root file system as a tar.
    Tar,
    /// The root file system as files.
    Local,
}

/// What `dest=` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// `-`
    Stdout,
    /// A file, or a directory for `local` and `tar=false`.
    Path(PathBuf),
}

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputSpec {
    pub(crate) kind: OutputKind,
    pub(crate) dest: Option<Destination>,
    /// `name=`, several separated by commas; none leaves those of `--tag`.
    pub(crate) names: Vec<String>,
    pub(crate) push: bool,
    pub(crate) push_by_digest: bool,
    pub(crate) compression: Option<Compression>,
    /// `oci-mediatypes=false`
    pub(crate) docker_types: bool,
    /// `tar=false`: an OCI layout as a directory.
    pub(crate) directory: bool,
    pub(crate) platform_split: Option<bool>,
    pub(crate) annotations: Vec<Annotation>,
}

impl OutputSpec {
    /// Reads what buildx reads (0.29, `util/buildflags/export.go`): comma-separated `key=value`, a directory alone, or `-`
    /// for a tar on stdout. A destination is needed where there can be no other meaning.
    ///
    /// # Errors
    /// What is wrong, as a fragment for people.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fields = fields(text)?;
        if let [only] = fields.as_slice()
            && *only == text
            && !text.starts_with("type=")
        {
            if text.is_empty() {
                return Err("an output cannot be empty".to_owned());
            }
            return Ok(match text {
                "-" => Self {
                    dest: Some(Destination::Stdout),
                    ..Self::new(OutputKind::Tar)
                },
                path => Self {
                    dest: Some(Destination::Path(path.into())),
                    ..Self::new(OutputKind::Local)
                },
            });
        }
        let mut pairs = Vec::new();
        for field in &fields {
            let pair = field.split_once('=');
            let (key, value) =
                pair.ok_or_else(|| format!("invalid output field {field:?}: expected key=value"))?;
            pairs.push((key.trim().to_ascii_lowercase(), value));
        }
        let kind = pairs.iter().rev().find(|(key, _)| key == "type");
        let kind = kind
            .ok_or_else(|| format!("output {text:?}: type is required"))?
            .1;
        let mut spec = match kind {
            "image" => Self::new(OutputKind::Image),
            "registry" => Self {
                push: true,
                ..Self::new(OutputKind::Image)
            },
            "docker" => Self::new(OutputKind::Docker),
            "oci" => Self::new(OutputKind::Oci),
            "tar" => Self::new(OutputKind::Tar),
            "local" => Self::new(OutputKind::Local),
            "cacheonly" => {
                return Err("output type cacheonly is not available: leave --tag out instead".to_owned());
            }
            other => {
                return Err(format!(
                    "unknown output type {other:?}: expected image, registry, docker, oci, tar or local"
                ));
            }
        };
        for (key, value) in &pairs {
            spec.set(key, value)?;
        }
        spec.check()?;
        Ok(spec)
    }

    fn new(kind: OutputKind) -> Self {
        Self {
            kind,
            dest: None,
            names: Vec::new(),
            push: false,
            push_by_digest: false,
            compression: None,
            docker_types: false,
            directory: false,
            platform_split: None,
            annotations: Vec::new(),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "type" => {}
            "dest" if value == "-" => self.dest = Some(Destination::Stdout),
            "dest" if value.is_empty() => return Err("dest= is empty".to_owned()),
            "dest" => self.dest = Some(Destination::Path(value.into())),
            "name" => {
                let names = value.split(',').filter(|name| !name.is_empty());
                self.names = names.map(str::to_owned).collect();
            }
            "push" => self.push = flag(key, value)?,
            "push-by-digest" => self.push_by_digest = flag(key, value)?,
            "compression" => {
                self.compression.get_or_insert_default().kind = match value {
                    "none" | "uncompressed" => CompressionKind::None,
                    "gzip" => CompressionKind::Gzip,
                    "zstd" => CompressionKind::Zstd,
                    other => {
                        return Err(format!(
                            "unsupported compression {other:?}: expected uncompressed, gzip or zstd"
                        ));
                    }
                }
            }
            "compression-level" => {
                let level = value
                    .parse()
                    .map_err(|_| format!("invalid compression-level {value:?}: expected a number"))?;
                self.compression.get_or_insert_default().level = Some(level);
            }
            "force-compression" => self.compression.get_or_insert_default().force = flag(key, value)?,
            "oci-mediatypes" => self.docker_types = !flag(key, value)?,
            "tar" => self.directory = !flag(key, value)?,
            "platform-split" => self.platform_split = Some(flag(key, value)?),
            "mode" if value == "copy" => {}
            "mode" => return Err(format!("mode={value} is not available: only mode=copy is")),
            // All of these are so anyway.
            "unpack" | "store" | "rewrite-timestamp" if flag(key, value)? => {}
            "registry.insecure" if !flag(key, value)? => {}
            "registry.insecure" => {
                return Err(
                    "registry.insecure is the engine's setting; loopback registries are always reached"
                        .to_owned(),
                );
            }
            "oci-artifact" if !flag(key, value)? => {}
            key if key.starts_with("annotation") => self.annotations.extend(annotations(key, value)?),
            _ => return Err(format!("output option {key}={value} is not supported")),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let to_path = matches!(self.dest, Some(Destination::Path(_)));
        match self.kind {
            OutputKind::Image if self.dest.is_some() => {
                Err("dest is for outputs that are files: type=image has none".to_owned())
            }
            OutputKind::Local if self.dest.is_none() => Err("dest is required for local output".to_owned()),
            OutputKind::Local if !to_path => Err("dest cannot be stdout for local output".to_owned()),
            _ if self.docker_types
                && self
                    .compression
                    .is_some_and(|wanted| wanted.kind == CompressionKind::Zstd) =>
            {
                Err("compression=zstd needs OCI media types: leave oci-mediatypes=false out".to_owned())
            }
            _ if self.directory && self.kind != OutputKind::Oci => {
                Err("tar=false is for type=oci: use type=local for files".to_owned())
            }
            _ if self.directory && !to_path => Err("dest is required for tar=false: a directory".to_owned()),
            kind if (self.push || self.push_by_digest) && kind != OutputKind::Image => {
                Err("push is for type=image".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether the result is sent to this process.
    pub(crate) fn is_received(&self) -> bool {
        match self.kind {
            OutputKind::Image => false,
            OutputKind::Docker => self.dest.is_some(),
            OutputKind::Oci | OutputKind::Tar | OutputKind::Local => true,
        }
    }

    /// Whether the result is sent to this process as `docker save` has it.
    pub(crate) fn is_docker_archive(&self) -> bool {
        self.kind == OutputKind::Docker && self.is_received()
    }

    /// Whether the image itself is asked for in another form, or elsewhere: options of the build, not of what is received.
    pub(crate) fn is_image_form(&self) -> bool {
        let form = self.push || self.push_by_digest || self.docker_types || self.compression.is_some();
        self.kind == OutputKind::Image && (form || !self.names.is_empty() || !self.annotations.is_empty())
    }

    /// Whether the result goes to stdout, which must not be a terminal then.
    pub(crate) fn is_stdout(&self) -> bool {
        self.is_received() && !matches!(self.dest, Some(Destination::Path(_)))
    }
}

/// Go's `strconv.ParseBool`.
fn flag(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid {key}={value}: expected true or false")),
    }
}

/// `annotation[-place][[platform]].<key>=<value>`, as BuildKit's exporters take it (`docs/annotations.md`).
fn annotations(option: &str, value: &str) -> Result<Vec<Annotation>, String> {
    let wrong =
        || format!("invalid annotation option {option:?}: expected annotation[-place][[platform]].key=value");
    let rest = option.strip_prefix("annotation").ok_or_else(wrong)?;
    let (place, key) = match rest.find(']').filter(|_| rest.contains('[')) {
        Some(end) => {
            let key = rest[end + 1..].strip_prefix('.').ok_or_else(wrong)?;
            (&rest[..=end], key)
        }
        None => rest.split_once('.').ok_or_else(wrong)?,
    };
    let (place, platform) = match place.split_once('[') {
        Some((place, platform)) => (place, Some(platform.strip_suffix(']').ok_or_else(wrong)?)),
        None => (place, None),
    };
    let place = match place {
        "" | "-manifest" => AnnotationPlace::Manifest,
        "-manifest-descriptor" => AnnotationPlace::ManifestDescriptor,
        "-index" => AnnotationPlace::Index,
        "-index-descriptor" => AnnotationPlace::IndexDescriptor,
        _ => return Err(wrong()),
    };
    if key.is_empty() {
        return Err(wrong());
    }
    let platform = platform.map(str::parse::<Platform>).transpose();
    let platform = platform.map_err(|error| error.to_string())?;
    Ok(vec![Annotation {
        place,
        platform,
        key: key.to_owned(),
        value: value.to_owned(),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Option<Destination> {
        Some(Destination::Path(path.into()))
    }

    #[test]
    fn what_buildx_takes() {
        let gzip9 = Compression {
            kind: CompressionKind::Gzip,
            level: Some(9),
            force: true,
        };
        for (text, expected) in [
            (
                "out",
                OutputSpec {
                    dest: path("out"),
                    ..OutputSpec::new(OutputKind::Local)
                },
            ),
            (
                "-",
                OutputSpec {
                    dest: Some(Destination::Stdout),
                    ..OutputSpec::new(OutputKind::Tar)
                },
            ),
            (
                "type=local,dest=a b",
                OutputSpec {
                    dest: path("a b"),
                    ..OutputSpec::new(OutputKind::Local)
                },
            ),
            ("type=docker", OutputSpec::new(OutputKind::Docker)),
            (
                "type=registry",
                OutputSpec {
                    push: true,
                    ..OutputSpec::new(OutputKind::Image)
                },
            ),
            (
                "type=image,\"name=a,b\",push=true,oci-mediatypes=false,compression=gzip,compression-level=9,force-compression=true",
                OutputSpec {
                    names: vec!["a".to_owned(), "b".to_owned()],
                    push: true,
                    docker_types: true,
                    compression: Some(gzip9),
                    ..OutputSpec::new(OutputKind::Image)
                },
            ),
            (
                "type=oci,tar=false,dest=dir",
                OutputSpec {
                    dest: path("dir"),
                    directory: true,
                    ..OutputSpec::new(OutputKind::Oci)
                },
            ),
            (
                "type=oci,dest=-,unpack=true,mode=copy",
                OutputSpec {
                    dest: Some(Destination::Stdout),
                    ..OutputSpec::new(OutputKind::Oci)
                },
            ),
        ] {
            assert_eq!(OutputSpec::parse(text).as_ref(), Ok(&expected), "{text}");
        }
        let spec =
            OutputSpec::parse("type=oci,annotation.a.b=1,annotation-index[linux/arm64/v8].c=2").unwrap();
        let shown: Vec<String> = spec
            .annotations
            .iter()
            .map(|a| format!("{:?} {} {} {}", a.place, a.platform.is_some(), a.key, a.value))
            .collect();
        assert_eq!(shown, ["Manifest false a.b 1", "Index true c 2"]);
    }

    #[test]
    fn what_is_refused() {
        for (text, expected) in [
            ("", "cannot be empty"),
            ("dest=x,name=a", "type is required"),
            ("type=zip", "unknown output type \"zip\""),
            ("type=local", "dest is required"),
            ("type=local,dest=-", "cannot be stdout"),
            ("type=image,dest=x", "dest is for outputs that are files"),
            ("type=oci,push=true", "push is for type=image"),
            ("type=image,push=maybe", "invalid push=maybe"),
            ("type=image,compression=lz4", "unsupported compression"),
            ("type=image,compression-level=x", "invalid compression-level"),
            ("type=tar,tar=false,dest=x", "tar=false is for type=oci"),
            ("type=local,dest=x,mode=delete", "mode=delete"),
            ("type=image,what=1", "what=1 is not supported"),
            ("type=image,flag", "expected key=value"),
            ("type=image,annotation-x.y=1", "invalid annotation option"),
        ] {
            let error = OutputSpec::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
