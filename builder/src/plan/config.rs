//! Instructions that change only the config, and ARG.

use cooper_registry::oci::{Empty, HealthConfig, RunConfig};

use super::args::is_variable;
use super::evaluate::Evaluator;
use super::gofmt::{duration, quote, quote_all, quote_number};
use super::state::StageState;
use super::values::{is_signal, ports};
use crate::build::Error;
use crate::dockerfile::{
    ArgDecl, CommandForm, Healthcheck, HealthcheckOptions, InstructionKind, KeyValue, Word, process_words,
};

impl Evaluator<'_> {
    pub(super) fn configure(&self, state: &mut StageState, kind: &InstructionKind) -> Result<(), Error> {
        match kind {
            InstructionKind::Env(pairs) => {
                let pairs = self.pairs(state, pairs)?;
                pairs.iter().for_each(|(key, value)| state.set_env(key, value));
                state.note(format!("ENV {}", joined(&pairs)));
            }
            InstructionKind::Label(pairs) => {
                let pairs = self.pairs(state, pairs)?;
                state.note(format!("LABEL {}", joined(&pairs)));
                state.image.config.labels.get_or_insert_default().extend(pairs);
            }
            InstructionKind::Cmd(form) => {
                let args = command(&state.image.config, form);
                state.note(format!("CMD {}", quote_all(&args)));
                state.image.config.cmd = Some(args);
                state.image.config.args_escaped = true;
                state.cmd_set = true;
            }
            InstructionKind::Entrypoint(form) => {
                let args = command(&state.image.config, form);
                state.note(format!("ENTRYPOINT {}", quote_all(&args)));
                state.image.config.entrypoint = Some(args);
                if !state.cmd_set {
                    state.image.config.cmd = None;
                }
            }
            InstructionKind::Expose(words) => self.expose(state, words)?,
            InstructionKind::Volume(words) => {
                let paths = words
                    .iter()
                    .map(|word| self.expand(state, word))
                    .collect::<Result<Vec<_>, _>>()?;
                if let Some(i) = paths.iter().position(String::is_empty) {
                    return Err(self
                        .source
                        .error(words[i].span, "VOLUME specified can not be an empty string"));
                }
                state.note(format!("VOLUME [{}]", paths.join(" ")));
                state
                    .image
                    .config
                    .volumes
                    .get_or_insert_default()
                    .extend(paths.into_iter().map(|path| (path, Empty {})));
            }
            InstructionKind::User(word) => {
                let user = self.expand(state, word)?;
                state.note(format!("USER {user}"));
                state.image.config.user = user;
            }
            InstructionKind::StopSignal(word) => {
                let signal = self.expand(state, word)?;
                if !is_signal(&signal) {
                    return Err(self.source.error(word.span, format!("invalid signal: {signal}")));
                }
                state.note(format!("STOPSIGNAL {signal}"));
                state.image.config.stop_signal = signal;
            }
            InstructionKind::Shell(words) => {
                let shell: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
                state.note(format!("SHELL [{}]", shell.join(" ")));
                state.image.config.shell = Some(shell);
            }
            InstructionKind::Maintainer(word) => {
                state.note(format!("MAINTAINER {}", word.text));
                state.image.author = Some(word.text.clone());
            }
            InstructionKind::Healthcheck(check) => {
                let (config, text) = healthcheck(check);
                state.note(format!("HEALTHCHECK {text}"));
                state.image.config.healthcheck = Some(config);
            }
            InstructionKind::Onbuild(trigger) => {
                state
                    .image
                    .config
                    .on_build
                    .get_or_insert_default()
                    .push(trigger.expression.clone());
            }
            InstructionKind::Add(_)
            | InstructionKind::Arg(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Run(_)
            | InstructionKind::Workdir(_) => return Err(Error::internal("an instruction of another kind")),
        }
        Ok(())
    }

    /// ARG inside a stage: the command line's value, its default, or the global one.
    pub(super) fn arg(&self, state: &mut StageState, args: &[ArgDecl]) -> Result<(), Error> {
        let mut shown = Vec::new();
        // Unlike ENV, each default sees the arguments in front of it.
        for arg in args {
            let name = self.expand(state, &arg.name)?;
            let value = match (self.request.build_args.get(&name), &arg.default) {
                (Some(Some(given)), _) => Some(given.clone()),
                (_, Some(default)) => Some(self.expand(state, default)?),
                _ => self.global(&name),
            };
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            if let Some(value) = value.as_ref().filter(|_| is_variable(&name)) {
                state.set_arg(&name, value);
            }
            state.build_args.push((name, value));
        }
        state.note(format!("ARG {}", shown.join(" ")));
        Ok(())
    }

    /// All are expanded before any is set.
    fn pairs(&self, state: &StageState, pairs: &[KeyValue]) -> Result<Vec<(String, String)>, Error> {
        let mut expanded = Vec::new();
        for pair in pairs {
            let key = self.expand(state, &pair.key)?;
            if key.is_empty() {
                return Err(self.source.error(pair.key.span, "names can not be blank"));
            }
            expanded.push((key, self.expand(state, &pair.value)?));
        }
        Ok(expanded)
    }

    fn expose(&self, state: &mut StageState, words: &[Word]) -> Result<(), Error> {
        let mut list = Vec::new();
        for word in words {
            let expanded = process_words(&word.text, &|name| state.get(name), self.escape());
            for text in expanded.map_err(|error| self.source.expand_error(word, &error))? {
                list.extend(ports(&text).map_err(|message| self.source.error(word.span, message))?);
            }
        }
        list.sort();
        list.dedup();
        state.note(format!("EXPOSE [{}]", list.join(" ")));
        state
            .image
            .config
            .exposed_ports
            .get_or_insert_default()
            .extend(list.into_iter().map(|port| (port, Empty {})));
        Ok(())
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    let list: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    list.join(" ")
}

/// A command line; shell form is wrapped into the stage's shell. `CMD` or `ENTRYPOINT` without a command is empty.
pub(super) fn command(config: &RunConfig, form: &CommandForm) -> Vec<String> {
    match form {
        CommandForm::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
        CommandForm::Shell { command, .. } => in_shell(config, command.text.clone()),
    }
}

/// Wraps a line into the stage's shell.
pub(super) fn in_shell(config: &RunConfig, line: String) -> Vec<String> {
    let shell = config.shell.clone().filter(|shell| !shell.is_empty());
    let mut args = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    args.push(line);
    args
}

/// The config and the text of Go's `%q` of it.
fn healthcheck(check: &Healthcheck) -> (HealthConfig, String) {
    let (test, options) = match check {
        Healthcheck::None => (vec!["NONE".to_owned()], HealthcheckOptions::default()),
        Healthcheck::Cmd { form, options } => {
            let mut test = vec![];
            match form {
                CommandForm::Exec(words) => {
                    test.push("CMD".to_owned());
                    test.extend(words.iter().map(|word| word.text.clone()));
                }
                CommandForm::Shell { command, .. } => {
                    test.push("CMD-SHELL".to_owned());
                    test.push(command.text.clone());
                }
            }
            (test, options.clone())
        }
    };
    let times = [
        options.interval,
        options.timeout,
        options.start_period,
        options.start_interval,
    ];
    let quoted: Vec<String> = times
        .iter()
        .map(|time| quote(&duration(time.unwrap_or_default())))
        .collect();
    let retries = options.retries.unwrap_or(0);
    let text = format!(
        "&{{{} {} {}}}",
        quote_all(&test),
        quoted.join(" "),
        quote_number(retries)
    );
    let nanos = |time: Option<std::time::Duration>| {
        i64::try_from(time.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
    };
    let config = HealthConfig {
        test,
        interval: nanos(options.interval),
        timeout: nanos(options.timeout),
        start_period: nanos(options.start_period),
        start_interval: nanos(options.start_interval),
        retries: i64::from(retries),
    };
    (config, text)
}
