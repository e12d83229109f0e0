//! Moves an instruction to another place.

use super::ast::{
    Add, ArgDecl, CommandForm, Copy, Healthcheck, Heredoc, Instruction, InstructionKind, KeyValue, Run, Word,
};
use super::span::Span;

impl Instruction {
    /// The same instruction with every place in it being `span`: a trigger of a base image is not in the Dockerfile, so
    /// what is said about it is said about the FROM that brings it.
    #[must_use]
    pub fn relocated(mut self, span: Span) -> Self {
        self.span = span;
        let mut at = |word: &mut Word| word.span = span;
        at(&mut self.keyword);
        for flag in &mut self.flags {
            flag.span = span;
            flag.value.iter_mut().for_each(&mut at);
        }
        match &mut self.kind {
            InstructionKind::Add(add) => self::add(add, span),
            InstructionKind::Arg(args) => {
                for ArgDecl { name, default, .. } in args {
                    at(name);
                    default.iter_mut().for_each(&mut at);
                }
            }
            InstructionKind::Copy(copy) => self::copy(copy, span),
            InstructionKind::Run(Run { form, flags }) => {
                command(form, span);
                flags.mounts.iter_mut().for_each(&mut at);
                flags.devices.iter_mut().for_each(&mut at);
                flags.network.iter_mut().for_each(&mut at);
                flags.security.iter_mut().for_each(&mut at);
            }
            InstructionKind::Cmd(form)
            | InstructionKind::Entrypoint(form)
            | InstructionKind::Healthcheck(Healthcheck::Cmd { form, .. }) => command(form, span),
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
                for KeyValue { key, value, .. } in pairs {
                    at(key);
                    at(value);
                }
            }
            InstructionKind::Expose(words)
            | InstructionKind::Shell(words)
            | InstructionKind::Volume(words) => words.iter_mut().for_each(&mut at),
            InstructionKind::Maintainer(word)
            | InstructionKind::StopSignal(word)
            | InstructionKind::User(word)
            | InstructionKind::Workdir(word) => at(word),
            InstructionKind::Onbuild(onbuild) => {
                *onbuild.trigger = (*onbuild.trigger).clone().relocated(span);
            }
            InstructionKind::Healthcheck(Healthcheck::None) => {}
        }
        self
    }
}

fn command(form: &mut CommandForm, span: Span) {
    match form {
        CommandForm::Shell { command, heredocs } => {
            command.span = span;
            documents(heredocs, span);
        }
        CommandForm::Exec(words) => words.iter_mut().for_each(|word| word.span = span),
    }
}

fn documents(list: &mut [Heredoc], span: Span) {
    for heredoc in list {
        (heredoc.span, heredoc.body, heredoc.terminator) = (span, span, span);
    }
}

fn add(add: &mut Add, span: Span) {
    documents(&mut add.heredocs, span);
    add.dest.span = span;
    let flags = [&mut add.chown, &mut add.chmod, &mut add.checksum];
    let words = flags.into_iter().flatten();
    for word in words.chain(&mut add.sources).chain(&mut add.excludes) {
        word.span = span;
    }
}

fn copy(copy: &mut Copy, span: Span) {
    documents(&mut copy.heredocs, span);
    copy.dest.span = span;
    let flags = [&mut copy.chown, &mut copy.chmod, &mut copy.from];
    let words = flags.into_iter().flatten();
    for word in words.chain(&mut copy.sources).chain(&mut copy.excludes) {
        word.span = span;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, parse_trigger};
    use super::*;

    /// Nothing of an instruction stays where it was; the debug form has every span.
    #[test]
    fn every_place_moves() {
        let target = Span {
            start: 7_654_321,
            end: 7_654_322,
            line: 9,
            column: 8,
        };
        for text in [
            "ADD --chown=a --chmod=1 --checksum=sha256:x --exclude=q --link a b /c",
            "COPY --from=x --chown=a --parents a <<E /c\nbody\nE\n",
            "RUN --mount=type=cache,target=/x --network=none --security=sandbox --device=a <<E\nbody\nE\n",
            "RUN [\"a\", \"b\"]",
            "ARG a=b c",
            "ENV a=b c=d",
            "LABEL a b",
            "EXPOSE 80 90",
            "SHELL [\"a\"]",
            "VOLUME a b",
            "USER a",
            "WORKDIR a",
            "STOPSIGNAL 9",
            "CMD a b",
            "ENTRYPOINT [\"a\"]",
            "HEALTHCHECK --interval=5s CMD a",
            "HEALTHCHECK NONE",
        ] {
            let moved = parse_trigger(text).unwrap().relocated(target);
            let shown = format!("{moved:?}");
            let spans = shown.matches("Span {").count();
            assert_eq!(shown.matches("start: 7654321").count(), spans, "{text}: {shown}");
        }
        let file = parse(b"FROM a\nONBUILD COPY a b\n", "Dockerfile").unwrap();
        let shown = format!("{:?}", file.stages[0].instructions[0].clone().relocated(target));
        assert_eq!(
            shown.matches("start: 7654321").count(),
            shown.matches("Span {").count()
        );
    }
}
