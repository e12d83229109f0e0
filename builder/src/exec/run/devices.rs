//! `--device`: devices by the names of the Container Device Interface.
//!
//! Specifications are JSON files in `/etc/cdi` and `/var/run/cdi` (CDI 0.8); a device of the second directory wins.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cooper_runner::cgroup::DeviceRule;
use cooper_runner::spec::{MountSource, MountSpec, Propagation};
use serde::Deserialize;

use crate::plan::Device;

/// Where specifications are.
pub(super) const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Bounds on what is read.
const MAX_SPEC: u64 = 8 << 20;
const MAX_SPECS: usize = 1000;

/// What devices add to a sandbox.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) mounts: Vec<MountSpec>,
    pub(super) rules: Vec<DeviceRule>,
    pub(super) groups: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    devices: Vec<SpecDevice>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecDevice {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<CdiMount>,
    hooks: Vec<serde_json::Value>,
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
    permissions: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

/// Specifications of a host.
#[derive(Debug, Default)]
pub(super) struct Registry {
    specs: Vec<Spec>,
    /// Files that could not be used, and why.
    unusable: Vec<String>,
}

impl Registry {
    /// Reads all specifications of `dirs`; later ones go before earlier ones.
    pub(super) fn load(dirs: &[&Path]) -> Self {
        let mut registry = Self::default();
        let mut paths = Vec::new();
        for dir in dirs.iter().rev() {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            found.sort();
            paths.extend(found);
        }
        for path in paths.into_iter().take(MAX_SPECS) {
            match path.extension().and_then(|name| name.to_str()) {
                Some("json") => match read(&path) {
                    Ok(spec) => registry.specs.push(spec),
                    Err(reason) => registry.unusable.push(format!("{}: {reason}", path.display())),
                },
                Some("yaml" | "yml") => registry.unusable.push(format!(
                    "{}: specifications in YAML are not read, only JSON",
                    path.display()
                )),
                _ => {}
            }
        }
        registry
    }

    /// What the wanted devices add; `Err` has the number of the device and the reason.
    pub(super) fn edits(&self, wanted: &[Device]) -> Result<Edits, (usize, String)> {
        let mut edits = Edits::default();
        let mut done = Vec::new();
        for (number, device) in wanted.iter().enumerate() {
            let found = self.find(&device.name);
            if found.is_empty() && device.required {
                let mut message = format!("device {} not found", device.name);
                if !self.unusable.is_empty() {
                    message = format!("{message} ({})", self.unusable.join("; "));
                }
                return Err((number, message));
            }
            for (spec, device) in found {
                let name = format!("{}={}", spec.kind, device.name);
                if done.contains(&name) {
                    continue;
                }
                for part in [&spec.container_edits, &device.container_edits] {
                    apply(part, &mut edits).map_err(|reason| (number, format!("device {name}: {reason}")))?;
                }
                done.push(name);
            }
        }
        Ok(edits)
    }

    /// As BuildKit: `kind=name`, `kind=*` for all of a kind, `kind` for its first, or a class for all in it.
    fn find(&self, name: &str) -> Vec<(&Spec, &SpecDevice)> {
        let all = || {
            self.specs
                .iter()
                .flat_map(|spec| spec.devices.iter().map(move |device| (spec, device)))
        };
        match name.split_once('=') {
            Some((kind, "*")) => all().filter(|(spec, _)| spec.kind == kind).collect(),
            Some((kind, name)) => all()
                .find(|(spec, device)| spec.kind == kind && device.name == name)
                .into_iter()
                .collect(),
            None if name.contains('/') => all().find(|(spec, _)| spec.kind == name).into_iter().collect(),
            None => all()
                .filter(|(spec, device)| {
                    let class = device
                        .annotations
                        .get(CLASS)
                        .or_else(|| spec.annotations.get(CLASS));
                    class.is_some_and(|class| class == name)
                })
                .collect(),
        }
    }
}

fn read(path: &Path) -> Result<Spec, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("not a regular file".to_owned());
    }
    let read = file.take(MAX_SPEC).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn apply(part: &ContainerEdits, edits: &mut Edits) -> Result<(), String> {
    if !part.hooks.is_empty() {
        return Err("it has hooks, which are not run in builds".to_owned());
    }
    edits.env.extend(part.env.iter().cloned());
    edits
        .groups
        .extend(part.additional_gids.iter().map(u32::to_string));
    for node in &part.device_nodes {
        let host = node.host_path.as_ref().unwrap_or(&node.path);
        let metadata = fs::metadata(host).map_err(|error| format!("{}: {error}", host.display()))?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => 'c',
            kind if kind.is_block_device() => 'b',
            _ => return Err(format!("{}: not a device", host.display())),
        };
        edits.rules.push(DeviceRule {
            allow: true,
            kind,
            major: Some(rustix::fs::major(metadata.rdev())),
            minor: Some(rustix::fs::minor(metadata.rdev())),
            access: node.permissions.clone().unwrap_or_else(|| "rwm".to_owned()),
        });
        edits.mounts.push(mount(host, &node.path, false));
    }
    for bind in &part.mounts {
        let readonly = bind.options.iter().any(|option| option == "ro");
        edits
            .mounts
            .push(mount(&bind.host_path, &bind.container_path, readonly));
    }
    Ok(())
}

fn mount(host: &Path, target: &Path, readonly: bool) -> MountSpec {
    MountSpec {
        target: target.to_owned(),
        source: MountSource::Bind {
            path: host.to_owned(),
            propagation: Propagation::Private,
        },
        readonly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;

    const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/x", "containerEdits": {"env": ["ALL=1"]}, "devices": [
        {"name": "b", "annotations": {"org.mobyproject.buildkit.device.class": "fast"},
         "containerEdits": {"env": ["B=1"], "deviceNodes": [{"path": "/dev/mine", "hostPath": "/dev/null", "permissions": "r"}],
                            "mounts": [{"hostPath": "/lib", "containerPath": "/vendor", "options": ["ro", "bind"]}]}},
        {"name": "a", "containerEdits": {"env": ["A=1"]}},
        {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}},
        {"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/nosuch"}]}}]}"#;

    #[test]
    fn selection() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(first.path().join("x.json"), SPEC).unwrap();
        fs::write(first.path().join("y.yaml"), "kind: vendor.com/y").unwrap();
        fs::write(
            second.path().join("z.json"),
            SPEC.replace("\"A=1\"", "\"A=2\"").replace("\"b\"", "\"c\""),
        )
        .unwrap();
        let registry = Registry::load(&[first.path(), second.path()]);
        for (name, required, expected) in [
            ("vendor.com/x=a", true, Ok("ALL=1 A=2")),
            ("vendor.com/x=b", true, Ok("ALL=1 B=1")),
            ("vendor.com/x", true, Ok("ALL=1 B=1")),
            ("fast", true, Ok("ALL=1 B=1 ALL=1 B=1")),
            ("slow", false, Ok("")),
            ("vendor.com/x=nosuch", false, Ok("")),
            (
                "vendor.com/x=hooked",
                true,
                Err("device vendor.com/x=hooked: it has hooks"),
            ),
            (
                "vendor.com/x=gone",
                true,
                Err("device vendor.com/x=gone: /dev/nosuch: "),
            ),
            ("vendor.com/y=a", true, Err("device vendor.com/y=a not found (")),
        ] {
            let device = Device {
                span: Span::FILE,
                name: name.to_owned(),
                required,
            };
            match (registry.edits(&[device]), expected) {
                (Ok(edits), Ok(env)) => assert_eq!(edits.env.join(" "), env, "{name}"),
                (Err((0, message)), Err(start)) => assert!(message.starts_with(start), "{message}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
        let device = Device {
            span: Span::FILE,
            name: "vendor.com/x=b".to_owned(),
            required: true,
        };
        let edits = registry.edits(&[device]).unwrap();
        assert_eq!(
            (
                edits.rules[0].kind,
                edits.rules[0].major,
                edits.rules[0].minor,
                edits.rules[0].access.as_str()
            ),
            ('c', Some(1), Some(3), "r")
        );
        assert_eq!(
            edits.mounts,
            [
                mount(Path::new("/dev/null"), Path::new("/dev/mine"), false),
                mount(Path::new("/lib"), Path::new("/vendor"), true)
            ]
        );
    }
}
