//! `key=value,key=value` with RFC 4180's quotes around a field, as Go's csv reader takes it.

use cooper_daemon::build::nearest;

/// The fields of one record.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, String> {
    let wrong = |why: &str| Err(format!("invalid value `{text}`: {why}"));
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut after = quoted;
            loop {
                let Some(end) = after.find('"') else {
                    return wrong("a quote is not closed");
                };
                field.push_str(&after[..end]);
                after = &after[end + 1..];
                match after.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        after = more;
                    }
                    None => break,
                }
            }
            fields.push(field);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(fields),
                None => return wrong("characters after a closing quote"),
            }
        } else {
            let (field, next) = match rest.split_once(',') {
                Some((field, next)) => (field, Some(next)),
                None => (rest, None),
            };
            if field.contains('"') {
                return wrong("a quote in the middle of a field");
            }
            fields.push(field.to_owned());
            match next {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
        }
    }
}

/// The fields as pairs, keys in lower case; one without `=` has no value.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let pair = |field: String| match field.split_once('=') {
        Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
        None => (field.trim().to_ascii_lowercase(), None),
    };
    Ok(fields(text)?.into_iter().map(pair).collect())
}

/// The text of an error about a key, type or name that is none of `known`.
pub(super) fn unknown(flag: &str, what: &str, given: &str, known: &[&str]) -> String {
    let hint = match nearest(given, known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("expected {}", known.join(", ")),
    };
    format!("invalid --{flag}: unknown {what} `{given}`: {hint}")
}

/// Go's `strconv.ParseBool`, and nothing for true.
pub(super) fn boolean(flag: &str, key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!(
            "invalid --{flag}: {key} is `{other}`, expected true or false"
        )),
    }
}

/// The value of a key that must have one.
pub(super) fn required(flag: &str, key: &str, value: Option<String>) -> Result<String, String> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("invalid --{flag}: {key} needs a value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let got = fields(text).ok();
            assert_eq!(
                got.as_deref(),
                expected
                    .map(|fields| fields.iter().map(ToString::to_string).collect::<Vec<_>>())
                    .as_deref(),
                "{text}"
            );
        };
        check("a=1,b=2", Some(&["a=1", "b=2"]));
        check("a", Some(&["a"]));
        check("", Some(&[""]));
        check("a,", Some(&["a", ""]));
        check("type=local,\"dest=a,b\"", Some(&["type=local", "dest=a,b"]));
        check("\"a\"\"b\"", Some(&["a\"b"]));
        check("\"a", None);
        check("\"a\"b", None);
        check("a\"b", None);
    }

    #[test]
    fn keys_and_values() {
        let got = pairs("Type=Local,tar,a=b=c").unwrap();
        let pair = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        assert_eq!(
            got,
            [
                pair("type", Some("Local")),
                pair("tar", None),
                pair("a", Some("b=c"))
            ]
        );
        assert_eq!(
            unknown("cache-to", "key", "mdoe", &["mode", "ref"]),
            "invalid --cache-to: unknown key `mdoe`: did you mean `mode`?"
        );
    }
}
