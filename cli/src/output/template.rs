//! The part of Go's `text/template` that `--format` needs: fields, `json`, `index`, `join`, `len`, `upper`, `lower`,
//! `println`, pipes, `range`, `if`/`else`, `with`, comparison, and white-space trimming.

use std::collections::BTreeMap;

use serde_json::Value;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(Vec<Node>);

type Nodes = Vec<Node>;

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    If(Pipeline, Nodes, Nodes),
    With(Pipeline, Nodes, Nodes),
    Range {
        key: Option<String>,
        value: Option<String>,
        over: Pipeline,
        body: Nodes,
        otherwise: Nodes,
    },
}

/// Commands, each of which gets the result of the one before as its last argument.
type Pipeline = Vec<Vec<Term>>;

#[derive(Debug, Clone, PartialEq)]
enum Term {
    /// `.A.B`; empty for `.`.
    Field(Vec<String>),
    /// `$x.A`; the name is empty for `$`.
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    Nested(Pipeline),
}

/// Parses a template.
pub(crate) fn parse(source: &str) -> Result<Template, String> {
    let mut actions = split(source)?.into_iter();
    let (nodes, end) = block(&mut actions)?;
    match end {
        Stop::Source => Ok(Template(nodes)),
        Stop::Else | Stop::End => Err("invalid template: unexpected {{end}} or {{else}}".to_owned()),
    }
}

/// A value as templates print it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", text(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

impl Template {
    /// Fills the template in.
    pub(crate) fn render(&self, root: &Value) -> Result<String, String> {
        let mut output = String::new();
        let mut scope = Scope {
            root,
            variables: BTreeMap::new(),
        };
        scope.nodes(&self.0, root, &mut output)?;
        Ok(output)
    }
}

enum Piece {
    Text(String),
    Action(String),
}

/// Splits text and actions, applying `{{-` and `-}}`.
fn split(source: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = source;
    let mut trim_start = false;
    while !rest.is_empty() {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let mut text = if trim_start { text.trim_start() } else { text };
        trim_start = false;
        let Some(action) = action else {
            pieces.push(Piece::Text(text.to_owned()));
            break;
        };
        let end = closing(action).ok_or("invalid template: unclosed action")?;
        let mut inner = &action[..end];
        rest = &action[end + 2..];
        if let Some(trimmed) = inner.strip_prefix("- ") {
            inner = trimmed;
            text = text.trim_end();
        }
        if let Some(trimmed) = inner.strip_suffix(" -") {
            inner = trimmed;
            trim_start = true;
        }
        pieces.push(Piece::Text(text.to_owned()));
        let inner = inner.trim();
        if !inner.starts_with("/*") {
            pieces.push(Piece::Action(inner.to_owned()));
        }
    }
    Ok(pieces)
}

/// Position of the `}}` that ends an action, ignoring quoted ones.
fn closing(action: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, character) in action.char_indices() {
        match (quote, character) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), close) if open == close && !escaped => quote = None,
            (None, '"' | '`') => quote = Some(character),
            (None, '}') if action[index..].starts_with("}}") => return Some(index),
            _ => {}
        }
        escaped = false;
    }
    None
}

enum Stop {
    Source,
    Else,
    End,
}

fn block(pieces: &mut std::vec::IntoIter<Piece>) -> Result<(Nodes, Stop), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
        match word {
            "end" => return Ok((nodes, Stop::End)),
            "else" if rest.is_empty() => return Ok((nodes, Stop::Else)),
            "else" => return Err(format!("invalid template: {{{{{action}}}}} is not supported")),
            "if" | "with" => {
                let condition = pipeline(rest)?;
                let (body, otherwise) = branches(pieces)?;
                nodes.push(match word {
                    "if" => Node::If(condition, body, otherwise),
                    _ => Node::With(condition, body, otherwise),
                });
            }
            "range" => {
                let (names, over) = match rest.split_once(":=") {
                    Some((names, over)) => (names, over),
                    None => ("", rest),
                };
                let mut names: Vec<String> = names
                    .split(',')
                    .filter_map(|name| name.trim().strip_prefix('$').map(str::to_owned))
                    .collect();
                let value = names.pop();
                let key = names.pop();
                let over = pipeline(over)?;
                let (body, otherwise) = branches(pieces)?;
                nodes.push(Node::Range {
                    key,
                    value,
                    over,
                    body,
                    otherwise,
                });
            }
            _ => nodes.push(Node::Print(pipeline(&action)?)),
        }
    }
    Ok((nodes, Stop::Source))
}

fn branches(pieces: &mut std::vec::IntoIter<Piece>) -> Result<(Nodes, Nodes), String> {
    let (body, end) = block(pieces)?;
    match end {
        Stop::End => Ok((body, Vec::new())),
        Stop::Else => match block(pieces)? {
            (otherwise, Stop::End) => Ok((body, otherwise)),
            _ => Err("invalid template: missing {{end}}".to_owned()),
        },
        Stop::Source => Err("invalid template: missing {{end}}".to_owned()),
    }
}

fn pipeline(source: &str) -> Result<Pipeline, String> {
    let mut rest = source.trim();
    let parsed = commands(&mut rest, false)?;
    if parsed.iter().any(Vec::is_empty) {
        return Err(format!("invalid template: empty command in {{{{{source}}}}}"));
    }
    Ok(parsed)
}

fn commands(rest: &mut &str, nested: bool) -> Result<Pipeline, String> {
    let mut commands = vec![Vec::new()];
    loop {
        *rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return if nested {
                Err("invalid template: missing )".to_owned())
            } else {
                Ok(commands)
            };
        };
        let term = match first {
            '|' => {
                *rest = &rest[1..];
                commands.push(Vec::new());
                continue;
            }
            ')' if nested => {
                *rest = &rest[1..];
                return Ok(commands);
            }
            '(' => {
                *rest = &rest[1..];
                Term::Nested(self::commands(rest, true)?)
            }
            '"' => {
                let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let text = stream
                    .next()
                    .and_then(Result::ok)
                    .ok_or("invalid template: unterminated string")?;
                let consumed = stream.byte_offset();
                *rest = &rest[consumed..];
                Term::Literal(Value::String(text))
            }
            '`' => {
                let (text, after) = rest[1..]
                    .split_once('`')
                    .ok_or("invalid template: unterminated string")?;
                *rest = after;
                Term::Literal(Value::String(text.to_owned()))
            }
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || matches!(c, '|' | ')' | '('))
                    .unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                *rest = after;
                term(word)?
            }
        };
        if let Some(command) = commands.last_mut() {
            command.push(term);
        }
    }
}

fn term(word: &str) -> Result<Term, String> {
    let path = |text: &str| {
        text.split('.')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    if word.starts_with('.') {
        return Ok(Term::Field(path(word)));
    }
    if let Some(variable) = word.strip_prefix('$') {
        let (name, fields) = variable.split_once('.').unwrap_or((variable, ""));
        return Ok(Term::Variable(name.to_owned(), path(fields)));
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(Term::Literal(number.into()));
    }
    match word {
        "true" => Ok(Term::Literal(Value::Bool(true))),
        "false" => Ok(Term::Literal(Value::Bool(false))),
        "nil" => Ok(Term::Literal(Value::Null)),
        "json" | "index" | "join" | "len" | "upper" | "lower" | "println" | "print" | "eq" | "ne" | "not"
        | "and" | "or" | "split" | "title" | "truncate" => Ok(Term::Function(word.to_owned())),
        _ => Err(format!("invalid template: function {word:?} is not supported")),
    }
}

struct Scope<'a> {
    root: &'a Value,
    variables: BTreeMap<String, Value>,
}

impl Scope<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value, output: &mut String) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => output.push_str(text),
                Node::Print(pipeline) => output.push_str(&text(&self.pipeline(pipeline, dot)?)),
                Node::If(condition, body, otherwise) => {
                    let chosen = if truth(&self.pipeline(condition, dot)?) {
                        body
                    } else {
                        otherwise
                    };
                    self.nodes(chosen, dot, output)?;
                }
                Node::With(condition, body, otherwise) => {
                    let value = self.pipeline(condition, dot)?;
                    if truth(&value) {
                        self.nodes(body, &value, output)?;
                    } else {
                        self.nodes(otherwise, dot, output)?;
                    }
                }
                Node::Range {
                    key,
                    value,
                    over,
                    body,
                    otherwise,
                } => {
                    let items: Vec<(Value, Value)> = match self.pipeline(over, dot)? {
                        Value::Array(items) => items
                            .into_iter()
                            .enumerate()
                            .map(|(i, v)| (i.into(), v))
                            .collect(),
                        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k.into(), v)).collect(),
                        Value::Null => Vec::new(),
                        other => return Err(format!("template: range can't iterate over {}", text(&other))),
                    };
                    if items.is_empty() {
                        self.nodes(otherwise, dot, output)?;
                    }
                    for (index, item) in items {
                        if let Some(name) = key {
                            self.variables.insert(name.clone(), index);
                        }
                        if let Some(name) = value {
                            self.variables.insert(name.clone(), item.clone());
                        }
                        self.nodes(body, &item, output)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &[Vec<Term>], dot: &Value) -> Result<Value, String> {
        let mut last: Option<Value> = None;
        for command in pipeline {
            let (first, rest) = command.split_first().ok_or("template: empty command")?;
            last = Some(match first {
                Term::Function(name) => {
                    let mut arguments = rest
                        .iter()
                        .map(|term| self.term(term, dot))
                        .collect::<Result<Vec<_>, _>>()?;
                    arguments.extend(last);
                    call(name, &arguments)?
                }
                _ if !rest.is_empty() || last.is_some() => {
                    return Err("template: only functions take arguments".to_owned());
                }
                term => self.term(term, dot)?,
            });
        }
        last.ok_or_else(|| "template: empty command".to_owned())
    }

    fn term(&self, term: &Term, dot: &Value) -> Result<Value, String> {
        match term {
            Term::Field(path) => walk(dot, path),
            Term::Variable(name, path) if name.is_empty() => walk(self.root, path),
            Term::Variable(name, path) => walk(
                self.variables
                    .get(name)
                    .ok_or_else(|| format!("template: undefined variable ${name}"))?,
                path,
            ),
            Term::Literal(value) => Ok(value.clone()),
            Term::Nested(pipeline) => self.pipeline(pipeline, dot),
            Term::Function(name) => call(name, &[]),
        }
    }
}

fn walk(value: &Value, path: &[String]) -> Result<Value, String> {
    let mut current = value;
    for name in path {
        current = match current {
            Value::Object(fields) => fields
                .get(name)
                .ok_or_else(|| format!("template: there is no field .{}", path.join(".")))?,
            Value::Null => &Value::Null,
            other => {
                return Err(format!(
                    "template: .{} of {} is not possible",
                    path.join("."),
                    text(other)
                ));
            }
        };
    }
    Ok(current.clone())
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(bool) => *bool,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let wrong = || format!("template: wrong arguments for {name}");
    Ok(match (name, arguments) {
        ("json", [value]) => Value::String(value.to_string()),
        ("len", [Value::String(text)]) => text.len().into(),
        ("len", [Value::Array(items)]) => items.len().into(),
        ("len", [Value::Object(fields)]) => fields.len().into(),
        ("len", [Value::Null]) => 0.into(),
        ("upper", [Value::String(text)]) => text.to_uppercase().into(),
        ("lower", [Value::String(text)]) => text.to_lowercase().into(),
        ("title", [Value::String(text)]) => {
            let mut letters = text.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
                .unwrap_or_default()
                .into()
        }
        ("truncate", [Value::String(text), Value::Number(width)]) => {
            let width = width
                .as_u64()
                .and_then(|width| usize::try_from(width).ok())
                .ok_or_else(wrong)?;
            text.chars().take(width).collect::<String>().into()
        }
        ("join", [Value::Array(items), Value::String(separator)]) => {
            items.iter().map(text).collect::<Vec<_>>().join(separator).into()
        }
        ("split", [Value::String(text), Value::String(separator)]) => {
            text.split(separator.as_str()).collect()
        }
        ("print", arguments) => arguments.iter().map(text).collect::<String>().into(),
        ("println", arguments) => {
            let mut line = arguments.iter().map(text).collect::<Vec<_>>().join(" ");
            line.push('\n');
            line.into()
        }
        ("index", [value, keys @ ..]) => {
            let mut current = value;
            for key in keys {
                current = match (current, key) {
                    (Value::Object(fields), Value::String(key)) => fields.get(key).unwrap_or(&Value::Null),
                    (Value::Array(items), Value::Number(index)) => index
                        .as_u64()
                        .and_then(|index| items.get(usize::try_from(index).ok()?))
                        .ok_or_else(|| format!("template: index out of range: {index}"))?,
                    (Value::Null, _) => &Value::Null,
                    _ => return Err(wrong()),
                };
            }
            // Go prints the zero value of a missing label as nothing.
            if current.is_null() {
                Value::String(String::new())
            } else {
                current.clone()
            }
        }
        ("eq", [first, others @ ..]) if !others.is_empty() => others.contains(first).into(),
        ("ne", [first, second]) => (first != second).into(),
        ("not", [value]) => (!truth(value)).into(),
        ("and", [.., last]) => arguments
            .iter()
            .find(|value| !truth(value))
            .unwrap_or(last)
            .clone(),
        ("or", [.., last]) => arguments
            .iter()
            .find(|value| truth(value))
            .unwrap_or(last)
            .clone(),
        _ => return Err(wrong()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(template: &str, expected: Result<&str, &str>) {
        let value = json!({
            "Id": "abc", "State": {"Status": "running", "Running": true, "ExitCode": 0}, "Names": ["/a", "/b"],
            "Config": {"Labels": {"x.y": "1"}, "Cmd": null}, "Networks": {"host": {"IP": ""}, "none": {"IP": "::"}},
        });
        let got = parse(template).and_then(|template| template.render(&value));
        match expected {
            Ok(text) => assert_eq!(got.as_deref(), Ok(text), "{template}"),
            Err(part) => assert!(
                got.as_ref().is_err_and(|error| error.contains(part)),
                "{template}: {got:?}"
            ),
        }
    }

    #[test]
    fn subset() {
        check("{{.Id}}", Ok("abc"));
        check(
            "{{ .State.Status }} {{.State.ExitCode}} {{.State.Running}}",
            Ok("running 0 true"),
        );
        check(
            "{{json .Names}} {{.Names | json}}",
            Ok("[\"/a\",\"/b\"] [\"/a\",\"/b\"]"),
        );
        check(
            "{{.Names}} {{.State}}",
            Ok("[/a /b] map[ExitCode:0 Running:true Status:running]"),
        );
        check(
            "{{index .Config.Labels \"x.y\"}}{{index .Config.Labels \"no\"}}",
            Ok("1"),
        );
        check("{{index .Names 1}}", Ok("/b"));
        check("{{range .Names}}<{{.}}>{{end}}", Ok("</a></b>"));
        check(
            "{{range $k, $v := .Networks}}{{$k}}={{$v.IP}};{{end}}",
            Ok("host=;none=::;"),
        );
        check(
            "{{range $i, $n := .Names}}{{if $i}},{{end}}{{$n}}{{end}}",
            Ok("/a,/b"),
        );
        check("{{if .State.ExitCode}}bad{{else}}good{{end}}", Ok("good"));
        check("{{with .Config}}{{.Labels}}{{end}}", Ok("map[x.y:1]"));
        check("{{if eq .State.Status \"running\"}}yes{{end}}", Ok("yes"));
        check(
            "{{join .Names \",\"}} {{len .Names}} {{upper .Id}}",
            Ok("/a,/b 2 ABC"),
        );
        check("{{if and .Id (not .Config.Cmd)}}x{{end}}", Ok("x"));
        check("a {{- \"b}}\" -}} c", Ok("ab}}c"));
        check("{{/* nothing */}}{{.Config.Cmd}}", Ok("<nil>"));
    }

    #[test]
    fn errors() {
        check("{{.Nope}}", Err("no field .Nope"));
        check("{{.Id", Err("unclosed"));
        check("{{if .Id}}x", Err("missing {{end}}"));
        check("{{end}}", Err("unexpected {{end}}"));
        check("{{frob .Id}}", Err("\"frob\" is not supported"));
        check("{{index .Names 7}}", Err("out of range"));
        check("{{}}", Err("empty command"));
    }
}
