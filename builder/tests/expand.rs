//! Quote removal and variable expansion, equal to BuildKit's shell word lexer.

use cooper_builder::dockerfile::{Lexer, process_heredoc, process_word, process_words};
use proptest::prelude::*;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "A" => "alpha",
        "EMPTY" => "",
        "TWO" => "one  two",
        "PATHS" => "/usr/lib:/usr/bin",
        "FILE" => "archive.tar.gz",
        "STARS" => "a*b?c\\d",
        "LINES" => "one\ntwo",
        "WORD" => "낱말",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn words() {
    let check = |word: &str, expected: &str| match process_word(word, &env, '\\') {
        Ok(found) => assert_eq!(found.text, expected, "{word}"),
        Err(error) => assert_eq!(format!("error: {error}"), expected, "{word}"),
    };
    // Quotes and escapes.
    check("a'b c'd", "ab cd");
    check("'$A\\'", "$A\\");
    check("\"$A 'x' \\$A \\\" \\\\ \\n\"", "alpha 'x' $A \" \\ \\n");
    check("\\$A \\'x \\n \\", "$A 'x n ");
    check("", "");
    check(
        "a'b",
        "error: unexpected end of statement while looking for matching single-quote",
    );
    check(
        "a\"b\\\"",
        "error: unexpected end of statement while looking for matching double-quote",
    );
    // Names.
    check("$A-x$A_$Ax", "alpha-x");
    check("$", "$");
    check("$.$", "$.$");
    check("${A}B", "alphaB");
    check("$1a $@@ $$A", "a @ A");
    check("${WORD}낱$WORD", "낱말낱낱말");
    check("${}", "error: syntax error: bad substitution");
    check("${:-x}", "error: syntax error: bad substitution");
    check("${{A}}", "error: syntax error: bad substitution");
    check("${", "error: syntax error: missing '}'");
    check("${A", "error: syntax error: missing '}'");
    check("${A:", "error: syntax error: missing '}'");
    check("${.}", "error: unsupported modifier (.) in substitution");
    check("${A=x}", "error: unsupported modifier (=) in substitution");
    check("${A:=x}", "error: unsupported modifier (:=) in substitution");
    check("${A:#x}", "error: unsupported modifier (:#) in substitution");
    // Conditions.
    check("${A:-x}${A-x}${A:+y}${A+y}", "alphaalphayy");
    check("${NO:-x}${NO-y}[${NO:+x}${NO+y}]", "xy[]");
    check("[${EMPTY-x}][${EMPTY:-x}][${EMPTY+x}][${EMPTY:+x}]", "[][x][x][]");
    check("${NO:-${EMPTY:-${A}'}'}}", "alpha}");
    check("${NO:-a b \"c}\"}", "a b c}");
    check("${NO?}", "error: NO: is not allowed to be unset");
    check("${NO?set it}x", "error: NO: set it");
    check("${EMPTY?}", "");
    check("${EMPTY:?}", "error: EMPTY: is not allowed to be empty");
    check("${EMPTY:?$A}", "error: EMPTY: alpha");
    check("${NO:-x", "error: syntax error: missing '}'");
    // Prefixes and suffixes.
    check("${PATHS#/usr}", "/lib:/usr/bin");
    check("${PATHS#*/}", "usr/lib:/usr/bin");
    check("${PATHS##*/}", "bin");
    check("${PATHS%/*}", "/usr/lib:/usr");
    check("${PATHS%%/*}", "");
    check("${FILE%.*}", "archive.tar");
    check("${FILE%%.*}", "archive");
    check("${FILE#nothing}${FILE%?}", "archive.tar.gzarchive.tar.g");
    check("${FILE%.[gt]z}", "archive.tar.gz");
    check("${STARS#a\\*}${STARS%c\\\\d}", "b?c\\da*b?");
    check(
        "${STARS#\\a}",
        "error: invalid pattern (\\a) in substitution: invalid escape '\\a'",
    );
    check("${LINES#*w}${LINES##*}", "one\ntwo\ntwo");
    check("${WORD#?}${WORD%말}", "말낱");
    check("[${NO#x}${NO%x}${NO/x/y}]", "[]");
    check("${FILE%$NO.gz}", "archive.tar");
    // Replacements.
    check("${PATHS/usr/opt}", "/opt/lib:/usr/bin");
    check("${PATHS//usr/opt}", "/opt/lib:/opt/bin");
    check("${PATHS//\\//.}", ".usr.lib:.usr.bin");
    check("${PATHS/u*r/x}", "/x/bin");
    check("${PATHS//[u]/x}", "/usr/lib:/usr/bin");
    check("${FILE/.*/}", "archive");
    check("${FILE/a/$A}", "alpharchive.tar.gz");
    // A dollar in the replacement is no reference to a group.
    check("${A//a/'$0'}", "$0lph$0");
    check("${A/a", "error: syntax error: missing '/' in ${}");
    check("${A/a/b", "error: syntax error: missing '}'");
}

#[test]
fn backtick_escapes() {
    let found = process_word("c:\\dir\\$A `$A \"`\"\\n\"", &env, '`').unwrap();
    assert_eq!(found.text, "c:\\dir\\alpha $A \"\\n");
}

#[test]
fn splitting() {
    let check = |word: &str, expected: &[&str]| {
        assert_eq!(process_words(word, &env, '\\').unwrap(), expected, "{word}");
    };
    check("  a b\\ c  ", &["a", "b c"]);
    check("$TWO\"$TWO\"'$TWO'", &["one", "twoone  two$TWO"]);
    check("$EMPTY \"\" $NO", &[]);
    check("<< EOF x", &["<< EOF", "x"]);
}

#[test]
fn heredoc_bodies_keep_quotes() {
    let found = process_heredoc("'$A' \"${NO:-x}\" \\$A it's\n", &env).unwrap();
    assert_eq!(found.text, "'alpha' \"x\" $A it's\n");
}

#[test]
fn names_are_reported() {
    let found = process_word("$A ${NO:-$TWO} ${A:-$OTHER}", &env, '\\').unwrap();
    assert_eq!(found.matched.iter().collect::<Vec<_>>(), ["A", "TWO"]);
    assert_eq!(found.unmatched.iter().collect::<Vec<_>>(), ["NO", "OTHER"]);
}

#[test]
fn errors_point_into_the_word() {
    let check = |word: &str, offset| {
        assert_eq!(
            process_word(word, &env, '\\').unwrap_err().offset,
            offset,
            "{word}"
        );
    };
    check("abc${}", 3);
    check("abc'x", 3);
    check("$A${A:=x}", 2);
    check("${A:-${B!}}", 5);
}

#[test]
fn hostile_words_are_refused() {
    let deep = "${A:-".repeat(100_000);
    assert!(process_word(&deep, &env, '\\').is_err());
    let closed = "${B:-".repeat(1000) + &"}".repeat(1000);
    let error = process_word(&closed, &env, '\\').unwrap_err();
    assert_eq!(error.message, "variables are nested more than 64 deep");
    let big = |_: &str| Some("x".repeat(1 << 20));
    assert!(
        process_word(&"$A".repeat(100), &big, '\\')
            .unwrap_err()
            .message
            .contains("longer than")
    );
    assert!(
        process_word("${A//x/$A}", &big, '\\')
            .unwrap_err()
            .message
            .contains("longer than")
    );
}

proptest! {
    #[test]
    fn never_panics(word in "([$\\{\\}:+#%/?*'\"\\\\<`-]|[ABab ]|\\PC){0,60}", flags: [bool; 4]) {
        let [raw_quotes, raw_escapes, skip_quotes, keep_unset] = flags;
        let lexer = Lexer { escape: '\\', raw_quotes, raw_escapes, skip_quotes, keep_unset };
        if let Err(error) = lexer.expand(&word, &env) {
            prop_assert!(error.offset <= word.len());
        }
        let _ = process_word(&word, &env, '`');
    }

    /// With everything kept, words without variables come out as they went in.
    #[test]
    fn raw_lexing_changes_nothing(word in "[ab' <\\\\]{0,30}") {
        let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::default() };
        if let Ok(found) = lexer.expand(&word, &env) {
            prop_assert_eq!(found.text, word);
        }
    }
}
