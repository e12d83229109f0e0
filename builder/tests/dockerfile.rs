//! Runs the cases of `testdata/dockerfiles`: each has a `Dockerfile` and the `expected` tree or diagnostics.
//!
//! `BLESS=1 cargo test -p cooper-builder --test dockerfile` rewrites what is expected; read the difference before you commit.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use cooper_builder::dockerfile::{
    ArgDecl, CommandForm, Dockerfile, Healthcheck, Heredoc, Instruction, InstructionKind, KeyValue, Word,
    parse,
};

#[test]
fn cases() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dockerfiles");
    let mut failures = String::new();
    let mut seen = 0;
    for case in fs::read_dir(&directory).expect("testdata/dockerfiles is there") {
        let case = case.unwrap().path();
        let source = fs::read(case.join("Dockerfile")).unwrap();
        let found = describe(&source);
        let file = case.join("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &found).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if found != expected {
            writeln!(
                failures,
                "{}:\n--- expected\n{expected}\n--- found\n{found}",
                case.display()
            )
            .unwrap();
        }
        seen += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(seen >= 15, "only {seen} cases were found");
}

fn describe(source: &[u8]) -> String {
    match parse(source, "Dockerfile") {
        Ok(file) => {
            let mut out = dump(&file);
            if !file.warnings.is_empty() {
                write!(out, "\n{}", file.warnings.render(source, "Dockerfile")).unwrap();
            }
            out
        }
        Err(diagnostics) => diagnostics.render(source, "Dockerfile"),
    }
}

fn dump(file: &Dockerfile) -> String {
    let mut out = String::new();
    if let Some(syntax) = &file.directives.syntax {
        writeln!(out, "# syntax {:?}", syntax.text).unwrap();
    }
    if file.directives.check != Default::default() {
        writeln!(out, "# {:?}", file.directives.check).unwrap();
    }
    for arg in &file.global_args {
        writeln!(out, "ARG {}", arg_decl(arg)).unwrap();
    }
    for stage in &file.stages {
        let name = stage
            .name
            .as_ref()
            .map(|name| format!(" as {name:?}"))
            .unwrap_or_default();
        let platform = stage
            .platform
            .as_ref()
            .map(|word| format!(" platform {:?}", word.text))
            .unwrap_or_default();
        let doc = stage
            .doc
            .as_ref()
            .map(|doc| format!(" doc {doc:?}"))
            .unwrap_or_default();
        writeln!(
            out,
            "{}: FROM {:?}{name}{platform}{doc}",
            stage.span.line, stage.base.text
        )
        .unwrap();
        for instruction in &stage.instructions {
            writeln!(
                out,
                "{}: {}",
                instruction.span.line,
                describe_instruction(instruction)
            )
            .unwrap();
        }
    }
    out
}

fn describe_instruction(instruction: &Instruction) -> String {
    let flags: String = instruction
        .flags
        .iter()
        .map(|flag| {
            format!(
                " [{}={:?}]",
                flag.name,
                flag.value.as_ref().map(|value| &value.text)
            )
        })
        .collect();
    let operands = match &instruction.kind {
        InstructionKind::Add(add) => files(&add.sources, &add.heredocs, &add.dest),
        InstructionKind::Copy(copy) => files(&copy.sources, &copy.heredocs, &copy.dest),
        InstructionKind::Arg(args) => args.iter().map(arg_decl).collect::<Vec<_>>().join(" "),
        InstructionKind::Cmd(form) | InstructionKind::Entrypoint(form) => command(form),
        InstructionKind::Run(run) => command(&run.form),
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
            pairs.iter().map(pair).collect::<Vec<_>>().join(" ")
        }
        InstructionKind::Expose(words) | InstructionKind::Shell(words) | InstructionKind::Volume(words) => {
            list(words)
        }
        InstructionKind::Healthcheck(Healthcheck::None) => "none".to_owned(),
        InstructionKind::Healthcheck(Healthcheck::Cmd { form, options }) => {
            format!("{} {options:?}", command(form))
        }
        InstructionKind::Onbuild(onbuild) => {
            format!(
                "{:?} -> {}",
                onbuild.expression,
                describe_instruction(&onbuild.trigger)
            )
        }
        InstructionKind::Maintainer(word)
        | InstructionKind::StopSignal(word)
        | InstructionKind::User(word)
        | InstructionKind::Workdir(word) => format!("{:?}", word.text),
    };
    format!("{}{flags} {operands}", instruction.keyword.text.to_uppercase())
        .trim_end()
        .to_owned()
}

fn list(words: &[Word]) -> String {
    words
        .iter()
        .map(|word| format!("{:?}", word.text))
        .collect::<Vec<_>>()
        .join(" ")
}

fn command(form: &CommandForm) -> String {
    match form {
        CommandForm::Exec(words) => format!("exec {}", list(words)).trim_end().to_owned(),
        CommandForm::Shell { command, heredocs } => format!("shell {:?}{}", command.text, bodies(heredocs)),
    }
}

fn files(sources: &[Word], heredocs: &[Heredoc], dest: &Word) -> String {
    format!("{} -> {:?}{}", list(sources), dest.text, bodies(heredocs))
}

fn bodies(heredocs: &[Heredoc]) -> String {
    let body = |heredoc: &Heredoc| {
        let expand = if heredoc.expand { "" } else { " literal" };
        format!(
            "\n      {}<<{:?}{expand} {:?}",
            heredoc.fd,
            heredoc.name,
            heredoc.body()
        )
    };
    heredocs.iter().map(body).collect()
}

fn pair(pair: &KeyValue) -> String {
    let equals = if pair.legacy { " " } else { "=" };
    format!("{:?}{equals}{:?}", pair.key.text, pair.value.text)
}

fn arg_decl(arg: &ArgDecl) -> String {
    let default = arg
        .default
        .as_ref()
        .map(|word| format!("={:?}", word.text))
        .unwrap_or_default();
    let doc = arg
        .doc
        .as_ref()
        .map(|doc| format!(" doc {doc:?}"))
        .unwrap_or_default();
    format!("{:?}{default}{doc}", arg.name.text)
}

mod stages {
    use cooper_builder::dockerfile::{
        StageError, detect_syntax, parse, resolve_base, resolve_stage, resolve_target, suggest_stage,
    };

    #[test]
    fn references() {
        let source = b"FROM scratch AS Base\nFROM base\nFROM x AS dup\nFROM y AS DUP\nFROM z AS last\n";
        let stages = parse(source, "Dockerfile").unwrap().stages;
        let later = |name: &str| {
            Err(StageError::NotEarlier {
                name: name.to_owned(),
            })
        };
        let check = |name: &str, current, expected| {
            assert_eq!(resolve_stage(&stages, name, current), expected, "{name}");
        };
        check("base", 1, Ok(Some(0)));
        check("BASE", 4, Ok(Some(0)));
        check("dup", 4, Ok(Some(3)));
        check("dup", 3, Ok(Some(2)));
        check("1", 4, Ok(Some(1)));
        check("alpine", 4, Ok(None));
        check("last", 1, later("last"));
        check(
            "last",
            4,
            Err(StageError::Circular {
                name: "last".to_owned(),
            }),
        );
        check("4", 4, Err(StageError::Circular { name: "4".to_owned() }));
        check("4", 0, later("4"));
        check("5", 4, Err(StageError::NoSuchIndex { index: 5, stages: 5 }));
        check("-1", 4, Ok(None));
        assert_eq!(resolve_base(&stages, "Base", 1), Some(0));
        assert_eq!(resolve_base(&stages, "last", 1), None);
        assert_eq!(resolve_base(&stages, "0", 1), None);
        assert_eq!(resolve_target(&stages, "dup"), Some(3));
        assert_eq!(resolve_target(&stages, "0"), Some(0));
        assert_eq!(resolve_target(&stages, "9"), None);
        assert_eq!(suggest_stage(&stages, "bsae"), Some("base"));
    }

    #[test]
    fn syntax_detection() {
        let check = |source: &str, expected: Option<&str>| {
            assert_eq!(
                detect_syntax(source.as_bytes()).map(|word| word.text).as_deref(),
                expected,
                "{source}"
            );
        };
        check(
            "# syntax=docker/dockerfile:1\nFROM a",
            Some("docker/dockerfile:1"),
        );
        check("#!/usr/bin/env x\n# escape=`\n#SYNTAX = a b \n", Some("a b"));
        check("// syntax=a", Some("a"));
        check("{\"syntax\": \"a\"}", Some("a"));
        check("\n# syntax=a", None);
        check("# hello\n# syntax=a", None);
        check("# syntax=\n", None);
    }
}

mod rendering {
    use cooper_builder::dockerfile::{Diagnostic, Diagnostics, Span};

    fn check(source: &str, range: std::ops::Range<usize>, expected: &str) {
        let before = &source[..range.start];
        let line = before.matches('\n').count() + 1;
        let column = range.start - before.rfind('\n').map_or(0, |i| i + 1) + 1;
        let span = Span {
            start: range.start,
            end: range.end,
            line,
            column,
        };
        let rendered = Diagnostics::from(Diagnostic::error(span, "x")).render(source.as_bytes(), "f");
        assert_eq!(rendered, format!("error: x\n  --> f:{line}:{column}\n{expected}"));
    }

    #[test]
    fn carets() {
        check("ab cd", 3..5, "  |\n1 | ab cd\n  |    ^^\n");
        check("ab", 2..2, "  |\n1 | ab\n  |   ^\n");
        check("ab\n", 0..0, "  |\n1 | ab\n  | ^\n");
        check("", 0..0, "");
        check("a\tb", 2..3, "  |\n1 | a   b\n  |     ^\n");
        check("한국 b", 3..6, "  |\n1 | 한국 b\n  |   ^^\n");
        check("e\u{301}b", 3..4, "  |\n1 | e\u{301}b\n  |  ^\n");
        check(
            "a\r\n  b\n c",
            0..9,
            "  |\n1 | a\n  | ^\n2 |   b\n  |   ^\n3 |  c\n  |  ^\n",
        );
        check(&"l\n".repeat(12), 0..24, &{
            let shown: String = (1..=6).map(|i| format!("{i:2} | l\n   | ^\n")).collect();
            format!("   |\n{shown}...| 6 more lines\n").replace("...|", "... |")
        });
        let long = format!("{} {}x{}", "한".repeat(100), "a".repeat(60), "b".repeat(1000));
        let at = 300 + 61;
        let expected = format!(
            "  |\n1 | ...{}x{}...\n  | {}^\n",
            "a".repeat(40),
            "b".repeat(119),
            " ".repeat(43)
        );
        check(&long, at..at + 1, &expected);
    }
}

mod checks {
    use std::collections::{BTreeMap, BTreeSet};

    use cooper_builder::dockerfile::{Facts, lint, parse};
    use cooper_builder::ignore::Patterns;

    fn check(source: &str, expected: &[&str]) {
        check_with(source, &Facts::default(), expected);
    }

    fn check_with(source: &str, facts: &Facts<'_>, expected: &[&str]) {
        let found = lint(&parse(source.as_bytes(), "Dockerfile").unwrap(), facts);
        let rules: Vec<String> = found
            .iter()
            .map(|d| format!("{}:{} {}", d.span.line, d.span.column, d.rule.unwrap()))
            .collect();
        assert_eq!(rules, expected, "{source}");
    }

    #[test]
    fn rules() {
        check(
            "FROM a AS b\nWORKDIR /x\nWORKDIR y\nCMD [\"z\"]\nEXPOSE 80/tcp $P\n",
            &[],
        );
        check("FROM a AS Bc", &["1:11 StageNameCasing"]);
        check("FROM a as b\nRUN x", &["1:8 FromAsCasing"]);
        check("from a AS b\nrun x", &["1:8 FromAsCasing"]);
        check(
            "FROM a AS b\nFROM a AS B",
            &["2:11 StageNameCasing", "2:11 DuplicateStageName"],
        );
        check("FROM a AS scratch", &["1:11 ReservedStageName"]);
        check(
            "FROM a\nRUN x\nrun y\nCopy a b",
            &[
                "3:1 ConsistentInstructionCasing",
                "4:1 ConsistentInstructionCasing",
            ],
        );
        check("from a\nrun x\nRUN y", &["3:1 ConsistentInstructionCasing"]);
        check(
            "FROM a\nCMD x\nENTRYPOINT x",
            &["2:5 JSONArgsRecommended", "3:12 JSONArgsRecommended"],
        );
        check("FROM a\nSHELL [\"x\"]\nCMD x", &[]);
        check("FROM a\nMAINTAINER x", &["2:1 MaintainerDeprecated"]);
        check(
            "ARG TAG=1\nFROM a:$TGA\nFROM --platform=$BUILDPLATFORM a:$TAG",
            &["2:6 UndefinedArgInFrom"],
        );
        check(
            "FROM a AS x\nWORKDIR y\nFROM b\nWORKDIR /z\nFROM x\nWORKDIR w",
            &["2:9 WorkdirRelativePath"],
        );
        check("FROM a AS x\nWORKDIR /y\nFROM x\nWORKDIR w", &[]);
        check(
            "FROM a\nCMD [\"a\"]\nCMD [\"b\"]\nCMD [\"c\"]",
            &[
                "2:1 MultipleInstructionsDisallowed",
                "3:1 MultipleInstructionsDisallowed",
            ],
        );
        check(
            "FROM a\nENV a b\nLABEL c d",
            &["2:5 LegacyKeyValueFormat", "3:7 LegacyKeyValueFormat"],
        );
        check(
            "FROM --platform=$TARGETPLATFORM a",
            &["1:17 RedundantTargetPlatform"],
        );
        check(
            "FROM --platform=linux/amd64 a",
            &["1:17 FromPlatformFlagConstDisallowed"],
        );
        check("FROM --platform=linux/amd64 a AS build_amd64", &[]);
        check(
            "FROM a\nENV API_KEY=x PUBLIC_KEY=y MONKEY=z\nARG token",
            &["2:5 SecretsUsedInArgOrEnv", "3:5 SecretsUsedInArgOrEnv"],
        );
        check(
            "FROM a\nEXPOSE 80/TCP 127.0.0.1:1:2",
            &["2:8 ExposeProtoCasing", "2:15 ExposeInvalidFormat"],
        );
        check(
            "# check=skip=StageNameCasing,x\nFROM a AS B\nMAINTAINER x",
            &["3:1 MaintainerDeprecated"],
        );
        check("# check=skip=all\nFROM a AS B", &[]);
        check("FROM a\nRUN a \\\n\nb", &["3:1 NoEmptyContinuation"]);
    }

    /// Variables are known from base images, ARG, ENV and earlier stages; a base that is not known hides nothing else.
    #[test]
    fn variables() {
        let known = BTreeMap::from([(0, BTreeSet::from(["LANG".to_owned()]))]);
        let facts = Facts {
            base_variables: Some(&known),
            ..Facts::default()
        };
        let check = |source: &str, expected: &[&str]| check_with(source, &facts, expected);
        check("FROM a\nENV x=$LANG y=$PATH\nLABEL z=$x\n", &[]);
        check("FROM a\nENV x=$LNAG\n", &["2:7 UndefinedVar"]);
        check("FROM a\nENV x=1 y=$x\n", &["2:11 UndefinedVar"]);
        check("FROM a\nARG x y=$x\nCOPY $y $z /\n", &["3:9 UndefinedVar"]);
        // A default does not help, as in BuildKit 0.26.
        check("FROM a\nARG x\nENV y=${x:-1} z=${w:-2}\n", &["3:17 UndefinedVar"]);
        check(
            "FROM a AS b\nARG v\nFROM b\nUSER $v\nWORKDIR /$w\n",
            &["5:9 UndefinedVar"],
        );
        check("FROM other\nFROM unknown\nENV x=$y\n", &[]);
        check("FROM scratch\nEXPOSE $p\n", &["2:8 UndefinedVar"]);
        check(
            "FROM a\nRUN --mount=type=cache,target=/c/$id,from=$no true\n",
            &["2:13 UndefinedVar"],
        );
        check("FROM a\nRUN echo $undefined\nCMD [\"$u\"]\n", &[]);
        check(
            "FROM a\nCOPY <<x <<'y' /d/\n$q\nx\n$r\ny\n",
            &["2:6 UndefinedVar"],
        );
    }

    #[test]
    fn default_arguments() {
        check("ARG T\nFROM a:$T\n", &["2:6 InvalidDefaultArgInFrom"]);
        check("ARG T=1\nFROM a:$T\n", &[]);
        check("ARG B\nFROM $B\n", &["2:6 InvalidDefaultArgInFrom"]);
        check("ARG B=a C=$B\nFROM ${C}\n", &[]);
        check("ARG B\nFROM ${B:-a}\n", &[]);
    }

    #[test]
    fn ignored_files() {
        let check = |ignore: &str, source: &str, expected: &[&str]| {
            let patterns = Patterns::parse(ignore.as_bytes()).unwrap();
            let facts = Facts {
                ignore: Some(&patterns),
                ..Facts::default()
            };
            check_with(source, &facts, expected);
        };
        check("a\n", "FROM x\nCOPY a b /\n", &["2:6 CopyIgnoredFile"]);
        check(
            "a/\n",
            "FROM x\nCOPY ./a/b /\nADD /a/ /\n",
            &["2:6 CopyIgnoredFile", "3:5 CopyIgnoredFile"],
        );
        check("a\n!a/b\n", "FROM x\nCOPY a /\n", &[]);
        check(
            "*\n",
            "FROM x AS y\nFROM x\nCOPY --from=y a /\nCOPY . /\nADD https://a/b /\n",
            &[],
        );
    }

    #[test]
    fn skipped_in_a_part_of_the_file() {
        check(
            "FROM x\n# check=skip=MaintainerDeprecated\nMAINTAINER a\nMAINTAINER b\n",
            &["4:1 MaintainerDeprecated"],
        );
        check(
            "FROM x\n# check=skip=all\n\nMAINTAINER a\n",
            &["4:1 MaintainerDeprecated"],
        );
        check(
            "ARG a\n# check=skip=StageNameCasing,MaintainerDeprecated\nFROM x AS A\nMAINTAINER a\nFROM x AS B\n",
            &["5:11 StageNameCasing"],
        );
    }

    /// Rules that run only when asked for.
    #[test]
    fn experimental() {
        check("# what\nFROM a AS b\nRUN date\n", &[]);
        let on = "# check=experimental=all\n";
        let check = |source: &str, expected: &[&str]| check(&format!("{on}\n{source}"), expected);
        let digest = format!("a@sha256:{}", "0".repeat(64));
        check("FROM a\nFROM scratch\n", &["3:6 UnpinnedBaseImage"]);
        check(&format!("FROM {digest} AS b\nFROM b\n"), &[]);
        check(
            "# nothing here\nFROM scratch AS b\n# b is\nARG c\n# c is\nARG c\n\n# free\n\nARG d\n",
            &[
                "3:2 InvalidDefinitionDescription",
                "5:2 InvalidDefinitionDescription",
            ],
        );
        check(
            "# x is\nARG y=1\nFROM scratch\n",
            &["3:2 InvalidDefinitionDescription"],
        );
        check(
            "FROM scratch\nRUN <<E\na\nb\nE\nRUN <<E\nset -eu\na\nb\nE\nRUN <<E\na\nE\nRUN <<E\n#!/usr/bin/env python\na\nb\nE\n",
            &["4:5 HeredocWithoutErrexit"],
        );
        check(
            "FROM scratch\nRUN a && date > x\nRUN apt-get -y upgrade\nRUN apt-get install x\nRUN echo $RANDOM\nRUN update\nRUN A=b curl x\n",
            &[
                "4:5 NonDeterministicRun",
                "5:5 NonDeterministicRun",
                "7:5 NonDeterministicRun",
                "9:5 NonDeterministicRun",
            ],
        );
    }

    #[test]
    fn only_some_stages() {
        let stages = BTreeSet::from([1]);
        let facts = Facts {
            stages: Some(&stages),
            ..Facts::default()
        };
        check_with(
            "FROM a\nMAINTAINER x\nFROM b\nMAINTAINER y\n",
            &facts,
            &["4:1 MaintainerDeprecated"],
        );
    }
}
