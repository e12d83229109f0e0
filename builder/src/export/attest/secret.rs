//! What must not be told although it is no secret by name of the language.

/// Words in a build argument's name that mean that its value is not for everybody; those of BuildKit's check
/// `SecretsUsedInArgOrEnv`.
const TOKENS: [&str; 11] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "pwd",
    "secret",
    "token",
];
/// Words that make such a name harmless.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Whether the value of a build argument is left out of what is told about the build.
pub(super) fn is_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut words = lower.split(['_', '-', '.']);
    let has = |list: &[&str]| words.clone().any(|word| list.contains(&word));
    let proxy = lower.ends_with("_proxy");
    let harmless = has(&HARMLESS);
    proxy || (!harmless && words.any(|word| TOKENS.contains(&word)))
}

/// A URL without user name and password, and without a query, which may hold a token.
pub(super) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let rest = rest.split('?').next().unwrap_or(rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_urls() {
        for (name, secret) in [
            ("GITHUB_TOKEN", true),
            ("API_KEY", true),
            ("db-password", true),
            ("HTTPS_PROXY", true),
            ("PUBLIC_KEY", false),
            ("TOKEN_VERSION", false),
            ("VERSION", false),
            ("MONKEY", false),
        ] {
            assert_eq!(is_secret(name), secret, "{name}");
        }
        for (url, shown) in [
            ("https://u:p@host/a.git#main", "https://host/a.git#main"),
            ("https://host/a?token=x", "https://host/a"),
            ("git@host:a.git", "git@host:a.git"),
            (".", "."),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
