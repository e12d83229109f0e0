//! `--call METHOD[,format=FORMAT]` and `--check`.

use cooper_daemon::build::Call;

use super::csv::{pairs, unknown};

const METHODS: [(&str, Call); 5] = [
    ("check", Call::Check),
    ("lint", Call::Check),
    ("outline", Call::Outline),
    ("targets", Call::Targets),
    ("subrequests.describe", Call::Describe),
];
const FORMATS: [&str; 2] = ["text", "json"];

/// A question about the Dockerfile that takes the place of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) call: Call,
    /// The answer is shown as JSON, not as text.
    pub(crate) json: bool,
}

/// The question of these flags; none when it is to be built.
pub(crate) fn question(call: Option<&str>, check: bool) -> Result<Option<Question>, String> {
    let Some(text) = call else {
        return Ok(check.then_some(Question {
            call: Call::Check,
            json: false,
        }));
    };
    let mut method = None;
    let mut json = false;
    for (key, value) in pairs(text)? {
        match (key.as_str(), value.as_deref()) {
            ("format", Some("text")) => json = false,
            ("format", Some("json")) => json = true,
            ("format", value) => return Err(unknown("call", "format", value.unwrap_or_default(), &FORMATS)),
            ("method", Some(name)) | (name, None) if method.is_none() => method = Some(name.to_owned()),
            (key, _) => return Err(unknown("call", "key", key, &["format"])),
        }
    }
    let method = method.unwrap_or_default();
    let known = METHODS.iter().find(|(name, _)| *name == method);
    match known {
        Some((_, call)) if !check || *call == Call::Check => Ok(Some(Question { call: *call, json })),
        Some(_) => Err("--check is --call check: give one of them".to_owned()),
        // docker's word for no question.
        None if method == "build" => Ok(check.then_some(Question {
            call: Call::Check,
            json,
        })),
        None => Err(unknown(
            "call",
            "method",
            &method,
            &["build", "check", "outline", "targets", "subrequests.describe"],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let check = |text: Option<&str>, flag: bool, expected: Option<Option<(Call, bool)>>| {
            let got = question(text, flag).ok();
            let got = got.map(|question| question.map(|question| (question.call, question.json)));
            assert_eq!(got, expected, "{text:?} {flag}");
        };
        check(None, false, Some(None));
        check(None, true, Some(Some((Call::Check, false))));
        check(Some("build"), false, Some(None));
        check(Some("check"), true, Some(Some((Call::Check, false))));
        check(Some("lint,format=json"), false, Some(Some((Call::Check, true))));
        check(
            Some("format=json,outline"),
            false,
            Some(Some((Call::Outline, true))),
        );
        check(Some("method=targets"), false, Some(Some((Call::Targets, false))));
        check(
            Some("subrequests.describe,format=text"),
            false,
            Some(Some((Call::Describe, false))),
        );
        check(Some("outline"), true, None);
        check(Some("outlin"), false, None);
        check(Some("check,format=yaml"), false, None);
        check(Some("check,forma=json"), false, None);
        check(Some("check,outline"), false, None);
        check(Some(""), false, None);
    }
}
