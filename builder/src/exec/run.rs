//! RUN

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use cooper_registry::store::Snapshot;
use cooper_runner::cgroup::Resources;
use cooper_runner::container::{self, StartErrorKind};
use cooper_runner::sandbox::{self, Output};
use cooper_runner::spec::{
    ContainerSpec, LogConfig, MountSource, MountSpec, NetworkMode, ProcessSpec, Propagation, RestartPolicy,
    RootFs as SpecRootFs, SPEC_VERSION, SeccompMode,
};

use super::context::{Environment, RootFs};
use super::step::Keep;
use crate::build::{Error, Event};
use crate::cache::Key;
use crate::dockerfile::{Diagnostic, Span};
use crate::plan::RunAction;

/// Docker's default capabilities.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
/// Output shown again when a process fails.
const TAIL_LINES: usize = 20;
const TAIL_LINE: usize = 4096;
const PIPES: &str = "/dev/pipes";

/// What the result of a RUN depends on: values of proxies are left out, as BuildKit does.
pub(super) fn key(action: &RunAction, parent: &RootFs) -> Key {
    let mut key = Key::new("RUN");
    key.add("rootfs", parent.identity());
    action.args.iter().for_each(|arg| key.add("arg", arg));
    action.env.iter().for_each(|pair| key.add("env", pair));
    key.add("cwd", &action.cwd);
    key.add("user", &action.user);
    key.add("network", network(action.network));
    key.add("hostname", &action.hostname);
    key.add("platform", std::env::consts::ARCH);
    if let Some(script) = &action.script {
        key.add("script", &script.name);
        key.add("script", &script.bytes);
    }
    key
}

fn network(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    }
}

pub(super) fn execute(
    environment: &Environment<'_>,
    id: usize,
    span: Span,
    action: &RunAction,
    parent: &RootFs,
    snapshot: &Snapshot,
) -> Result<Keep, Error> {
    let spec = spec(action, parent, snapshot)?;
    let mut tail = Tail::default();
    let mut decoders = [Utf8::default(), Utf8::default()];
    let mut sink = |output: Output, bytes: &[u8]| {
        tail.push(bytes);
        let stderr = output == Output::Stderr;
        let text = decoders[usize::from(stderr)].push(bytes);
        if !text.is_empty() {
            (environment.events)(Event::Output {
                step: id,
                stderr,
                text,
            });
        }
    };
    let result = sandbox::run(&spec, environment.exec_root, &mut sink, environment.stop);
    for (i, decoder) in decoders.iter_mut().enumerate() {
        let text = decoder.finish();
        if !text.is_empty() {
            (environment.events)(Event::Output {
                step: id,
                stderr: i == 1,
                text,
            });
        }
    }
    environment.check_cancelled()?;
    let failed = |code: i32, message: &str| {
        let command = action.args.join(" ");
        let problem = format!("process {command:?} did not complete successfully: exit code: {code}");
        let mut excerpt = tail.text();
        if !message.is_empty() {
            excerpt.push_str(message);
            excerpt.push('\n');
        }
        excerpt.push_str(&environment.source.render(Diagnostic::error(span, problem)));
        Error::Run {
            command,
            code,
            excerpt,
        }
    };
    match result {
        Ok(status) if status.code == 0 => Ok(Keep::Yes),
        Ok(status) if status.oom_killed => Err(failed(status.code, "the process was killed: out of memory")),
        Ok(status) => Err(failed(status.code, &status.error)),
        Err(container::Error::Start {
            kind: StartErrorKind::NotFound,
            message,
        }) => Err(failed(127, &message)),
        Err(container::Error::Start {
            kind: StartErrorKind::NotExecutable,
            message,
        }) => Err(failed(126, &message)),
        Err(error) => Err(error.into()),
    }
}

fn spec(action: &RunAction, parent: &RootFs, snapshot: &Snapshot) -> Result<ContainerSpec, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("random bytes: {error}")))?;
    let id = cooper_registry::digest::to_hex(&bytes);
    let mut mounts = Vec::new();
    if let Some(script) = &action.script {
        // Beside the upper directory, so it goes with the snapshot.
        let dir = snapshot.dir().join("pipes");
        fs::create_dir(&dir).map_err(|error| Error::io(&dir, &error))?;
        let path = dir.join(&script.name);
        if path.parent() != Some(dir.as_path()) {
            return Err(Error::Source(format!(
                "{:?} is no name for a script",
                script.name
            )));
        }
        fs::write(&path, &script.bytes).map_err(|error| Error::io(&path, &error))?;
        for path in [&path, &dir] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
                .map_err(|error| Error::io(path, &error))?;
        }
        mounts.push(MountSpec {
            target: PathBuf::from(PIPES),
            source: MountSource::Bind {
                path: dir,
                propagation: Propagation::Private,
            },
            readonly: true,
        });
    }
    Ok(ContainerSpec {
        version: SPEC_VERSION,
        cgroup_path: format!("cooper/{id}"),
        id,
        hostname: action.hostname.clone(),
        rootfs: SpecRootFs {
            lowers: parent.lowers.clone(),
            upper: snapshot.upper(),
            work: snapshot.work(),
            readonly: false,
        },
        process: ProcessSpec {
            args: action.args.clone(),
            env: action.env.iter().chain(&action.proxies).cloned().collect(),
            cwd: action.cwd.clone(),
            user: action.user.clone(),
            group_add: Vec::new(),
            tty: false,
            console_size: None,
            open_stdin: false,
            stdin_once: false,
            capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
            no_new_privileges: false,
            rlimits: Vec::new(),
            oom_score_adj: None,
        },
        mounts,
        network: action.network,
        privileged: false,
        seccomp: SeccompMode::Default,
        masked_paths: None,
        readonly_paths: None,
        resources: Resources::default(),
        device_rules: Vec::new(),
        sysctls: std::collections::BTreeMap::new(),
        shm_size: 64 << 20,
        stop_signal: 15,
        log: LogConfig {
            enabled: false,
            ..LogConfig::default()
        },
        auto_remove: true,
        restart: RestartPolicy::default(),
        health: None,
    })
}

/// The last lines of a process's output.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    open: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            if !self.open {
                self.lines.push_back(Vec::new());
                if self.lines.len() > TAIL_LINES {
                    self.lines.pop_front();
                }
            }
            if let Some(line) = self.lines.back_mut() {
                let room = TAIL_LINE.saturating_sub(line.len());
                line.extend_from_slice(&part[..part.len().min(room)]);
            }
            self.open = !part.ends_with(b"\n");
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(String::from_utf8_lossy(line).trim_end_matches('\n'));
            text.push('\n');
        }
        text
    }
}

/// Turns chunks of bytes into text without breaking characters between chunks.
#[derive(Debug, Default)]
struct Utf8 {
    rest: Vec<u8>,
}

impl Utf8 {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        let mut used = 0;
        for chunk in self.rest.utf8_chunks() {
            text.push_str(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            // An incomplete character at the very end may still be completed.
            let partial =
                used + invalid.len() == self.rest.len() && invalid.len() < 4 && could_continue(invalid);
            if invalid.is_empty() || partial {
                continue;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            used += invalid.len();
        }
        self.rest.drain(..used);
        text
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

fn could_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stay_whole() {
        let mut decoder = Utf8::default();
        let parts: [&[u8]; 5] = [b"a\xc3", b"\xa9b\xff", b"c\xf0\x9f", b"\x98\x80", b"\xe2\x82"];
        let texts: Vec<String> = parts.iter().map(|part| decoder.push(part)).collect();
        assert_eq!(texts, ["a", "éb\u{fffd}", "c", "😀", ""]);
        assert_eq!(decoder.finish(), "\u{fffd}");
    }

    #[test]
    fn tail_keeps_last_lines() {
        let mut tail = Tail::default();
        for i in 0..50 {
            tail.push(format!("line {i}\nnext").as_bytes());
            tail.push(b"\n");
        }
        assert_eq!(tail.lines.len(), TAIL_LINES);
        assert!(tail.text().ends_with("line 49\nnext\n"));
    }
}
