//! Command lines: RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK.

use std::time::Duration;

use super::super::ast::{
    CommandForm, Flag, Healthcheck, HealthcheckOptions, InstructionKind, Run, RunFlags, Word,
};
use super::super::diagnostic::Diagnostic;
use super::super::duration;
use super::super::json::{self, Json};
use super::super::lines::Piece;
use super::super::span::Span;
use super::super::suggest::nearest;
use super::build::Builder;
use super::flags::{self, Flags};

/// Docker refuses probes more frequent than this.
const MINIMUM: Duration = Duration::from_millis(1);

impl Builder<'_> {
    pub(super) fn command_form(&mut self, args: Piece<'_>) -> Option<CommandForm> {
        match json::parse(args) {
            Json::Strings(strings) => Some(CommandForm::Exec(
                strings.into_iter().map(|string| self.lexed(string)).collect(),
            )),
            Json::No => Some(CommandForm::Shell {
                command: self.word(args),
                heredocs: Vec::new(),
            }),
            Json::OtherElement(range) => {
                self.not_strings(range);
                None
            }
        }
    }

    pub(super) fn run(&mut self, args: Piece<'_>, flags: &[Flag]) -> Option<InstructionKind> {
        let flags = Flags::check(flags, flags::RUN, self);
        let network = flags.text("network");
        self.one_of(network.as_ref(), "network mode", &["default", "none", "host"]);
        let security = flags.text("security");
        self.one_of(security.as_ref(), "security mode", &["sandbox", "insecure"]);
        let flags = RunFlags {
            mounts: flags.texts("mount"),
            network,
            security,
            devices: flags.texts("device"),
        };
        let mut form = self.command_form(args)?;
        if let CommandForm::Shell { heredocs, .. } = &mut form {
            heredocs.clone_from(&self.heredocs);
        }
        Some(InstructionKind::Run(Run { form, flags }))
    }

    fn one_of(&mut self, value: Option<&Word>, what: &str, known: &[&'static str]) {
        if let Some(value) = value.filter(|value| !known.contains(&value.text.as_str())) {
            let problem = Diagnostic::error(value.span, format!("unsupported {what} {:?}", value.text));
            self.report(match nearest(&value.text, known.iter().copied()) {
                Some(near) => problem.with_suggestion(Some(near)),
                None => problem.with_help(format!("use one of {}", known.join(", "))),
            });
        }
    }

    pub(super) fn shell(&mut self, args: Piece<'_>, span: Span) -> Option<InstructionKind> {
        match self.command_form(args)? {
            CommandForm::Exec(words) => self
                .at_least_one("SHELL", words, span)
                .map(InstructionKind::Shell),
            CommandForm::Shell { command, .. } if command.text.is_empty() => self
                .at_least_one("SHELL", Vec::new(), span)
                .map(InstructionKind::Shell),
            CommandForm::Shell { .. } => {
                let problem = Diagnostic::error(span, "SHELL requires the arguments to be in JSON form");
                self.report(problem.with_help("for example SHELL [\"/bin/bash\", \"-c\"]"));
                None
            }
        }
    }

    pub(super) fn healthcheck(
        &mut self,
        args: Piece<'_>,
        flags: &[Flag],
        span: Span,
    ) -> Option<InstructionKind> {
        if args.text.is_empty() {
            self.error(span, "HEALTHCHECK requires at least one argument");
            return None;
        }
        let length = args.text.find(char::is_whitespace).unwrap_or(args.text.len());
        let kind = args.slice(0..length);
        let rest = args.from(length).trim();
        match kind.text.to_uppercase().as_str() {
            "NONE" if rest.text.is_empty() => Some(InstructionKind::Healthcheck(Healthcheck::None)),
            "NONE" => {
                let span = self.line.span(rest.range());
                self.error(span, "HEALTHCHECK NONE takes no arguments");
                None
            }
            "CMD" => {
                let flags = Flags::check(flags, flags::HEALTHCHECK, self);
                let options = self.healthcheck_options(&flags);
                let form = self.command_form(rest)?;
                let empty = match &form {
                    CommandForm::Exec(words) => words.is_empty(),
                    CommandForm::Shell { command, .. } => command.text.is_empty(),
                };
                if empty {
                    self.error(span, "missing command after HEALTHCHECK CMD");
                    return None;
                }
                Some(InstructionKind::Healthcheck(Healthcheck::Cmd { form, options }))
            }
            other => {
                let span = self.line.span(kind.range());
                self.error(span, format!("unknown type {other:?} in HEALTHCHECK (try CMD)"));
                None
            }
        }
    }

    fn healthcheck_options(&mut self, flags: &Flags<'_>) -> HealthcheckOptions {
        HealthcheckOptions {
            interval: self.interval(flags, "interval"),
            timeout: self.interval(flags, "timeout"),
            start_period: self.interval(flags, "start-period"),
            start_interval: self.interval(flags, "start-interval"),
            retries: self.retries(flags),
        }
    }

    fn interval(&mut self, flags: &Flags<'_>, name: &str) -> Option<Duration> {
        let word = flags.text(name).filter(|word| !word.text.is_empty())?;
        match duration::parse(&word.text) {
            Some(duration) if duration.is_zero() || duration >= MINIMUM => Some(duration),
            Some(_) => {
                self.error(word.span, format!("--{name} cannot be less than 1ms"));
                None
            }
            None => {
                let problem =
                    Diagnostic::error(word.span, format!("invalid duration {:?} in --{name}", word.text));
                self.report(problem.with_help("write a number with a unit, for example 30s or 1m30s"));
                None
            }
        }
    }

    fn retries(&mut self, flags: &Flags<'_>) -> Option<u32> {
        let word = flags.text("retries").filter(|word| !word.text.is_empty())?;
        match word.text.parse::<i32>().map(u32::try_from) {
            Ok(Ok(retries)) => Some(retries),
            Ok(Err(_)) => {
                self.error(word.span, format!("--retries cannot be negative ({})", word.text));
                None
            }
            Err(_) => {
                self.error(word.span, format!("invalid number {:?} in --retries", word.text));
                None
            }
        }
    }
}
