//! Docker's profile format.

use std::borrow::Cow;

use serde::Deserialize;

use super::program::{FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC};
use super::{Arch, SeccompError, Target};
use crate::caps;

/// Docker's own profile has 13 kB; this leaves room for very chatty ones.
const MAX_PROFILE: usize = 4 << 20;
const EPERM: u16 = 1;

/// What a filter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    KillThread,
    KillProcess,
    Trap,
    Errno(u16),
    Trace(u16),
    Log,
    Allow,
}

impl Action {
    /// `SECCOMP_RET_*` with its data.
    pub(super) const fn value(self) -> u32 {
        match self {
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | errno as u32,
            Self::Trace(message) => 0x7ff0_0000 | message as u32,
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// Whether calls are made or left to a tracer, so that unknown ones need no `ENOSYS` of ours.
    pub(super) const fn passes(self) -> bool {
        matches!(self, Self::Allow | Self::Log | Self::Trace(_))
    }
}

/// How an argument is compared, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Equal(u64),
    GreaterOrEqual(u64),
    Greater(u64),
    MaskedEqual { mask: u64, value: u64 },
}

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u8,
    pub(super) test: Test,
}

/// When a rule counts, or does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct When {
    pub(super) arches: Vec<Cow<'static, str>>,
    /// Numbers; `None` is a capability no kernel has.
    pub(super) caps: Vec<Option<u8>>,
    pub(super) min_kernel: Option<(u32, u32)>,
}

impl When {
    fn includes(&self, target: &Target) -> bool {
        (self.arches.is_empty() || self.names_arch(target))
            && self
                .caps
                .iter()
                .all(|cap| cap.is_some_and(|cap| target.caps.contains(cap)))
            && self.min_kernel.is_none_or(|min| target.kernel >= min)
    }

    fn excludes(&self, target: &Target) -> bool {
        self.names_arch(target)
            || self
                .caps
                .iter()
                .any(|cap| cap.is_some_and(|cap| target.caps.contains(cap)))
            || self.min_kernel.is_some_and(|min| target.kernel >= min)
    }

    fn names_arch(&self, target: &Target) -> bool {
        self.arches.iter().any(|arch| arch == target.arch.docker_name())
    }
}

/// An answer for some calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) names: Vec<Cow<'static, str>>,
    pub(super) action: Action,
    /// All must hold; none at all means always.
    pub(super) conditions: Vec<Condition>,
    pub(super) includes: When,
    pub(super) excludes: When,
}

impl Rule {
    pub(super) fn applies(&self, target: &Target) -> bool {
        !self.excludes.excludes(target) && self.includes.includes(target)
    }
}

/// A seccomp policy in the form Docker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub(super) default_action: Action,
    /// Native architectures with their sub-architectures.
    pub(super) arch_map: Vec<(Arch, Vec<Arch>)>,
    /// Architectures beside the native one, without a map.
    pub(super) architectures: Vec<Arch>,
    pub(super) rules: Vec<Rule>,
    pub(super) flags: u32,
}

impl Profile {
    /// Reads a profile as `--security-opt seccomp=FILE` takes it.
    ///
    /// # Errors
    /// Bad JSON, unknown actions, operators, architectures or flags, and `SCMP_ACT_NOTIFY`.
    pub fn parse(json: &[u8]) -> Result<Self, SeccompError> {
        if json.len() > MAX_PROFILE {
            return Err(SeccompError::ProfileTooLarge(json.len()));
        }
        let file: File = serde_json::from_slice(json)?;
        if file.listener_path.is_some_and(|path| !path.is_empty()) {
            return Err(SeccompError::NotifyUnsupported);
        }
        let listed = file.architectures.unwrap_or_default();
        let mapped = file.arch_map.unwrap_or_default();
        if !listed.is_empty() && !mapped.is_empty() {
            return Err(SeccompError::ArchitecturesAndArchMap);
        }
        let mut arch_map = Vec::new();
        for entry in mapped {
            let subs = arches(&entry.sub_architectures.unwrap_or_default())?;
            arch_map.extend(
                arches(&[entry.architecture])?
                    .into_iter()
                    .map(|arch| (arch, subs.clone())),
            );
        }
        let mut flags = 0;
        for flag in file.flags.unwrap_or_default() {
            flags |= match flag.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => FLAG_TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FLAG_SPEC_ALLOW,
                _ => return Err(SeccompError::UnknownFlag(flag)),
            };
        }
        let mut rules = Vec::new();
        for rule in file.syscalls.unwrap_or_default() {
            rule.convert(&mut rules)?;
        }
        Ok(Self {
            default_action: action(&file.default_action, file.default_errno_ret)?,
            arch_map,
            architectures: arches(&listed)?,
            rules,
            flags,
        })
    }

    /// The architectures a filter for `native` answers for, the native one first.
    pub(super) fn arches_for(&self, native: Arch) -> Vec<Arch> {
        let mapped = self.arch_map.iter().find(|(arch, _)| *arch == native);
        let listed = mapped.map_or(self.architectures.as_slice(), |(_, subs)| subs);
        let mut arches = vec![native];
        for arch in listed {
            if arch.runs_on(native) && !arches.contains(arch) {
                arches.push(*arch);
            }
        }
        arches
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<FileArch>>,
    syscalls: Option<Vec<FileRule>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileArch {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileRule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<FileArg>>,
    includes: Option<FileWhen>,
    excludes: Option<FileWhen>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileArg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileWhen {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl FileRule {
    /// Adds one rule, or one for each test if two look at the same argument (runc `matchCall`).
    fn convert(self, rules: &mut Vec<Rule>) -> Result<(), SeccompError> {
        let mut names = self.names.unwrap_or_default();
        if let Some(name) = self.name.filter(|name| !name.is_empty()) {
            if !names.is_empty() {
                return Err(SeccompError::NameAndNames);
            }
            names.push(name);
        }
        let args = self.args.unwrap_or_default();
        let conditions = args.iter().map(FileArg::convert).collect::<Result<Vec<_>, _>>()?;
        let rule = Rule {
            names: names.into_iter().map(Cow::Owned).collect(),
            action: action(&self.action, self.errno_ret)?,
            conditions: Vec::new(),
            includes: self
                .includes
                .map_or_else(|| Ok(When::default()), FileWhen::convert)?,
            excludes: self
                .excludes
                .map_or_else(|| Ok(When::default()), FileWhen::convert)?,
        };
        let twice = (0..6).any(|index| conditions.iter().filter(|c| c.index == index).count() > 1);
        if twice {
            rules.extend(conditions.into_iter().map(|c| Rule {
                conditions: vec![c],
                ..rule.clone()
            }));
        } else {
            rules.push(Rule { conditions, ..rule });
        }
        Ok(())
    }
}

impl FileArg {
    fn convert(&self) -> Result<Condition, SeccompError> {
        let index = u8::try_from(self.index)
            .ok()
            .filter(|index| *index < 6)
            .ok_or(SeccompError::BadArgumentIndex(self.index))?;
        let test = match self.op.as_str() {
            "SCMP_CMP_NE" => Test::NotEqual(self.value),
            "SCMP_CMP_LT" => Test::Less(self.value),
            "SCMP_CMP_LE" => Test::LessOrEqual(self.value),
            "SCMP_CMP_EQ" => Test::Equal(self.value),
            "SCMP_CMP_GE" => Test::GreaterOrEqual(self.value),
            "SCMP_CMP_GT" => Test::Greater(self.value),
            // libseccomp masks the expected value as well.
            "SCMP_CMP_MASKED_EQ" => Test::MaskedEqual {
                mask: self.value,
                value: self.value_two & self.value,
            },
            _ => return Err(SeccompError::UnknownOperator(self.op.clone())),
        };
        Ok(Condition { index, test })
    }
}

impl FileWhen {
    fn convert(self) -> Result<When, SeccompError> {
        Ok(When {
            arches: self
                .arches
                .unwrap_or_default()
                .into_iter()
                .map(Cow::Owned)
                .collect(),
            caps: self
                .caps
                .unwrap_or_default()
                .iter()
                .map(|name| caps::number(name))
                .collect(),
            min_kernel: self
                .min_kernel
                .filter(|text| !text.is_empty())
                .map(kernel)
                .transpose()?,
        })
    }
}

fn kernel(text: String) -> Result<(u32, u32), SeccompError> {
    let parsed = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parsed.ok_or(SeccompError::BadKernelVersion(text))
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, SeccompError> {
    let data = || match errno {
        None => Ok(EPERM),
        Some(errno) => u16::try_from(errno).map_err(|_| SeccompError::BadErrno(errno)),
    };
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_ERRNO" => Action::Errno(data()?),
        "SCMP_ACT_TRACE" => Action::Trace(data()?),
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_NOTIFY" => return Err(SeccompError::NotifyUnsupported),
        _ => return Err(SeccompError::UnknownAction(name.to_owned())),
    })
}

/// Architectures that cannot run on ours are left out: their calls cannot happen.
fn arches(names: &[String]) -> Result<Vec<Arch>, SeccompError> {
    let mut arches = Vec::new();
    for name in names {
        if !name.starts_with("SCMP_ARCH_") {
            return Err(SeccompError::UnknownArchitecture(name.clone()));
        }
        arches.extend(Arch::from_scmp(name));
    }
    Ok(arches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_profiles_are_refused() {
        let check = |json: &str, expected: &str| {
            let error = Profile::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        };
        let rule = |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
        check("", "decoding");
        check("{}", "defaultAction");
        check(r#"{"defaultAction":"SCMP_ACT_NOPE"}"#, "unknown seccomp action");
        check(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "notify");
        check(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":65536}"#,
            "65536",
        );
        check(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}"#, "flag");
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["arm"]}"#,
            "architecture",
        );
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "either 'architectures' or 'archMap'",
        );
        check(
            &rule(r#"{"name":"a","names":["b"],"action":"SCMP_ACT_TRAP"}"#),
            "either 'name' or 'names'",
        );
        let arg = |arg: &str| {
            rule(&format!(
                r#"{{"name":"a","action":"SCMP_ACT_TRAP","args":[{arg}]}}"#
            ))
        };
        check(&arg(r#"{"index":6,"value":0,"op":"SCMP_CMP_EQ"}"#), "index 6");
        check(&arg(r#"{"index":0,"value":0,"op":"EQ"}"#), "comparison");
        check(&arg(r#"{"index":0,"value":-1,"op":"SCMP_CMP_EQ"}"#), "decoding");
        check(
            &rule(r#"{"name":"a","action":"SCMP_ACT_TRAP","includes":{"minKernel":"5"}}"#),
            "kernel",
        );
    }

    #[test]
    fn nulls_of_go_are_empty_lists() {
        let json = r#"{"defaultAction":"SCMP_ACT_LOG","architectures":null,"archMap":null,"flags":null,"syscalls":
            [{"names":["x"],"action":"SCMP_ACT_ERRNO","args":null,"comment":"","includes":{},"excludes":{"minKernel":""}}]}"#;
        let profile = Profile::parse(json.as_bytes()).unwrap();
        assert_eq!(profile.default_action, Action::Log);
        assert_eq!(profile.rules.len(), 1);
        assert_eq!(profile.rules[0].action, Action::Errno(1));
    }
}
