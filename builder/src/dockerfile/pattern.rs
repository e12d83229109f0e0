//! Shell patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and escapes, no bracket expressions.

use super::expand::EXPANSION_LIMIT;

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Any,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("invalid escape '\\{0}'")]
    InvalidEscape(String),
    #[error("the pattern takes too long to match")]
    TooExpensive,
    #[error("the result is longer than {EXPANSION_LIMIT} bytes")]
    TooLong,
}

/// Steps after which matching is given up, some tens of milliseconds.
const MAX_STEPS: usize = 20_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match chars.next() {
                    // `}` and `/` need escaping inside `${}`.
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(c),
                    other => {
                        return Err(PatternError::InvalidEscape(
                            other.map(String::from).unwrap_or_default(),
                        ));
                    }
                },
                c => Token::Literal(c),
            });
        }
        Ok(Self(tokens))
    }

    /// `value` without the shortest or longest part at its start that matches.
    pub(super) fn trim_prefix(&self, value: &str, longest: bool) -> Result<String, PatternError> {
        let chars: Vec<char> = value.chars().collect();
        let mut steps = 0;
        let end = match_end(&self.0, &chars, longest, &mut steps)?;
        Ok(chars[end.unwrap_or(0)..].iter().collect())
    }

    /// `value` without the shortest or longest part at its end that matches.
    pub(super) fn trim_suffix(&self, value: &str, longest: bool) -> Result<String, PatternError> {
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let chars: Vec<char> = value.chars().rev().collect();
        let mut steps = 0;
        let end = match_end(&tokens, &chars, longest, &mut steps)?;
        Ok(chars[end.unwrap_or(0)..].iter().rev().collect())
    }

    /// `value` with the first longest match, or all of them, replaced.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> Result<String, PatternError> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut steps = 0;
        let mut at = 0;
        let mut previous_end = None;
        while at <= chars.len() {
            let end = match_end(&self.0, &chars[at..], true, &mut steps)?.map(|length| at + length);
            match end {
                // An empty match right behind another match does not count.
                Some(end) if end > at || previous_end != Some(at) => {
                    out.push_str(replacement);
                    if out.len() > EXPANSION_LIMIT {
                        return Err(PatternError::TooLong);
                    }
                    previous_end = Some(end);
                    if end == at {
                        out.extend(chars.get(at));
                        at += 1;
                    } else {
                        at = end;
                    }
                    if !all {
                        break;
                    }
                }
                _ => {
                    out.extend(chars.get(at));
                    at += 1;
                }
            }
        }
        out.extend(chars.get(at..).unwrap_or_default());
        Ok(out)
    }
}

/// Length of the shortest or longest match at the start of `chars`. Wildcards do not match newlines.
///
/// Follows all possibilities at once, so no pattern makes it backtrack; `steps` counts the work of the whole expansion.
fn match_end(
    tokens: &[Token],
    chars: &[char],
    longest: bool,
    steps: &mut usize,
) -> Result<Option<usize>, PatternError> {
    let mut active = vec![false; tokens.len() + 1];
    let mut next = vec![false; tokens.len() + 1];
    active[0] = true;
    let mut best = None;
    for i in 0..=chars.len() {
        *steps += tokens.len() + 1;
        if *steps > MAX_STEPS {
            return Err(PatternError::TooExpensive);
        }
        for (t, token) in tokens.iter().enumerate() {
            if active[t] && *token == Token::Any {
                active[t + 1] = true;
            }
        }
        if active[tokens.len()] {
            best = Some(i);
            if !longest {
                break;
            }
        }
        let Some(&c) = chars.get(i) else { break };
        next.fill(false);
        let mut alive = false;
        for (t, token) in tokens.iter().enumerate().filter(|(t, _)| active[*t]) {
            let target = match token {
                Token::Literal(literal) if *literal == c => t + 1,
                Token::One if c != '\n' => t + 1,
                Token::Any if c != '\n' => t,
                _ => continue,
            };
            next[target] = true;
            alive = true;
        }
        if !alive {
            break;
        }
        std::mem::swap(&mut active, &mut next);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_handles_empty_and_adjacent_matches() {
        let check = |pattern: &str, value: &str, all, expected: &str| {
            let result = Pattern::parse(pattern).unwrap().replace(value, "-", all).unwrap();
            assert_eq!(result, expected, "{pattern} {value}");
        };
        check("", "ab", true, "-a-b-");
        check("", "ab", false, "-ab");
        check("*", "ab", true, "-");
        check("a", "banana", true, "b-n-n-");
        check("a*n", "banana", true, "b-a");
        check("?", "한국", true, "--");
        check("\\*", "a*b*", false, "a-b*");
    }

    #[test]
    fn hostile_patterns_end() {
        let pattern = Pattern::parse(&"*a".repeat(2000)).unwrap();
        assert_eq!(
            pattern.replace(&"a".repeat(1_000_000), "", true),
            Err(PatternError::TooExpensive)
        );
    }
}
