//! The `--format` of lists: a table, JSON lines or a template, over rows of named fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{table, template};

/// One field of a row that tables can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Name in templates: `.ID`.
    pub(crate) field: &'static str,
    /// Heading.
    pub(crate) heading: &'static str,
}

/// A row: every field docker knows, already turned into text.
pub(crate) type Row = BTreeMap<&'static str, Value>;

/// Renders rows. `format` is the flag's value; without it, `columns` make the table.
pub(crate) fn render(
    format: Option<&str>,
    columns: &[&'static str],
    known: &[Column],
    rows: &[Row],
) -> Result<String, String> {
    let values = || {
        rows.iter().map(|row| {
            row.iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect()
        })
    };
    match format.unwrap_or("table") {
        "table" => {
            let heading = columns
                .iter()
                .map(|field| heading(known, field).to_owned())
                .collect();
            let mut lines = vec![heading];
            for row in rows {
                lines.push(
                    columns
                        .iter()
                        .map(|field| row.get(field).map(template::text).unwrap_or_default())
                        .collect(),
                );
            }
            Ok(table::render(&lines))
        }
        "json" | "{{json .}}" => {
            let mut text = String::new();
            for value in values() {
                text.push_str(&Value::Object(value).to_string());
                text.push('\n');
            }
            Ok(text)
        }
        format => {
            let (format, is_table) = match format.strip_prefix("table") {
                Some(rest) => (rest.trim_start(), true),
                None => (format, false),
            };
            let format = format.replace("\\t", "\t").replace("\\n", "\n");
            let parsed = template::parse(&format)?;
            let mut texts = Vec::new();
            if is_table {
                let headings = known
                    .iter()
                    .map(|column| (column.field.to_owned(), Value::from(column.heading)))
                    .collect();
                texts.push(parsed.render(&Value::Object(headings))?);
            }
            for value in values() {
                texts.push(parsed.render(&Value::Object(value))?);
            }
            if is_table {
                let lines: Vec<Vec<String>> = texts
                    .iter()
                    .map(|text| text.split('\t').map(str::to_owned).collect())
                    .collect();
                return Ok(table::render(&lines));
            }
            Ok(texts.iter().map(|text| format!("{text}\n")).collect())
        }
    }
}

fn heading(known: &[Column], field: &'static str) -> &'static str {
    known
        .iter()
        .find(|column| column.field == field)
        .map_or(field, |column| column.heading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let known = [
            Column {
                field: "ID",
                heading: "IMAGE ID",
            },
            Column {
                field: "Tag",
                heading: "TAG",
            },
        ];
        let rows = [Row::from([
            ("ID", Value::from("0123456789ab")),
            ("Tag", Value::from("latest")),
        ])];
        let check = |format: Option<&str>, expected: &str| {
            assert_eq!(render(format, &["ID", "Tag"], &known, &rows).unwrap(), expected);
        };
        check(None, "IMAGE ID       TAG\n0123456789ab   latest\n");
        check(Some("json"), "{\"ID\":\"0123456789ab\",\"Tag\":\"latest\"}\n");
        check(Some("{{.Tag}} {{.ID}}"), "latest 0123456789ab\n");
        check(
            Some("table {{.Tag}}\\t{{.ID}}"),
            "TAG       IMAGE ID\nlatest    0123456789ab\n",
        );
        assert!(render(Some("{{.Nope}}"), &[], &known, &rows).is_err());
    }
}
