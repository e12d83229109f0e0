//! Path patterns. The expectations were checked against Docker 28.5 copying the same trees.

use cooper_builder::ignore::{BadPattern, IgnoreErrorKind, Patterns, glob_match};
use proptest::prelude::*;

#[test]
fn ignored_paths() {
    let check = |patterns: &str, path: &str, expected: bool| {
        let found = Patterns::parse(patterns.as_bytes())
            .unwrap()
            .is_ignored(path.as_bytes());
        assert_eq!(found, expected, "{patterns:?} {path:?}");
    };
    // Plain names hold at the top only, and for all below.
    check("a", "a", true);
    check("a", "a/b/c", true);
    check("a", "x/a", false);
    check("/a", "a", true);
    check("a/", "a", true);
    check("./x/../a", "a", true);
    check("../a", "a", false);
    check(".", "a", false);
    check("*", ".", false);
    // Stars.
    check("*.go", "a.go", true);
    check("*.go", "x/a.go", false);
    check("*/a", "x/a", true);
    check("*/a", "x/y/a", false);
    check("*/a", "x/a/y", true);
    check("x/*", "x", false);
    check("a?b", "a/b", false);
    check("a?b", "a한b", true);
    check("[a-c]x", "bx", true);
    check("[^a]x", "bx", true);
    check("[^a]x", "ax", false);
    check("d\\[1]", "d[1]", true);
    check("d[1]", "d1", true);
    check("a.b", "aXb", false);
    check("a+(b)|{c}$", "a+(b)|{c}$", true);
    // Any depth.
    check("**", "x/y", true);
    check("**/a", "a", true);
    check("**/a", "x/y/a/z", true);
    check("**/a", "xa", false);
    check("**a", "xa", true);
    check("**/*.go", "x/y.go", true);
    check("x/**", "x", false);
    check("x/**", "x/y/z", true);
    check("x/**/a", "x/a", true);
    check("x/**/a", "x/y/z/a", true);
    check("x**/a", "xy/a", true);
    check("x**a", "xya", false);
    check("**/**", "x/y", true);
    check("**/x/**", "a/x/b", true);
    check("**/.*", "x/.git/config", true);
    check("***", "x/y", true);
    check("*".repeat(500).as_str(), &"x/".repeat(500), true);
    // Exceptions: the last match wins.
    check("*\n!x", "x/y", false);
    check("*\n!x\nx/y", "x/y/z", true);
    check("*.md\n!README.md", "README.md", false);
    check("!README.md\n*.md", "README.md", true);
    check("x\n!x/y", "x/y/a", false);
    check("x\n!x/y", "x/z", true);
    check("*\n! x", "x", false);
    // An exception for a parent does not bring back what a later pattern excludes on its own level.
    check("foo/bar\n!foo", "foo/bar/one", true);
    check("foo/bar\n!foo/bar", "foo/bar/one", false);
    // Lines.
    check("# a\n\n \t\r\n  a  \r\n", "a", true);
    check("#a", "#a", false);
    check(" #a", "#a", true);
    check("\u{feff}a", "a", true);
}

#[test]
fn bytes_that_are_not_characters() {
    let patterns = Patterns::parse(b"caf\xe9\n?\xff*").unwrap();
    assert!(patterns.is_ignored(b"caf\xe9"));
    assert!(!patterns.is_ignored(b"caf\xe8"));
    assert!(patterns.is_ignored(b"x\xff\xfe"));
}

#[test]
fn bad_patterns_name_their_line() {
    let check = |text: &str, line, kind| {
        let error = Patterns::parse(text.as_bytes()).unwrap_err();
        assert_eq!((error.line, error.kind), (line, kind), "{text:?}");
    };
    let bad = || IgnoreErrorKind::BadPattern(BadPattern);
    check("a\n# c\n[", 3, bad());
    check("a[]", 1, bad());
    check("a[b-", 1, bad());
    check("[-x]", 1, bad());
    check("[a-]", 1, bad());
    check("a\\", 1, bad());
    check("\n!\n", 2, IgnoreErrorKind::EmptyException);
    check("! \n", 1, IgnoreErrorKind::EmptyException);
    check(&"a".repeat(5000), 1, IgnoreErrorKind::TooMuch);
}

#[test]
fn walks_descend_for_exceptions_only() {
    let check = |patterns: &str, directory: &str, expected: bool| {
        let found = Patterns::parse(patterns.as_bytes())
            .unwrap()
            .may_have_exceptions_below(directory.as_bytes());
        assert_eq!(found, expected, "{patterns:?} {directory:?}");
    };
    check("x", "x", false);
    check("x\n!x/y/z", "x", true);
    check("x\n!x/y/z", "x/y", true);
    check("x\n!x/y/z", "x/y/z", false);
    check("x\n!xy/z", "x", false);
    check("x\n!**/z", "x", true);
    check("x\n!*/z", "x", true);
}

#[test]
fn glob() {
    let check = |pattern: &str, name: &str, expected: Result<bool, BadPattern>| {
        assert_eq!(
            glob_match(pattern.as_bytes(), name.as_bytes()),
            expected,
            "{pattern:?} {name:?}"
        );
    };
    check("", "", Ok(true));
    check("abc", "abc", Ok(true));
    check("*", "abc", Ok(true));
    check("*", "a/b", Ok(false));
    check("*c", "abc", Ok(true));
    check("a*/b", "abc/b", Ok(true));
    check("a*/b", "a/c/b", Ok(false));
    check("a*b*c*d*e*/f", "axbxcxdxexxx/f", Ok(true));
    check("a*b?c*x", "abxbbxdbxebxczzx", Ok(true));
    check("a*b?c*x", "abxbbxdbxebxczzy", Ok(false));
    check("a**b", "axxb", Ok(true));
    check("a**b", "a/b", Ok(false));
    check("a?b", "a☺b", Ok(true));
    check("a[^a]b", "a☺b", Ok(true));
    check("a[^a]b", "a/b", Ok(true));
    check("[!a]", "!", Ok(true));
    check("[a-ζ]*", "α", Ok(true));
    check("[\\]a]", "]", Ok(true));
    check("[\\-x]", "-", Ok(true));
    check("a\\*b", "a*b", Ok(true));
    check("a]", "a]", Ok(true));
    check("[]a]", "]", Err(BadPattern));
    check("[x-]", "x", Err(BadPattern));
    check("[a-b-c]", "a", Err(BadPattern));
    check("[", "a", Err(BadPattern));
    check("[^", "a", Err(BadPattern));
    check("[^bc", "a", Err(BadPattern));
    check("a[", "ab", Err(BadPattern));
    // The fault is told even where matching would not reach it.
    check("b[", "a", Err(BadPattern));
    check("*x\\", "a", Err(BadPattern));
}

proptest! {
    #[test]
    fn arbitrary_patterns_do_no_harm(text in "[ab*?/!\\[\\]^.\\\\\n-]{0,40}", path in "[ab/]{0,20}") {
        if let Ok(patterns) = Patterns::parse(text.as_bytes()) {
            let _ = patterns.is_ignored(path.as_bytes());
        }
        let _ = glob_match(text.as_bytes(), path.as_bytes());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(text: Vec<u8>, path: Vec<u8>) {
        if let Ok(patterns) = Patterns::parse(&text) {
            let _ = patterns.is_ignored(&path);
            let _ = patterns.may_have_exceptions_below(&path);
        }
        let _ = glob_match(&text, &path);
    }

    /// Without `**` and `!`, one level deep, the two matchers agree.
    #[test]
    fn both_matchers_agree(pattern in "[ab]?[ab*?]{1,6}", path in "[ab]{1,8}") {
        prop_assume!(!pattern.contains("**"));
        let ignored = Patterns::new([pattern.as_bytes()]).unwrap().is_ignored(path.as_bytes());
        prop_assert_eq!(ignored, glob_match(pattern.as_bytes(), path.as_bytes()).unwrap(), "{} {}", pattern, path);
    }

    /// A pruned walk sees what asking for every path tells.
    #[test]
    fn pruning_loses_nothing(text in "(!?[ab*]{1,2}(/[ab*]{1,2}){0,2}\n){1,4}", path in "[ab](/[ab]){0,4}") {
        let patterns = Patterns::parse(text.as_bytes()).unwrap();
        if !patterns.is_ignored(path.as_bytes()) {
            for (end, _) in path.match_indices('/') {
                let parent = &path.as_bytes()[..end];
                prop_assert!(!patterns.is_ignored(parent) || patterns.may_have_exceptions_below(parent));
            }
        }
    }
}
