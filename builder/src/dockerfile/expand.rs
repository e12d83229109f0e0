//! Shell-like quote removal and variable expansion of words, equal to BuildKit's.
//!
//! Operators: `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?m} ${v?m} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}`.
//! Differs from BuildKit in one point on purpose: `$1` in the replacement of `//` is literal text, not a reference into
//! a regular expression nobody wrote.

use std::collections::BTreeSet;

use super::pattern::{self, Pattern};

/// Nesting of `${a:-${b:-…}}` beyond this is refused.
const MAX_DEPTH: usize = 64;
/// Longer results are refused: values that double in every line would otherwise take all memory.
/// Longer results of an expansion are refused.
pub const EXPANSION_LIMIT: usize = 16 << 20;

/// Looks up the value of a variable; none if it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpandError {
    /// What is wrong.
    pub message: String,
    /// Byte offset in the word where the faulty construct begins.
    pub offset: usize,
}

/// Result of [`Lexer::expand`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole word, blanks kept.
    pub text: String,
    /// The same split at blanks that are neither quoted nor escaped; values of variables are split too unless quoted.
    pub words: Vec<String>,
    /// Variables that were looked up and set.
    pub matched: BTreeSet<String>,
    /// Variables that were looked up and not set, in branches not taken as well.
    pub unmatched: BTreeSet<String>,
}

/// The word lexer with its settings. The default uses backslash and removes quotes and escapes.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    /// Character that takes the next one literally.
    pub escape: char,
    /// Keep quote characters in the result.
    pub raw_quotes: bool,
    /// Keep escape characters in the result.
    pub raw_escapes: bool,
    /// Treat quotes as ordinary characters (bodies of here-documents).
    pub skip_quotes: bool,
    /// Leave references to unset variables as they are.
    pub keep_unset: bool,
}

impl Default for Lexer {
    fn default() -> Self {
        Self {
            escape: '\\',
            raw_quotes: false,
            raw_escapes: false,
            skip_quotes: false,
            keep_unset: false,
        }
    }
}

/// Expands one word with the file's escape character.
///
/// # Errors
/// Unbalanced quotes or braces, unknown operators, bad patterns, `${v:?}` of an unset variable, or excessive size.
pub fn process_word(word: &str, env: Lookup<'_>, escape: char) -> Result<Expanded, ExpandError> {
    Lexer {
        escape,
        ..Lexer::default()
    }
    .expand(word, env)
}

/// Expands a word and splits the result at blanks (EXPOSE).
///
/// # Errors
/// As [`process_word`].
pub fn process_words(word: &str, env: Lookup<'_>, escape: char) -> Result<Vec<String>, ExpandError> {
    Ok(process_word(word, env, escape)?.words)
}

/// Expands the body of a here-document that COPY or ADD writes to a file: variables and escapes, no quotes.
///
/// # Errors
/// As [`process_word`].
pub fn process_heredoc(body: &str, env: Lookup<'_>) -> Result<Expanded, ExpandError> {
    Lexer {
        skip_quotes: true,
        ..Lexer::default()
    }
    .expand(body, env)
}

impl Lexer {
    /// Expands `word` with the variables of `env`.
    ///
    /// # Errors
    /// As [`process_word`].
    pub fn expand(&self, word: &str, env: Lookup<'_>) -> Result<Expanded, ExpandError> {
        let mut run = Run {
            lexer: *self,
            raw_escapes: self.raw_escapes,
            word,
            at: 0,
            depth: 0,
            env,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        let (text, words) = run.until(None, self.raw_escapes)?;
        Ok(Expanded {
            text,
            words,
            matched: run.matched,
            unmatched: run.unmatched,
        })
    }
}

struct Run<'a> {
    lexer: Lexer,
    raw_escapes: bool,
    word: &'a str,
    at: usize,
    depth: usize,
    env: Lookup<'a>,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

#[derive(Default)]
struct Splitter {
    word: String,
    words: Vec<String>,
}

impl Splitter {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

impl Run<'_> {
    fn peek(&self) -> Option<char> {
        self.word[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn fail<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, ExpandError> {
        Err(ExpandError {
            message: message.into(),
            offset,
        })
    }

    /// Text and words up to `stop`, which is consumed, or to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), ExpandError> {
        let start = self.at;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(start, format!("variables are nested more than {MAX_DEPTH} deep"));
        }
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until_inner(stop, start);
        self.raw_escapes = outer;
        self.depth -= 1;
        result
    }

    fn until_inner(
        &mut self,
        stop: Option<char>,
        start: usize,
    ) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Splitter::default();
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.next();
                return Ok((text, words.finish()));
            }
            if text.len() > EXPANSION_LIMIT {
                return self.fail(
                    self.at,
                    format!("the expanded text is longer than {EXPANSION_LIMIT} bytes"),
                );
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    text.push_str(&value);
                }
                '\'' | '"' | '<' if c == '<' || !self.lexer.skip_quotes => {
                    let value = match c {
                        '\'' => self.single_quoted()?,
                        '"' => self.double_quoted()?,
                        _ => self.angle(),
                    };
                    words.word.push_str(&value);
                    text.push_str(&value);
                }
                _ => {
                    self.next();
                    if c != self.lexer.escape {
                        words.push(c);
                        text.push(c);
                        continue;
                    }
                    if self.raw_escapes {
                        words.word.push(c);
                        text.push(c);
                    }
                    if let Some(c) = self.next() {
                        words.word.push(c);
                        text.push(c);
                    }
                }
            }
        }
        match stop {
            Some(stop) => self.fail(
                start,
                format!("unexpected end of statement while looking for matching {stop}"),
            ),
            None => Ok((text, words.finish())),
        }
    }

    /// `<` or `<<` with the white space after it, so that `<< EOF` is one word.
    fn angle(&mut self) -> String {
        let start = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
                self.next();
            }
        }
        self.word[start..self.at].to_owned()
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        self.next();
        let Some(length) = self.word[self.at..].find('\'') else {
            self.at = self.word.len();
            return self.fail(
                start,
                "unexpected end of statement while looking for matching single-quote",
            );
        };
        let content = self.at..self.at + length;
        self.at = content.end + 1;
        Ok(self.word[if self.lexer.raw_quotes {
            start..self.at
        } else {
            content
        }]
        .to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        let mut text = String::new();
        self.next();
        if self.lexer.raw_quotes {
            text.push('"');
        }
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    self.next();
                    if self.lexer.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                _ => {
                    self.next();
                    let mut c = c;
                    if c == self.lexer.escape {
                        if self.raw_escapes {
                            text.push(c);
                        }
                        match self.peek() {
                            None => break,
                            // All other escape characters stay as they are.
                            Some(next) if next == '"' || next == '$' || next == self.lexer.escape => {
                                self.next();
                                c = next;
                            }
                            Some(_) => {}
                        }
                    }
                    text.push(c);
                }
            }
        }
        self.fail(
            start,
            "unexpected end of statement while looking for matching double-quote",
        )
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let value = (self.env)(name);
        let names = if value.is_some() {
            &mut self.matched
        } else {
            &mut self.unmatched
        };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }

    /// A variable's name, a run of digits, or one special parameter; empty if none of these follows.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_ascii_digit() => {
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.next();
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                self.next();
            }
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.next();
                }
            }
        }
        self.word[start..self.at].to_owned()
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.get(&name) {
                Some(value) => value,
                None if self.lexer.keep_unset => format!("${name}"),
                None => String::new(),
            });
        }
        self.next();
        match self.peek() {
            None => return self.fail(start, "syntax error: missing '}'"),
            Some('{' | '}' | ':') => return self.fail(start, "syntax error: bad substitution"),
            Some(_) => {}
        }
        let name = self.name();
        let Some(operator) = self.next() else {
            return self.fail(start, "syntax error: missing '}'");
        };
        match operator {
            '}' => Ok(match self.get(&name) {
                Some(value) => value,
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            ':' => match self.next() {
                Some(operator @ ('+' | '-' | '?')) => self.conditional(start, &name, operator, true),
                Some(other) => self.fail(start, format!("unsupported modifier (:{other}) in substitution")),
                None => self.fail(start, "syntax error: missing '}'"),
            },
            '+' | '-' | '?' => self.conditional(start, &name, operator, false),
            '#' | '%' => self.trim(start, &name, operator),
            '/' => self.replace(start, &name),
            other => self.fail(start, format!("unsupported modifier ({other}) in substitution")),
        }
    }

    /// The operand up to `stop`; at the end of the word the complaint is about the missing `stop`, whatever failed inside.
    fn operand(
        &mut self,
        start: usize,
        stop: char,
        raw_escapes: bool,
        missing: &str,
    ) -> Result<String, ExpandError> {
        match self.until(Some(stop), raw_escapes) {
            Ok((text, _)) => Ok(text),
            Err(_) if self.peek().is_none() => self.fail(start, missing),
            Err(error) => Err(error),
        }
    }

    fn conditional(
        &mut self,
        start: usize,
        name: &str,
        operator: char,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let word = self.operand(start, '}', false, "syntax error: missing '}'")?;
        let value = self.get(name);
        let Some(value) = value else {
            let colon = if empty_is_unset { ":" } else { "" };
            return match operator {
                _ if self.lexer.keep_unset => Ok(format!("${{{name}{colon}{operator}{word}}}")),
                '-' => Ok(word),
                '+' => Ok(String::new()),
                _ if word.is_empty() => self.fail(start, format!("{name}: is not allowed to be unset")),
                _ => self.fail(start, format!("{name}: {word}")),
            };
        };
        let missing = empty_is_unset && value.is_empty();
        match operator {
            '-' => Ok(if missing { word } else { value }),
            '+' => Ok(if missing { String::new() } else { word }),
            _ if !missing => Ok(value),
            _ if word.is_empty() => self.fail(start, format!("{name}: is not allowed to be empty")),
            _ => self.fail(start, format!("{name}: {word}")),
        }
    }

    fn trim(&mut self, start: usize, name: &str, operator: char) -> Result<String, ExpandError> {
        let word = self.operand(start, '}', true, "syntax error: missing '}'")?;
        let Some(value) = self.get(name) else {
            return Ok(if self.lexer.keep_unset {
                format!("${{{name}{operator}{word}}}")
            } else {
                String::new()
            });
        };
        let (longest, pattern) = match word.strip_prefix(operator) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let pattern = self.pattern(start, pattern)?;
        let trimmed = match operator {
            '#' => pattern.trim_prefix(&value, longest),
            _ => pattern.trim_suffix(&value, longest),
        };
        trimmed.map_or_else(|error| self.fail(start, error.to_string()), Ok)
    }

    fn replace(&mut self, start: usize, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.operand(start, '/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.operand(start, '}', true, "syntax error: missing '}'")?;
        let Some(value) = self.get(name) else {
            let slashes = if all { "//" } else { "/" };
            let kept = format!("${{{name}{slashes}{pattern}/{replacement}}}");
            return Ok(if self.lexer.keep_unset {
                kept
            } else {
                String::new()
            });
        };
        let pattern = self.pattern(start, &pattern)?;
        pattern
            .replace(&value, &replacement, all)
            .map_or_else(|error| self.fail(start, error.to_string()), Ok)
    }

    fn pattern(&self, start: usize, text: &str) -> Result<Pattern, ExpandError> {
        let error =
            |error: pattern::PatternError| format!("invalid pattern ({text}) in substitution: {error}");
        Pattern::parse(text).map_or_else(|e| self.fail(start, error(e)), Ok)
    }
}
