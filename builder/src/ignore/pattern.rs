//! One pattern of moby/patternmatcher: `filepath.Match` with `**`.

use super::glob::{BadPattern, Char, Class, first_char, glob_match};

const SLASH: Char = b'/' as Char;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// Cleaned text without `!`.
    pub(super) text: Vec<u8>,
    /// Began with `!`.
    pub(super) exception: bool,
    kind: Kind,
}

/// Most patterns need no general matching.
#[derive(Clone, Debug)]
enum Kind {
    Exact,
    /// `…/**`: everything that begins with this.
    Prefix(Vec<u8>),
    /// `**…`: everything that ends with this, or is this without its leading slash.
    Suffix(Vec<u8>),
    General(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Literal(Char),
    Class(Class),
    /// `?`: one character but `/`.
    One,
    /// `*`: any characters but `/`.
    Any,
    /// `**` in front of something: nothing, or anything up to a `/`.
    Directories,
    /// `**` at the end.
    All,
}

impl Pattern {
    /// Compiles cleaned text without `!`.
    pub(super) fn compile(text: &[u8], exception: bool) -> Result<Self, BadPattern> {
        // The matcher rejects what filepath.Match rejects.
        glob_match(text, b".")?;
        Ok(Self {
            text: text.to_vec(),
            exception,
            kind: compile(text)?,
        })
    }

    /// Whether it has no wildcards.
    pub(super) fn is_literal(&self) -> bool {
        matches!(self.kind, Kind::Exact)
    }

    /// Whether it matches all of `path`.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact => path == self.text,
            Kind::Prefix(prefix) => path.starts_with(prefix),
            Kind::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|whole| path == whole)
            }
            Kind::General(tokens) => run(tokens, path),
        }
    }
}

fn compile(text: &[u8]) -> Result<Kind, BadPattern> {
    let mut tokens = Vec::new();
    // What the pattern still can be; upstream decides in the same order, and its special cases differ from the general
    // matching (`**a` matches `ba` only because it is a suffix), so the order is behaviour.
    let mut kind = Some(Kind::Exact);
    let mut at = 0;
    while let Some((c, length)) = first_char(&text[at..]) {
        let start = at;
        at += length;
        match u8::try_from(c) {
            Ok(b'*') if text.get(at) == Some(&b'*') => {
                at += 1;
                if text.get(at) == Some(&b'/') {
                    at += 1;
                }
                if at < text.len() {
                    tokens.push(Token::Directories);
                    kind = None;
                } else if matches!(kind, Some(Kind::Exact)) {
                    kind = Some(Kind::Prefix(text[..text.len() - 2].to_vec()));
                    tokens.push(Token::All);
                } else {
                    tokens.push(Token::All);
                    kind = None;
                }
                if start == 0 {
                    kind = Some(Kind::Suffix(text[2..].to_vec()));
                }
                continue;
            }
            Ok(b'*') => tokens.push(Token::Any),
            Ok(b'?') => tokens.push(Token::One),
            Ok(b'[') => {
                let (class, length) = Class::parse(&text[start..])?;
                at = start + length;
                tokens.push(Token::Class(class));
            }
            Ok(b'\\') => {
                let (c, length) = first_char(&text[at..]).ok_or(BadPattern)?;
                at += length;
                tokens.push(Token::Literal(c));
            }
            byte => {
                tokens.push(Token::Literal(c));
                if byte != Ok(b']') {
                    continue;
                }
            }
        }
        kind = None;
    }
    Ok(kind.unwrap_or(Kind::General(tokens)))
}

/// Follows all possibilities at once; its time is the product of the lengths, whatever the pattern.
fn run(tokens: &[Token], path: &[u8]) -> bool {
    // State `t` means that the tokens before `t` have matched; `inside[t]` that token `t`, a `Directories`, has begun to
    // swallow characters and may end behind a slash only.
    let mut active = vec![false; tokens.len() + 1];
    let mut inside = vec![false; tokens.len() + 1];
    let mut next_active = active.clone();
    let mut next_inside = inside.clone();
    active[0] = true;
    let mut at = 0;
    loop {
        for (t, token) in tokens.iter().enumerate() {
            if active[t] && matches!(token, Token::Any | Token::All | Token::Directories) {
                active[t + 1] = true;
                inside[t] |= matches!(token, Token::Directories);
            }
        }
        let Some((c, length)) = first_char(&path[at..]) else {
            return active[tokens.len()];
        };
        at += length;
        next_active.fill(false);
        next_inside.fill(false);
        for (t, token) in tokens.iter().enumerate() {
            if inside[t] {
                next_inside[t] = true;
                next_active[t + 1] |= c == SLASH;
            }
            if !active[t] {
                continue;
            }
            match token {
                Token::Literal(literal) => next_active[t + 1] |= *literal == c,
                Token::Class(class) => next_active[t + 1] |= class.contains(c),
                Token::One => next_active[t + 1] |= c != SLASH,
                Token::Any => next_active[t] |= c != SLASH,
                Token::All => next_active[t] = true,
                Token::Directories => {}
            }
        }
        std::mem::swap(&mut active, &mut next_active);
        std::mem::swap(&mut inside, &mut next_inside);
    }
}
