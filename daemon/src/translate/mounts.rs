//! `Binds`, `Mounts` and `Tmpfs`.

use std::path::{Component, Path, PathBuf};

use cooper_runner::spec::{MountSource, MountSpec, Propagation};

use crate::api::{HostConfig, Mount, MountPoint};
use crate::error::{ApiError, ApiResult};

/// What the three fields ask for.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// For the runner, shorter targets first so that nested ones end up on top.
    pub(crate) specs: Vec<MountSpec>,
    /// For inspect and list.
    pub(crate) points: Vec<MountPoint>,
    /// Host directories of `Binds`, to be made when missing (Docker does, for this field only).
    pub(crate) create: Vec<PathBuf>,
    /// Host paths of `Mounts` that must exist.
    pub(crate) require: Vec<PathBuf>,
}

pub(crate) fn mounts(host: &HostConfig) -> ApiResult<Mounts> {
    let mut all = Mounts::default();
    for bind in host.binds.iter().flatten() {
        all.add_bind(bind)?;
    }
    for mount in &host.mounts {
        all.add_mount(mount)?;
    }
    for (target, options) in &host.tmpfs {
        all.add_tmpfs(target, options)?;
    }
    let depth = |spec: &MountSpec| spec.target.components().count();
    all.specs.sort_by_key(depth);
    for (index, spec) in all.specs.iter().enumerate() {
        if all.specs[..index].iter().any(|other| other.target == spec.target) {
            return Err(ApiError::bad(format!(
                "Duplicate mount point: {}",
                spec.target.display()
            )));
        }
    }
    Ok(all)
}

impl Mounts {
    /// `/host:/container[:options]`.
    fn add_bind(&mut self, text: &str) -> ApiResult<()> {
        let invalid = || ApiError::bad(format!("invalid volume specification: '{text}'"));
        let mut parts = text.split(':');
        let (Some(source), Some(target), options, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid());
        };
        if source.is_empty() || target.is_empty() {
            return Err(invalid());
        }
        if !source.starts_with('/') {
            return Err(ApiError::unavailable(format!(
                "HostConfig.Binds {text:?} (named volumes)"
            )));
        }
        let mut readonly = false;
        let mut propagation = None;
        for option in options
            .iter()
            .flat_map(|options| options.split(','))
            .filter(|option| !option.is_empty())
        {
            match option {
                "ro" => readonly = true,
                // SELinux labels and the hints of Docker Desktop do nothing on hosts without them.
                "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" => {}
                _ => match propagation_of(option) {
                    Some(value) => propagation = Some(value),
                    None => return Err(ApiError::bad(format!("invalid mode: {option}"))),
                },
            }
        }
        let source = PathBuf::from(source);
        self.create.push(source.clone());
        let mode = options.unwrap_or_default();
        self.push_bind(source, target, readonly, propagation.unwrap_or_default(), mode)
    }

    fn push_bind(
        &mut self,
        source: PathBuf,
        target: &str,
        readonly: bool,
        propagation: Propagation,
        mode: &str,
    ) -> ApiResult<()> {
        let target = container_path(target)?;
        self.points.push(MountPoint {
            kind: "bind".to_owned(),
            source: source.display().to_string(),
            destination: target.display().to_string(),
            mode: mode.to_owned(),
            rw: !readonly,
            propagation: propagation_name(propagation).to_owned(),
            ..MountPoint::default()
        });
        self.specs.push(MountSpec {
            target,
            source: MountSource::Bind {
                path: source,
                propagation,
            },
            readonly,
        });
        Ok(())
    }

    fn add_mount(&mut self, mount: &Mount) -> ApiResult<()> {
        let invalid = |text: &str| {
            ApiError::bad(format!(
                "invalid mount config for type \"{}\": {text}",
                mount.kind
            ))
        };
        match mount.kind.as_str() {
            "bind" => {
                if !mount.source.starts_with('/') {
                    return Err(invalid(&format!(
                        "invalid mount path: '{}' mount path must be absolute",
                        mount.source
                    )));
                }
                if mount.tmpfs_options.is_some() || mount.volume_options.is_some() {
                    return Err(invalid("options of another type must not be specified"));
                }
                let options = mount.bind_options.clone().unwrap_or_default();
                if options.non_recursive || options.read_only_non_recursive {
                    return Err(ApiError::unavailable(
                        "HostConfig.Mounts.BindOptions.NonRecursive",
                    ));
                }
                let propagation = match options.propagation.as_str() {
                    "" => Propagation::default(),
                    text => propagation_of(text).ok_or_else(|| invalid("invalid propagation"))?,
                };
                let source = PathBuf::from(&mount.source);
                if options.create_mountpoint {
                    self.create.push(source.clone());
                } else {
                    self.require.push(source.clone());
                }
                self.push_bind(source, &mount.target, mount.read_only, propagation, "")
            }
            "tmpfs" => {
                if !mount.source.is_empty() || mount.bind_options.is_some() || mount.volume_options.is_some()
                {
                    return Err(invalid(
                        "field Source and options of another type must not be specified",
                    ));
                }
                let options = mount.tmpfs_options.clone().unwrap_or_default();
                if !options.options.is_empty() {
                    return Err(ApiError::unavailable("HostConfig.Mounts.TmpfsOptions.Options"));
                }
                let size = u64::try_from(options.size_bytes).ok().filter(|size| *size > 0);
                let mode = Some(options.mode).filter(|mode| *mode != 0);
                self.push_tmpfs(&mount.target, size, mode, mount.read_only)
            }
            "volume" | "image" | "cluster" | "npipe" => Err(ApiError::unavailable(format!(
                "HostConfig.Mounts of type {:?}",
                mount.kind
            ))),
            _ => Err(invalid("mount type unknown")),
        }
    }

    /// `target` and options as `size=64m,mode=1777,ro`.
    fn add_tmpfs(&mut self, target: &str, options: &str) -> ApiResult<()> {
        let (mut size, mut mode, mut readonly) = (None, None, false);
        let invalid = |option: &str| ApiError::bad(format!("invalid tmpfs option [{option:?}]"));
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => size = Some(parse_size(value).ok_or_else(|| invalid(option))?),
                Some(("mode", value)) => {
                    let parsed = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                    mode = Some(parsed.ok_or_else(|| invalid(option))?);
                }
                None if option == "ro" => readonly = true,
                // Docker's defaults for --tmpfs.
                None if matches!(option, "rw" | "noexec" | "nosuid" | "nodev") => {}
                Some(("uid" | "gid" | "nr_inodes", _)) => {
                    return Err(ApiError::unavailable(format!(
                        "HostConfig.Tmpfs option {option:?}"
                    )));
                }
                None if matches!(option, "exec" | "suid" | "dev") => {
                    return Err(ApiError::unavailable(format!(
                        "HostConfig.Tmpfs option {option:?}"
                    )));
                }
                _ => return Err(invalid(option)),
            }
        }
        self.push_tmpfs(target, size, mode, readonly)
    }

    fn push_tmpfs(
        &mut self,
        target: &str,
        size: Option<u64>,
        mode: Option<u32>,
        readonly: bool,
    ) -> ApiResult<()> {
        let target = container_path(target)?;
        self.points.push(MountPoint {
            kind: "tmpfs".to_owned(),
            destination: target.display().to_string(),
            rw: !readonly,
            ..MountPoint::default()
        });
        self.specs.push(MountSpec {
            target,
            source: MountSource::Tmpfs {
                size,
                mode,
                exec: false,
            },
            readonly,
        });
        Ok(())
    }
}

/// Absolute, cleaned of `.` and `..`, and not the root itself.
fn container_path(text: &str) -> ApiResult<PathBuf> {
    if !text.starts_with('/') {
        return Err(ApiError::bad(format!(
            "invalid mount path: '{text}' mount path must be absolute"
        )));
    }
    let mut clean = PathBuf::from("/");
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean == Path::new("/") {
        return Err(ApiError::bad(format!(
            "invalid volume specification: destination can't be '{text}'"
        )));
    }
    Ok(clean)
}

fn propagation_of(text: &str) -> Option<Propagation> {
    match text {
        "private" | "rprivate" => Some(Propagation::Private),
        "slave" | "rslave" => Some(Propagation::Slave),
        "shared" | "rshared" => Some(Propagation::Shared),
        _ => None,
    }
}

fn propagation_name(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "rprivate",
        Propagation::Slave => "rslave",
        Propagation::Shared => "rshared",
    }
}

/// Bytes with an optional `k`, `m`, `g` (binary), as tmpfs takes them.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(digits) => (
            digits,
            if lower.ends_with('k') {
                10
            } else if lower.ends_with('m') {
                20
            } else {
                30
            },
        ),
        None => (lower, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_parsed_or_refused() {
        let check = |bind: &str, expected: Result<(&str, &str, bool), &str>| {
            let host = HostConfig {
                binds: Some(vec![bind.to_owned()]),
                ..HostConfig::default()
            };
            let result = mounts(&host).map(|all| {
                let point = &all.points[0];
                (point.source.clone(), point.destination.clone(), point.rw)
            });
            match (result, expected) {
                (Ok((source, target, rw)), Ok(expected)) => {
                    assert_eq!((source.as_str(), target.as_str(), rw), expected);
                }
                (Err(error), Err(expected)) => assert_eq!(error.message, expected),
                (result, expected) => panic!("{bind}: {result:?} instead of {expected:?}"),
            }
        };
        check("/a:/b", Ok(("/a", "/b", true)));
        check("/a:/b/../c/:ro,z", Ok(("/a", "/c", false)));
        check("/a", Err("invalid volume specification: '/a'"));
        check("/a:/b:ro:x", Err("invalid volume specification: '/a:/b:ro:x'"));
        check("/a:b", Err("invalid mount path: 'b' mount path must be absolute"));
        check(
            "/a:/..",
            Err("invalid volume specification: destination can't be '/..'"),
        );
        check("/a:/b:bad", Err("invalid mode: bad"));
        check(
            "v:/b",
            Err("HostConfig.Binds \"v:/b\" (named volumes) is not implemented by this engine yet"),
        );
    }

    #[test]
    fn nested_targets_come_later_and_duplicates_are_refused() {
        let binds = |list: &[&str]| {
            let binds = list.iter().map(|bind| (*bind).to_owned()).collect();
            mounts(&HostConfig {
                binds: Some(binds),
                ..HostConfig::default()
            })
        };
        let targets: Vec<_> = binds(&["/x:/a/b", "/y:/a"])
            .unwrap()
            .specs
            .into_iter()
            .map(|spec| spec.target)
            .collect();
        assert_eq!(targets, [Path::new("/a"), Path::new("/a/b")]);
        assert_eq!(
            binds(&["/x:/a", "/y:/a/."]).unwrap_err().message,
            "Duplicate mount point: /a"
        );
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64", Some(64)),
            ("64m", Some(64 << 20)),
            ("1G", Some(1 << 30)),
            ("2kb", Some(2048)),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
