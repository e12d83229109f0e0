//! One line of comma-separated fields, as Go's `encoding/csv` reads it.

/// Splits `text`; a field in double quotes may hold commas and doubled quotes.
///
/// # Errors
/// A quote that does not end, or one in the middle of a field.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(format!("{text:?}: a quote in an unquoted field"));
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(format!("{text:?}: text after a closing quote")),
        }
    }
}

/// What comes before the closing quote, and the rest after it.
fn quoted_field(mut rest: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    loop {
        let end = rest.find('"').ok_or_else(|| "a quote is not closed".to_owned())?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_it() {
        for (text, expected) in [
            ("a,b=c", Some("a|b=c")),
            ("\"name=x,y\",push=true", Some("name=x,y|push=true")),
            ("\"a\"\"b\"", Some("a\"b")),
            ("a,", Some("a|")),
            ("a\"b", None),
            ("\"a", None),
            ("\"a\"b", None),
        ] {
            let found = fields(text).ok().map(|fields| fields.join("|"));
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
