//! RUN and WORKDIR.

use cooper_runner::spec::NetworkMode;

use super::args::proxies;
use super::config::in_shell;
use super::evaluate::Evaluator;
use super::state::StageState;
use super::step::{Action, Inline, RunAction, WorkdirAction};
use super::values::clean_path;
use crate::build::{Entitlement, Error};
use crate::dockerfile::{CommandForm, Diagnostic, Heredoc, Instruction, Run, Word, nearest};

/// Host name of RUN, as BuildKit's; `BUILDKIT_SANDBOX_HOSTNAME` changes it.
const HOSTNAME: &str = "buildkitsandbox";
/// Where a here-document that is a script is mounted.
const PIPES: &str = "/dev/pipes";

impl Evaluator<'_> {
    pub(super) fn run(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), Error> {
        let insecure = self.security(run.flags.security.as_ref())?;
        let devices = self.devices(state, run)?;
        let (mounts, agent) = self.mounts(state, run)?;
        let mut env = state.environment();
        if let Some(agent) = agent {
            env.retain(|pair| !pair.starts_with("SSH_AUTH_SOCK="));
            env.push(format!("SSH_AUTH_SOCK={agent}"));
        }
        let network = self.network(run.flags.network.as_ref())?;
        let (args, script) = match &run.form {
            CommandForm::Exec(words) => (words.iter().map(|word| word.text.clone()).collect(), None),
            CommandForm::Shell { command, heredocs } => {
                let (line, script) = shell_line(&command.text, heredocs);
                (in_shell(&state.image.config, line), script)
            }
        };
        if args.is_empty() {
            return Err(self.source.error(instruction.span, "RUN has no command"));
        }
        let mut text = String::from("RUN ");
        if let Some(prefix) = state.args_prefix() {
            text.push_str(&prefix);
            text.push(' ');
        }
        text.push_str(&args.join(" "));
        text.push_str(" # buildkit");
        let proxies = proxies(self.request)
            .into_iter()
            .filter(|(name, _)| !state.has(name));
        let hostname = self
            .request
            .build_args
            .get("BUILDKIT_SANDBOX_HOSTNAME")
            .cloned()
            .flatten();
        let action = RunAction {
            args,
            env,
            proxies: proxies.map(|(name, value)| format!("{name}={value}")).collect(),
            cwd: state.cwd().to_owned(),
            user: state.image.config.user.clone(),
            network,
            hostname: hostname.unwrap_or_else(|| HOSTNAME.to_owned()),
            script,
            mounts,
            insecure,
            devices,
        };
        let step = self.push(instruction.span, state.rootfs, Action::Run(action))?;
        state.note_layer(text, step);
        Ok(())
    }

    /// `--network`; more than the build itself has is not given.
    fn network(&self, flag: Option<&Word>) -> Result<NetworkMode, Error> {
        let Some(word) = flag else {
            return Ok(self.request.network);
        };
        match word.text.as_str() {
            "default" => Ok(self.request.network),
            "none" => Ok(NetworkMode::None),
            "host" if self.request.network == NetworkMode::Host => Ok(NetworkMode::Host),
            "host" if self.request.allow.contains(&Entitlement::NetworkHost) => Ok(NetworkMode::Host),
            "host" => Err(self
                .source
                .error(word.span, "network.host is not allowed for this build")),
            other => Err(self.unknown(word, "network mode", other, &["default", "none", "host"])),
        }
    }

    /// `--security`
    fn security(&self, flag: Option<&Word>) -> Result<bool, Error> {
        let Some(word) = flag else { return Ok(false) };
        match word.text.as_str() {
            "sandbox" => Ok(false),
            "insecure" if self.request.allow.contains(&Entitlement::SecurityInsecure) => Ok(true),
            "insecure" => Err(self
                .source
                .error(word.span, "security.insecure is not allowed for this build")),
            other => Err(self.unknown(word, "security mode", other, &["sandbox", "insecure"])),
        }
    }

    fn unknown(&self, word: &Word, what: &str, given: &str, known: &[&str]) -> Error {
        let problem = Diagnostic::error(word.span, format!("invalid {what} {given:?}"));
        let problem = problem.with_suggestion(nearest(given, known.iter().copied()));
        Error::Dockerfile(self.source.render(problem))
    }

    pub(super) fn workdir(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        word: &Word,
    ) -> Result<(), Error> {
        let path = self.expand(state, word)?;
        let joined = if path.starts_with('/') {
            path
        } else {
            format!("{}/{path}", state.cwd())
        };
        let path = clean_path(&joined);
        state.image.config.working_dir.clone_from(&path);
        let text = format!("WORKDIR {path}");
        if path == "/" {
            let step = self.push(instruction.span, state.rootfs, Action::Nothing)?;
            state.note(text);
            // An empty stage stays one.
            state.rootfs = state.rootfs.map(|_| step);
            return Ok(());
        }
        let user = state.image.config.user.clone();
        let step = self.push(
            instruction.span,
            state.rootfs,
            Action::Workdir(WorkdirAction { path, user }),
        )?;
        state.note_layer(text, step);
        Ok(())
    }
}

/// The line for the shell, and the script where a single here-document begins with `#!`.
fn shell_line(command: &str, heredocs: &[Heredoc]) -> (String, Option<Inline>) {
    let Some(first) = heredocs.first() else {
        return (command.to_owned(), None);
    };
    let opening = command.trim();
    let alone = heredocs.len() == 1 && opening.starts_with("<<") && !opening.contains(char::is_whitespace);
    if alone && first.content.starts_with("#!") {
        let script = Inline {
            name: first.name.clone(),
            bytes: first.body().into_bytes(),
        };
        return (format!("{PIPES}/{}", first.name), Some(script));
    }
    if alone {
        return (first.body(), None);
    }
    let mut line = command.to_owned();
    for heredoc in heredocs {
        line.push('\n');
        line.push_str(&heredoc.content);
        line.push_str(&heredoc.name);
    }
    (line, None)
}
