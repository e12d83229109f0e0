//! Go's `filepath.Match`.

/// A pattern with a syntax error: a class without end, an escape without character, an empty range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// A character, or a byte that is no part of one (above all characters).
pub(super) type Char = u32;

/// First character of `bytes` and its length; none at the end.
pub(super) fn first_char(bytes: &[u8]) -> Option<(Char, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((Char::from(first), 1));
    }
    // No character is longer than four bytes; a cut one at the end of the window is invalid or not the first.
    let window = &bytes[..bytes.len().min(4)];
    let chunk = window.utf8_chunks().next()?;
    Some(match chunk.valid().chars().next() {
        Some(c) => (Char::from(c), c.len_utf8()),
        None => (invalid_byte(first), 1),
    })
}

fn invalid_byte(byte: u8) -> Char {
    0x11_0000 + Char::from(byte)
}

/// `[…]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    negated: bool,
    ranges: Vec<(Char, Char)>,
}

impl Class {
    pub(super) fn contains(&self, c: Char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != self.negated
    }

    /// Reads the class whose `[` is the first byte of `pattern`; its length in bytes comes with it.
    pub(super) fn parse(pattern: &[u8]) -> Result<(Self, usize), BadPattern> {
        let mut at = 1;
        let negated = pattern.get(at) == Some(&b'^');
        if negated {
            at += 1;
        }
        let mut ranges = Vec::new();
        loop {
            if pattern.get(at) == Some(&b']') && !ranges.is_empty() {
                return Ok((Self { negated, ranges }, at + 1));
            }
            let low = class_char(pattern, &mut at)?;
            let mut high = low;
            if pattern.get(at) == Some(&b'-') {
                at += 1;
                high = class_char(pattern, &mut at)?;
            }
            ranges.push((low, high));
        }
    }
}

fn class_char(pattern: &[u8], at: &mut usize) -> Result<Char, BadPattern> {
    match pattern.get(*at) {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => *at += 1,
        Some(_) => {}
    }
    let (c, length) = first_char(&pattern[*at..]).ok_or(BadPattern)?;
    if c >= 0x11_0000 {
        return Err(BadPattern);
    }
    *at += length;
    // A class cannot end here: its bracket is still to come.
    if *at >= pattern.len() {
        Err(BadPattern)
    } else {
        Ok(c)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Char),
    /// `?`
    One,
    /// `*`
    Any,
    Class(Class),
}

fn tokens(pattern: &[u8]) -> Result<Vec<Token>, BadPattern> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some((c, length)) = first_char(&pattern[at..]) {
        at += length;
        tokens.push(match u8::try_from(c) {
            Ok(b'*') => {
                if tokens.last() == Some(&Token::Any) {
                    continue;
                }
                Token::Any
            }
            Ok(b'?') => Token::One,
            Ok(b'[') => {
                let (class, length) = Class::parse(&pattern[at - 1..])?;
                at += length - 1;
                Token::Class(class)
            }
            Ok(b'\\') => {
                let (c, length) = first_char(&pattern[at..]).ok_or(BadPattern)?;
                at += length;
                Token::Literal(c)
            }
            _ => Token::Literal(c),
        });
    }
    Ok(tokens)
}

/// Whether `pattern` matches all of `name`: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` do not, `\` escapes.
///
/// # Errors
/// [`BadPattern`] for every malformed pattern, whether or not the fault is reached in matching.
pub fn glob_match(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    let tokens = tokens(pattern)?;
    let (mut token, mut at) = (0, 0);
    // Where to resume if a later part fails: behind the last `*`, one character on. An earlier `*` need never be widened,
    // for all a wider one could reach the last one reaches too.
    let mut resume: Option<(usize, usize)> = None;
    loop {
        let next = first_char(&name[at..]);
        let matched = match (tokens.get(token), next) {
            (None, None) => return Ok(true),
            (Some(Token::Any), _) => {
                token += 1;
                resume = Some((token, at));
                continue;
            }
            (Some(Token::Literal(literal)), Some((c, _))) => *literal == c,
            (Some(Token::One), Some((c, _))) => c != Char::from(b'/'),
            (Some(Token::Class(class)), Some((c, _))) => class.contains(c),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if let (true, Some((_, length))) = (matched, next) {
            token += 1;
            at += length;
            continue;
        }
        let Some((after, from)) = resume else {
            return Ok(false);
        };
        match first_char(&name[from..]) {
            Some((c, length)) if c != Char::from(b'/') => {
                (token, at) = (after, from + length);
                resume = Some((after, at));
            }
            _ => return Ok(false),
        }
    }
}

/// Whether a path has characters that make it a pattern.
#[must_use]
pub fn has_meta(path: &[u8]) -> bool {
    path.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'))
}
