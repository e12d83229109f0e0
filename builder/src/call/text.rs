//! Answers for people, as docker's CLI prints them.

use std::fmt::{self, Write as _};

use super::answer::{Report, Requirement, Violations};

impl Report {
    /// Exit code that goes with the answer: 1 if a check found anything.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Check(found) => u8::from(!found.warnings.is_empty() || found.build_error.is_some()),
            Self::Outline(_) | Self::Targets(_) | Self::Describe(_) => 0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(found) => violations(f, found),
            Self::Outline(outline) => {
                let mut text = String::new();
                if !outline.name.is_empty() {
                    let _ = writeln!(text, "TARGET:      {}", outline.name);
                }
                if !outline.description.is_empty() {
                    let _ = writeln!(text, "DESCRIPTION: {}", outline.description);
                }
                let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned).to_vec()];
                rows.extend(outline.args.iter().map(|arg| {
                    vec![
                        arg.name.clone(),
                        arg.value.clone().unwrap_or_default(),
                        arg.description.clone(),
                    ]
                }));
                let mut tables = vec![text];
                tables.push(table(&rows));
                tables.push(requirements("SECRET", &outline.secrets));
                tables.push(requirements("SSH", &outline.ssh));
                let mut rows = vec![vec!["CACHE MOUNT".to_owned()]];
                rows.extend(outline.cache.iter().map(|cache| vec![cache.id.clone()]));
                tables.push(table(&rows));
                tables.retain(|table| !table.is_empty());
                if tables.is_empty() {
                    return writeln!(f, "The target takes no parameters.");
                }
                f.write_str(&tables.join("\n"))
            }
            Self::Targets(targets) => {
                let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
                rows.extend(targets.targets.iter().map(|target| {
                    let name = match (target.name.as_str(), target.default) {
                        ("", true) => "(default)".to_owned(),
                        ("", false) => "(unnamed)".to_owned(),
                        (name, true) => format!("{name} (default)"),
                        (name, false) => name.to_owned(),
                    };
                    vec![name, target.description.clone()]
                }));
                f.write_str(&table(&rows))
            }
            Self::Describe(methods) => {
                let mut rows = vec![["NAME", "VERSION", "DESCRIPTION"].map(str::to_owned).to_vec()];
                rows.extend(methods.requests.iter().map(|method| {
                    vec![
                        method.name.clone(),
                        method.version.clone(),
                        method.description.clone(),
                    ]
                }));
                f.write_str(&table(&rows))
            }
        }
    }
}

fn violations(f: &mut fmt::Formatter<'_>, found: &Violations) -> fmt::Result {
    match (&found.build_error, found.warnings.len()) {
        (Some(_), _) => writeln!(f, "Check complete, the file cannot be built:")?,
        (None, 0) => return writeln!(f, "Check complete, no warnings found."),
        (None, 1) => writeln!(f, "Check complete, 1 warning has been found!")?,
        (None, n) => writeln!(f, "Check complete, {n} warnings have been found!")?,
    }
    write!(f, "\n{}", found.text)?;
    let mut urls: Vec<(&str, &str)> = Vec::new();
    for warning in found.warnings.iter().filter(|warning| !warning.url.is_empty()) {
        if !urls.iter().any(|(name, _)| *name == warning.rule_name) {
            urls.push((&warning.rule_name, &warning.url));
        }
    }
    if !urls.is_empty() {
        let rows: Vec<Vec<String>> = urls
            .iter()
            .map(|(name, url)| vec![(*name).to_owned(), (*url).to_owned()])
            .collect();
        write!(f, "\n{}", aligned(&rows))?;
    }
    Ok(())
}

fn requirements(title: &str, list: &[Requirement]) -> String {
    let mut rows = vec![vec![title.to_owned(), "REQUIRED".to_owned()]];
    let text = |required: bool| if required { "true" } else { "" };
    rows.extend(
        list.iter()
            .map(|item| vec![item.name.clone(), text(item.required).to_owned()]),
    );
    table(&rows)
}

/// Nothing for a table that has only its head.
fn table(rows: &[Vec<String>]) -> String {
    if rows.len() > 1 {
        aligned(rows)
    } else {
        String::new()
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}   ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
