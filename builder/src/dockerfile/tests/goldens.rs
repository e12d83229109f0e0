//! Comparison with BuildKit's own parser tables, which are not part of this repository.
//!
//! Set `BUILDKIT_GOLDENS` to a directory with BuildKit's `parser/testfiles`, `parser/testfiles-negative`,
//! `shell/wordsTest` and `shell/envVarTest`. Our own cases, which pin the same behaviour, are in `testdata/dockerfiles`.

use std::fs;
use std::path::PathBuf;

use crate::dockerfile::ast::{Directives, Escape};
use crate::dockerfile::diagnostic::Diagnostics;
use crate::dockerfile::directive::DirectiveParser;
use crate::dockerfile::json::{self, Json};
use crate::dockerfile::lines::{Lines, LogicalLine, Piece};
use crate::dockerfile::words::{split_blank, split_first, split_flags, split_quoted};
use crate::dockerfile::{process_word, process_words};

fn goldens() -> Option<PathBuf> {
    let directory = std::env::var_os("BUILDKIT_GOLDENS").map(PathBuf::from);
    if directory.is_none() {
        println!("skipped: BUILDKIT_GOLDENS is not set");
    }
    directory
}

/// Go's `%q`, as far as the tables need it.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

fn strings(args: Piece<'_>) -> Option<Vec<String>> {
    match json::parse(args) {
        Json::Strings(words) => Some(words.into_iter().map(|word| word.text).collect()),
        _ => None,
    }
}

/// The tree of one line in the form of BuildKit's dumps.
fn dump(piece: Piece<'_>, escape: Escape) -> String {
    let (keyword, rest) = split_first(piece.trim());
    let (flags, args) = split_flags(rest);
    let args = args.trim();
    let plain = || {
        split_blank(args)
            .iter()
            .map(|word| word.text.to_owned())
            .collect::<Vec<_>>()
    };
    let one = || {
        if args.text.is_empty() {
            Vec::new()
        } else {
            vec![args.text.to_owned()]
        }
    };
    let words = match keyword.text.to_uppercase().as_str() {
        "ADD" | "COPY" | "VOLUME" => strings(args).unwrap_or_else(plain),
        "FROM" | "EXPOSE" => plain(),
        "ARG" => split_quoted(args, escape)
            .into_iter()
            .map(|word| word.text)
            .collect(),
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => strings(args).unwrap_or_else(one),
        "ENV" | "LABEL" => {
            let words = split_quoted(args, escape);
            if words.first().is_some_and(|word| !word.text.contains('=')) {
                let (key, value) = split_first(args);
                vec![key.text.to_owned(), value.text.to_owned(), String::new()]
            } else {
                let pair = |text: &str| {
                    text.split_once('=')
                        .map(|(k, v)| [k.to_owned(), v.to_owned(), "=".to_owned()])
                };
                words.iter().flat_map(|word| pair(&word.text).unwrap()).collect()
            }
        }
        "HEALTHCHECK" => {
            let (kind, rest) = split_first(args);
            let kind = if kind.text.is_empty() {
                Vec::new()
            } else {
                vec![kind.text.to_owned()]
            };
            let text = if rest.text.is_empty() {
                Vec::new()
            } else {
                vec![rest.text.to_owned()]
            };
            [kind, strings(rest).unwrap_or(text)].concat()
        }
        "ONBUILD" => return format!("(onbuild {})", dump(args, escape)),
        _ => one(),
    };
    let mut out = format!("({}", keyword.text.to_lowercase());
    if !flags.is_empty() {
        let flags: Vec<String> = flags.iter().map(|flag| quote(&flag.text)).collect();
        out += &format!(" [{}]", flags.join(" "));
    }
    for word in words {
        out += &format!(" {}", quote(&word));
    }
    out + ")"
}

fn dump_file(source: &[u8]) -> String {
    let mut out = Vec::new();
    let mut lines = Lines::new(source);
    let mut directives = Directives::default();
    let mut parser = DirectiveParser::default();
    let mut problems = Diagnostics::default();
    while let Some(line) = lines.next() {
        if line.is_comment() {
            parser.comment(&line, &mut directives, &mut problems);
            continue;
        }
        parser.finish();
        if !line.is_blank() {
            let line = LogicalLine::join(line, &mut lines, directives.escape, &mut problems.0);
            out.push(dump(line.piece(), directives.escape));
        }
    }
    assert_eq!(problems, Diagnostics::default());
    out.join("\n")
}

#[test]
fn parser_tables() {
    let Some(directory) = goldens() else { return };
    let mut seen = 0;
    for case in fs::read_dir(directory.join("parser/testfiles")).unwrap() {
        let case = case.unwrap().path();
        let expected = fs::read_to_string(case.join("result")).unwrap();
        let source = fs::read(case.join("Dockerfile")).unwrap();
        assert_eq!(dump_file(&source), expected.trim(), "{}", case.display());
        seen += 1;
    }
    for case in fs::read_dir(directory.join("parser/testfiles-negative")).unwrap() {
        let source = fs::read(case.unwrap().path().join("Dockerfile")).unwrap();
        assert!(
            crate::dockerfile::parse(&source, "Dockerfile")
                .unwrap_err()
                .has_errors()
        );
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn words_table() {
    let Some(directory) = goldens() else { return };
    let mut env: Vec<(String, String)> = Vec::new();
    let mut seen = 0;
    for line in fs::read_to_string(directory.join("shell/wordsTest"))
        .unwrap()
        .lines()
    {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        if let Some((name, value)) = line.strip_prefix("ENV ").and_then(|pair| pair.split_once('=')) {
            env.push((name.to_owned(), value.to_owned()));
            continue;
        }
        let (word, expected) = line.split_once('|').unwrap();
        let lookup = |name: &str| {
            env.iter()
                .rfind(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        let expected = expected.trim_start();
        match process_words(word.trim(), &lookup, '\\') {
            Ok(words) => assert_eq!(words.join(","), expected, "{word}"),
            Err(error) => assert_eq!("error", expected, "{word}: {error}"),
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn variables_table() {
    let Some(directory) = goldens() else { return };
    let env = [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("NULL", ""),
    ];
    let lookup = |name: &str| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let mut seen = 0;
    for line in fs::read_to_string(directory.join("shell/envVarTest"))
        .unwrap()
        .lines()
    {
        let fields: Vec<&str> = line.split('|').collect();
        let [platform, word, expected] = fields[..] else {
            continue;
        };
        if line.starts_with('#') || platform.trim() == "W" {
            continue;
        }
        match process_word(word.trim(), &lookup, '\\') {
            Ok(result) => assert_eq!(result.text, expected.trim(), "{word}"),
            Err(error) => assert_eq!("error", expected.trim(), "{word}: {error}"),
        }
        seen += 1;
    }
    assert!(seen > 180, "{seen}");
}
