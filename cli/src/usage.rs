//! Wrong command lines, told in docker's words and with its exit codes: 125 for flags, 1 for everything else.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::args::root::Cli;
use crate::failure::{ENGINE_ERROR, FAILURE};

/// Prints help and version to stdout, everything else to stderr.
pub(crate) fn report(error: &Error, arguments: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A vanished reader has seen enough.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(FAILURE)
        }
        _ => {
            let (text, code) = explain(error, arguments);
            let _ = writeln!(std::io::stderr().lock(), "{text}");
            ExitCode::from(code)
        }
    }
}

fn explain(error: &Error, arguments: &[OsString]) -> (String, u8) {
    let verb = error
        .get(ContextKind::Usage)
        .and_then(|usage| verb(&usage.to_string()))
        .filter(|verb| !verb.is_empty());
    let verb = verb.unwrap_or_else(|| typed_verb(arguments));
    let help = format!("See '{verb} --help'.");
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument.clone()),
        Some(ContextValue::Strings(arguments)) => Some(arguments.join(" ")),
        _ => None,
    };
    let suggestion = match error
        .get(ContextKind::SuggestedArg)
        .or_else(|| error.get(ContextKind::SuggestedSubcommand))
    {
        Some(ContextValue::String(text)) => format!("\nhint: did you mean `{text}`?"),
        Some(ContextValue::Strings(texts)) if !texts.is_empty() => {
            format!("\nhint: did you mean `{}`?", texts[0])
        }
        _ => String::new(),
    };
    match (error.kind(), argument) {
        (ErrorKind::UnknownArgument, Some(flag)) if flag.starts_with("--") => {
            let flag = flag.split('=').next().unwrap_or_default();
            (format!("unknown flag: {flag}\n{help}{suggestion}"), ENGINE_ERROR)
        }
        (ErrorKind::UnknownArgument, Some(flag)) if flag.starts_with('-') => (
            format!("unknown shorthand flag: {flag}\n{help}{suggestion}"),
            ENGINE_ERROR,
        ),
        (ErrorKind::InvalidSubcommand, _) => {
            let name = match error.get(ContextKind::InvalidSubcommand) {
                Some(ContextValue::String(name)) => name.as_str(),
                _ => "",
            };
            (
                format!("cooper: unknown command: {verb} {name}\n{help}{suggestion}"),
                FAILURE,
            )
        }
        (ErrorKind::MissingSubcommand, _) => {
            (format!("cooper: '{verb}' needs a subcommand\n{help}"), FAILURE)
        }
        (
            ErrorKind::InvalidValue
            | ErrorKind::ValueValidation
            | ErrorKind::NoEquals
            | ErrorKind::ArgumentConflict,
            _,
        ) => (format!("{}\n{help}", first_line(error)), ENGINE_ERROR),
        _ => (format!("{}\n{help}", first_line(error)), FAILURE),
    }
}

/// `cooper run` of `Usage: cooper run [OPTIONS] …`.
fn verb(usage: &str) -> Option<String> {
    let start = usage.find("cooper")?;
    let words: Vec<&str> = usage[start..]
        .split_whitespace()
        .take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
        .collect();
    Some(words.join(" "))
}

/// The verb as typed, for errors that clap reports without a usage.
fn typed_verb(arguments: &[OsString]) -> String {
    let root = Cli::command();
    let mut command = &root;
    let mut verb = "cooper".to_owned();
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        if let Some(found) = command.find_subcommand(argument) {
            verb.push(' ');
            verb.push_str(argument);
            command = found;
        } else if verb != "cooper" {
            break;
        }
    }
    verb
}

/// Clap's own message without its prefix, on one line.
fn first_line(error: &Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.lines().map(str::trim).collect();
    format!("cooper: {}", words.join(" ").trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn check(arguments: &[&str], text: &str, code: u8) {
        let arguments: Vec<OsString> = ["cooper"].iter().chain(arguments).map(OsString::from).collect();
        let error = Cli::try_parse_from(&arguments).unwrap_err();
        assert_eq!(
            explain(&error, &arguments),
            (text.to_owned(), code),
            "{arguments:?}"
        );
    }

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_command_lines() {
        check(
            &["run", "--bad", "x"],
            "unknown flag: --bad\nSee 'cooper run --help'.",
            125,
        );
        check(
            &["ps", "--bad=1"],
            "unknown flag: --bad\nSee 'cooper ps --help'.",
            125,
        );
        check(
            &["ps", "-Z"],
            "unknown shorthand flag: -Z\nSee 'cooper ps --help'.",
            125,
        );
        check(
            &["container", "ls", "--al"],
            "unknown flag: --al\nSee 'cooper container ls --help'.\nhint: did you mean `--all`?",
            125,
        );
        check(
            &["frobnicate"],
            "cooper: unknown command: cooper frobnicate\nSee 'cooper --help'.",
            1,
        );
        check(
            &["rm"],
            "cooper: the following required arguments were not provided: <CONTAINER>...\nSee 'cooper rm --help'.",
            1,
        );
        check(
            &["--data-root", "/x"],
            "cooper: 'cooper' needs a subcommand\nSee 'cooper --help'.",
            1,
        );
        check(
            &["kill", "--signal"],
            "cooper: a value is required for '--signal <SIGNAL>' but none was supplied\nSee 'cooper kill --help'.",
            125,
        );
    }

    #[test]
    fn verbs_take_what_docker_takes() {
        for line in [
            "exec -it c sh -c ls",
            "exec c ls --all",
            "ps -aq --no-trunc -f status=exited",
            "logs -f -n 5 c",
            "stop -t 0 a b",
            "images -q x",
            "build -t a -t b -f - --build-arg A=1 --no-cache .",
            "daemon --host unix:///a --host unix:///b --pidfile p",
            "--data-root /d run x",
            "-H unix:///a ps",
            "container run -d x",
            "image ls",
            "system df -v",
            "system prune -af --volumes",
            "start -ai c",
            "history --no-trunc x",
            "import -c CMD=x f n:t",
            "run --sig-proxy=false x",
            "run --build . ls -l",
            "run -v /a:/b -p80:80 --cap-add=SYS_ADMIN x",
        ] {
            let arguments = std::iter::once("cooper").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(arguments) {
                panic!("{line}: {error}");
            }
        }
    }
}
