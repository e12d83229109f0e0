//! What holds for every file, however strange.

use std::time::{Duration, Instant};

use cooper_builder::dockerfile::{
    CommandForm, Dockerfile, InstructionKind, MAX_SOURCE, Severity, Span, Word, parse, parse_trigger,
};
use proptest::prelude::*;

fn check_span(source: &[u8], span: Span) -> Result<(), TestCaseError> {
    prop_assert!(
        span.start <= span.end && span.end <= source.len(),
        "{:?} in {} bytes",
        span,
        source.len()
    );
    let before = &source[..span.start];
    prop_assert_eq!(span.line, before.iter().filter(|&&b| b == b'\n').count() + 1);
    prop_assert_eq!(
        span.column,
        before.iter().rev().take_while(|&&b| b != b'\n').count() + 1
    );
    Ok(())
}

fn check_word(source: &[u8], word: &Word) -> Result<(), TestCaseError> {
    check_span(source, word.span)?;
    prop_assert!(word.text.len() <= 3 * word.span.len(), "{:?} has no source", word);
    Ok(())
}

fn check_file(source: &[u8], file: &Dockerfile) -> Result<(), TestCaseError> {
    prop_assert!(!file.stages.is_empty());
    for arg in &file.global_args {
        check_word(source, &arg.name)?;
    }
    for stage in &file.stages {
        check_span(source, stage.span)?;
        check_word(source, &stage.base)?;
        for instruction in &stage.instructions {
            check_span(source, instruction.span)?;
            check_word(source, &instruction.keyword)?;
            for flag in &instruction.flags {
                check_span(source, flag.span)?;
                flag.value
                    .iter()
                    .try_for_each(|value| check_word(source, value))?;
            }
            for (word, _) in instruction.kind.expandable() {
                check_word(source, word)?;
            }
            if let InstructionKind::Run(run) = &instruction.kind {
                match &run.form {
                    CommandForm::Exec(words) => words.iter().try_for_each(|word| check_word(source, word))?,
                    CommandForm::Shell { command, heredocs } => {
                        check_word(source, command)?;
                        for heredoc in heredocs {
                            check_span(source, heredoc.span)?;
                            check_span(source, heredoc.terminator)?;
                            prop_assert_eq!(&source[heredoc.body.range()], heredoc.content.as_bytes());
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn check(source: &[u8]) -> Result<(), TestCaseError> {
    match parse(source, "Dockerfile") {
        Ok(file) => {
            check_file(source, &file)?;
            prop_assert_eq!(
                file.warnings.is_empty(),
                file.warnings.render(source, "Dockerfile").is_empty()
            );
        }
        Err(diagnostics) => {
            prop_assert!(diagnostics.has_errors());
            for diagnostic in diagnostics.iter() {
                check_span(source, diagnostic.span)?;
            }
            let rendered = diagnostics.render(source, "Dockerfile");
            prop_assert!(
                !rendered.chars().any(|c| c.is_control() && c != '\n'),
                "{}",
                rendered
            );
        }
    }
    Ok(())
}

/// Lines that are nearly instructions.
fn dockerfile() -> impl Strategy<Value = String> {
    let word =
        "(--?[a-z]{1,6}(=[a-z$\\{\\}\"']{0,4})?|[a-zA-Z=$\\{\\}:\"'\\[\\],.<\\\\-]{1,8}|<<-?['\"]?E['\"]?|E)";
    let keyword = prop::sample::select(vec![
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ARG",
        "LABEL",
        "CMD",
        "ONBUILD",
        "ONBUILD RUN",
        "ONBUILD COPY",
        "EXPOSE",
        "HEALTHCHECK CMD",
        "VOLUME",
        "SHELL",
        "#",
        "# escape=`",
        "E",
        "",
        "run [\"x\"]",
        "FROM a AS b",
    ]);
    let line = (
        keyword,
        prop::collection::vec(word, 0..5),
        prop::sample::select(vec!["", "\\", "`", " \\ ", "\r"]),
    )
        .prop_map(|(keyword, words, end)| format!("{keyword} {}{end}\n", words.join(" ")));
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes(source: Vec<u8>) {
        check(&source)?;
    }

    #[test]
    fn nearly_dockerfiles(body in dockerfile()) {
        check(format!("FROM scratch\n{body}").as_bytes())?;
        check(body.as_bytes())?;
        let _ = parse_trigger(&body);
    }

    /// What an instruction says of its own text parses to itself again.
    #[test]
    fn text_parses_to_itself(body in dockerfile()) {
        let source = format!("FROM scratch\n{body}");
        let Ok(file) = parse(source.as_bytes(), "Dockerfile") else { return Ok(()) };
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            if source[instruction.span.range()] != instruction.text || instruction.text.ends_with(['\\', '`']) {
                continue;
            }
            let again = format!("FROM scratch\n{}\n", instruction.text);
            let again = if source.contains("# escape=`") { format!("# escape=`\n{again}") } else { again };
            let Ok(again) = parse(again.as_bytes(), "Dockerfile") else { continue };
            prop_assert_eq!(&again.stages[0].instructions[0].text, &instruction.text);
            prop_assert_eq!(
                again.stages[0].instructions[0].kind.expandable().len(),
                instruction.kind.expandable().len()
            );
        }
    }
}

#[test]
fn hostile_files_are_linear() {
    let many = |unit: &str| unit.repeat((512 << 10) / unit.len());
    let started = Instant::now();
    for body in [
        many("RUN x\n"),
        many("x "),
        many("A=b "),
        many("\"'"),
        many("<<A "),
        many("<<${a:-\"b\"} "),
        many("${a:-"),
        many("--x=y "),
        many("\\\n"),
        many("\\\n\n"),
        many("#\n"),
        many("["),
        many("[\"a\","),
        many("\u{300}"),
        many("ONBUILD "),
    ] {
        for keyword in [
            "FROM a\nRUN ",
            "FROM a\nCOPY ",
            "FROM a\nENV ",
            "FROM a\nCMD [",
            "",
        ] {
            let source = format!("{keyword}{body}");
            if let Err(diagnostics) = parse(source.as_bytes(), "Dockerfile") {
                assert!(diagnostics.render(source.as_bytes(), "Dockerfile").len() < 1 << 20);
            }
        }
    }
    // A quadratic step would take far longer.
    assert!(
        started.elapsed() < Duration::from_secs(120),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn whole_files_that_are_refused() {
    let check = |source: &[u8], expected: &str| {
        let error = parse(source, "sub/Dockerfile").unwrap_err();
        assert_eq!(error.0[0].severity, Severity::Error);
        assert_eq!(error.0[0].message, expected);
    };
    check(b"", "the Dockerfile (sub/Dockerfile) cannot be empty");
    check(b"\xff\xfeF\0R\0", "the Dockerfile (sub/Dockerfile) is UTF-16");
    check(
        &vec![b'\n'; MAX_SOURCE + 1],
        "the Dockerfile (sub/Dockerfile) is longer than 16777216 bytes",
    );
}

#[test]
fn triggers() {
    let check = |text: &str, expected: &str| match parse_trigger(text) {
        Ok(instruction) => assert_eq!(instruction.text, expected),
        Err(error) => assert_eq!(error.0[0].message, expected, "{text}"),
    };
    check("COPY --from=x . /app", "COPY --from=x . /app");
    check("RUN <<EOF\necho\nEOF", "RUN <<EOF");
    check("RUN a\nRUN b", "an ONBUILD trigger is one instruction");
    check("FROM x", "FROM isn't allowed as an ONBUILD trigger");
    check(" ", "empty ONBUILD trigger");
    check("RNU x", "unknown instruction: RNU");
}
