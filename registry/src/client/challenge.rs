//! `WWW-Authenticate` headers (RFC 9110 section 11).

/// A way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// URL of the token service.
        realm: String,
        /// Name of the registry there.
        service: Option<String>,
        /// What the request needed.
        scope: Option<String>,
    },
}

/// The challenges of one header that we understand; a header may hold several.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let scheme = &rest[..end];
        let (parameters, after) = parameters(&rest[end..]);
        let get = |key: &str| {
            parameters
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(key))
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            found.push(Challenge::Bearer {
                realm,
                service: get("service"),
                scope: get("scope"),
            });
        }
        rest = after.trim_start_matches([' ', ',']);
    }
    found
}

/// Reads `key=value, key="value"…` up to the next scheme; gives the rest.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut list = Vec::new();
    let mut rest = text;
    loop {
        let start = rest.trim_start_matches([' ', ',']);
        let end = start.find(['=', ' ', ',']).unwrap_or(start.len());
        let after = start[end..].trim_start_matches(' ');
        let Some(after) = after.strip_prefix('=').filter(|_| end > 0) else {
            return (list, start);
        };
        let key = start[..end].to_owned();
        let after = after.trim_start_matches(' ');
        if let Some(quoted) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut escaped = false;
            let mut close = quoted.len();
            for (at, c) in quoted.char_indices() {
                match c {
                    _ if escaped => {
                        value.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        close = at + 1;
                        break;
                    }
                    _ => value.push(c),
                }
            }
            list.push((key, value));
            rest = &quoted[close..];
        } else {
            let end = after.find([' ', ',']).unwrap_or(after.len());
            list.push((key, after[..end].to_owned()));
            rest = &after[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: own(service),
            scope: own(scope),
        }
    }

    #[test]
    fn challenges() {
        let cases = [
            ("", vec![]),
            ("Basic", vec![Challenge::Basic]),
            ("Basic realm=\"a, b\"", vec![Challenge::Basic]),
            ("Negotiate", vec![]),
            ("Negotiate abc==, Basic realm=x", vec![Challenge::Basic]),
            ("Bearer service=\"x\"", vec![]),
            (
                "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull,push\"",
                vec![bearer("https://a/t", Some("s"), Some("repository:x:pull,push"))],
            ),
            ("bearer realm=http://a/t", vec![bearer("http://a/t", None, None)]),
            (
                "Basic realm=\"x\", Bearer realm = \"https://\\\"a\" , service=s",
                vec![Challenge::Basic, bearer("https://\"a", Some("s"), None)],
            ),
            ("Bearer realm=\"unclosed", vec![bearer("unclosed", None, None)]),
        ];
        for (header, expected) in cases {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn ends_on_anything(header in ".{0,200}") {
            parse(&header);
        }
    }
}
