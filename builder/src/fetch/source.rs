//! URLs of ADD and of contexts taken apart. No IO.

/// Where something is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remote {
    Http(Http),
    Git(Git),
}

/// A file behind a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    /// With credentials, if there are any in it.
    pub(crate) url: String,
    pub(crate) checksum: Option<Checksum>,
}

/// What the bytes of a file must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksum {
    pub(crate) algorithm: Algorithm,
    /// In lower case.
    pub(crate) hex: String,
}

/// Algorithms of `--checksum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// Files of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Git {
    /// What git gets; with credentials, if there are any in it.
    pub(crate) remote: String,
    pub(crate) transport: Transport,
    /// For secrets.
    pub(crate) host: String,
    /// Branch, tag, commit or full name of a reference; none for the remote's HEAD.
    pub(crate) reference: Option<String>,
    /// What the commit must begin with.
    pub(crate) commit: Option<String>,
    /// Below the repository's root, without `..`.
    pub(crate) subdir: Option<String>,
    pub(crate) keep_git_dir: bool,
    pub(crate) submodules: bool,
    /// Files have the time of the commit, not that of the checkout.
    pub(crate) commit_time: bool,
    /// The reference is only compared with the commit; the commit is what is fetched.
    pub(crate) fetch_by_commit: bool,
}

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// `http` and `https`
    Http,
    Ssh,
    Git,
}

impl Remote {
    /// What a source of ADD means: none for a path. Git is told by its scheme, by `user@host:path`, and by a path that ends
    /// with `.git`.
    pub(crate) fn of_add(text: &str) -> Option<Result<Self, String>> {
        if let Some(git) = Git::parse(text) {
            return Some(git.map(Self::Git));
        }
        Self::is_http(text).then(|| Http::parse(text).map(Self::Http))
    }

    /// What a context means, where `github.com/` stands for git, too.
    pub(crate) fn of_context(text: &str) -> Result<Self, String> {
        let github = text.strip_prefix("github.com/").map(|_| {
            let (path, rest) = text.split_at(text.find(['#', '?']).unwrap_or(text.len()));
            let dot = if path.ends_with(".git") { "" } else { ".git" };
            format!("https://{path}{dot}{rest}")
        });
        let text = github.as_deref().unwrap_or(text);
        Self::of_add(text).unwrap_or_else(|| Err(format!("invalid remote context {:?}", redact(text))))
    }

    pub(crate) fn is_http(text: &str) -> bool {
        matches!(scheme(text), Some((scheme, _)) if scheme == "http" || scheme == "https")
    }

    /// With `--checksum`.
    pub(crate) fn with_checksum(self, text: &str) -> Result<Self, String> {
        Ok(match self {
            Self::Http(http) => Self::Http(Http {
                checksum: Some(Checksum::parse(text)?),
                ..http
            }),
            Self::Git(git) => {
                let commit = commit_prefix(text)?;
                if git.commit.as_ref().is_some_and(|known| *known != commit) {
                    return Err("the URL names another commit than --checksum".to_owned());
                }
                // Without a reference the checksum says what to fetch.
                let reference = git
                    .reference
                    .or_else(|| is_full_commit(&commit).then(|| commit.clone()));
                Self::Git(Git {
                    reference,
                    commit: Some(commit),
                    ..git
                })
            }
        })
    }
}

impl Http {
    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)?;
        if url.host.is_empty() {
            return Err(format!("the URL {:?} has no host", redact(text)));
        }
        Ok(Self {
            url: text.to_owned(),
            checksum: None,
        })
    }

    /// The last part of the URL's path, `__unnamed__` if there is none. As in BuildKit, `Content-Disposition` has no say.
    pub(crate) fn file_name(&self) -> String {
        let path = Url::parse(&self.url)
            .map(|url| decode(url.path))
            .unwrap_or_default();
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
        let name = if is_file_name(name) { name } else { "__unnamed__" };
        name.to_owned()
    }
}

impl Checksum {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!("invalid checksum {text:?}: expected sha256:, sha384: or sha512: and as many hex digits")
        };
        let (name, hex) = text.split_once(':').ok_or_else(invalid)?;
        let (algorithm, length) = match name {
            "sha256" => (Algorithm::Sha256, 64),
            "sha384" => (Algorithm::Sha384, 96),
            "sha512" => (Algorithm::Sha512, 128),
            _ => return Err(invalid()),
        };
        let valid = hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !valid {
            return Err(invalid());
        }
        Ok(Self {
            algorithm,
            hex: hex.to_owned(),
        })
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.algorithm {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        };
        write!(f, "{name}:{}", self.hex)
    }
}

impl Git {
    /// None if it is not a git repository.
    fn parse(text: &str) -> Option<Result<Self, String>> {
        if text.starts_with("./") || text.starts_with("../") {
            return None;
        }
        let Some((name, _)) = scheme(text) else {
            return Self::parse_scp(text);
        };
        let transport = match name.as_str() {
            "http" | "https" => Transport::Http,
            "ssh" => Transport::Ssh,
            "git" => Transport::Git,
            _ => return None,
        };
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(_) if transport == Transport::Http => return None,
            Err(message) => return Some(Err(message)),
        };
        if transport == Transport::Http && !url.path.ends_with(".git") {
            return None;
        }
        let end = text.find(['?', '#']).unwrap_or(text.len());
        Some(
            Self::new(text[..end].to_owned(), transport, url.host, url.fragment)
                .and_then(|git| git.with_query(url.query)),
        )
    }

    /// `user@host:path#fragment`
    fn parse_scp(text: &str) -> Option<Result<Self, String>> {
        let (user, rest) = text.split_once('@')?;
        let (host, path) = rest.split_once(':')?;
        let plain = |text: &str, more: &str| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if !plain(user, "-_") || !plain(host, "-.") {
            return None;
        }
        let (path, fragment) = path
            .split_once('#')
            .map_or((path, None), |(path, rest)| (path, Some(rest)));
        Some(Self::new(
            format!("{user}@{host}:{path}"),
            Transport::Ssh,
            host,
            fragment,
        ))
    }

    fn new(remote: String, transport: Transport, host: &str, fragment: Option<&str>) -> Result<Self, String> {
        let odd = |c: char| c.is_control() || c.is_whitespace();
        let option = |text: &str| text.starts_with('-');
        let path = remote
            .rsplit_once(host)
            .map_or("", |(_, path)| path.trim_start_matches([':', '/']));
        if host.is_empty() || remote.contains(odd) || option(host) || option(&remote) || option(path) {
            return Err(format!("invalid git URL {:?}", redact(&remote)));
        }
        let host = host.to_owned();
        let mut git = Self {
            remote,
            transport,
            host,
            reference: None,
            commit: None,
            subdir: None,
            keep_git_dir: false,
            submodules: true,
            commit_time: false,
            fetch_by_commit: false,
        };
        if let Some(fragment) = fragment {
            let fragment = decode(fragment);
            let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
            git.set_reference(reference)?;
            git.set_subdir(subdir)?;
        }
        Ok(git)
    }

    fn with_query(mut self, query: Option<&str>) -> Result<Self, String> {
        let mut seen: Vec<String> = Vec::new();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key), decode(value));
            if seen.contains(&key) {
                return Err(format!("query parameter {key:?} is given twice"));
            }
            let flag = || match value.as_str() {
                "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(format!("invalid {key} value: {value:?}")),
            };
            match key.as_str() {
                "ref" => self.set_reference(&value)?,
                "tag" => self.set_reference(&format!("refs/tags/{value}"))?,
                "branch" => self.set_reference(&format!("refs/heads/{value}"))?,
                "subdir" => self.set_subdir(&value)?,
                "commit" | "checksum" => {
                    let commit = commit_prefix(&value)?;
                    if self
                        .commit
                        .replace(commit.clone())
                        .is_some_and(|other| other != commit)
                    {
                        return Err("commit and checksum differ".to_owned());
                    }
                }
                "keep-git-dir" => self.keep_git_dir = flag()?,
                "submodules" => self.submodules = flag()?,
                "fetch-by-commit" => self.fetch_by_commit = flag()?,
                "mtime" => {
                    self.commit_time = match value.as_str() {
                        "checkout" => false,
                        "commit" => true,
                        _ => return Err(format!("invalid mtime value: {value:?}")),
                    }
                }
                _ => return Err(format!("unexpected query parameter {key:?}")),
            }
            seen.push(key);
        }
        if let (None, Some(commit)) = (&self.reference, &self.commit)
            && is_full_commit(commit)
        {
            self.reference = Some(commit.clone());
        }
        Ok(self)
    }

    fn set_reference(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        if text.starts_with('-') || text.contains(odd) || text.contains("..") || text.ends_with('/') {
            return Err(format!("invalid git reference {text:?}"));
        }
        match self.reference.replace(text.to_owned()) {
            Some(other) if other != text => Err(format!("conflicting git references {other:?} and {text:?}")),
            _ => Ok(()),
        }
    }

    fn set_subdir(&mut self, text: &str) -> Result<(), String> {
        let parts: Vec<&str> = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        if parts.contains(&"..") || text.contains('\0') {
            return Err(format!("invalid git subdirectory {text:?}"));
        }
        if parts.is_empty() {
            return Ok(());
        }
        let clean = parts.join("/");
        match self.subdir.replace(clean.clone()) {
            Some(other) if other != clean => {
                Err(format!("conflicting git subdirectories {other:?} and {clean:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether it is a whole commit hash: SHA-1 or SHA-256.
pub(super) fn is_full_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn commit_prefix(text: &str) -> Result<String, String> {
    // Shorter ones are soon those of other commits, too.
    let valid =
        (7..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid
        .then(|| text.to_owned())
        .ok_or_else(|| format!("invalid commit {text:?}: expected at least 7 hex digits"))
}

/// A URL's parts as they are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Url<'a> {
    /// `user:password`
    pub(super) user: Option<&'a str>,
    /// Name or address, without port.
    pub(super) host: &'a str,
    /// With port, if there is one.
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) fragment: Option<&'a str>,
}

impl<'a> Url<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let invalid = || format!("invalid URL {:?}", redact(text));
        let (_, rest) = scheme(text).ok_or_else(invalid)?;
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(invalid());
        }
        let (rest, fragment) = rest
            .split_once('#')
            .map_or((rest, None), |(rest, part)| (rest, Some(part)));
        let (rest, query) = rest
            .split_once('?')
            .map_or((rest, None), |(rest, part)| (rest, Some(part)));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, authority) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(user, host)| (Some(user), host));
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(invalid)?.0,
            None => authority.split(':').next().unwrap_or(authority),
        };
        Ok(Self {
            user,
            host,
            authority,
            path,
            query,
            fragment,
        })
    }
}

impl Url<'_> {
    /// The URL `text`, of which this is, as it may be sent and shown: without credentials and fragment.
    pub(super) fn without_credentials(&self, text: &str) -> String {
        let (scheme, _) = text.split_once("://").unwrap_or(("https", text));
        let query = self.query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{}{}{query}", self.authority, self.path)
    }
}

/// Scheme in lower case and what follows `://`.
fn scheme(text: &str) -> Option<(String, &str)> {
    let (name, rest) = text.split_once("://")?;
    let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    valid.then(|| (name.to_lowercase(), rest))
}

/// The text with the credentials of all URLs in it blotted out.
pub(crate) fn redact(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail
            .find(|c: char| "/?#\"'".contains(c) || c.is_whitespace())
            .unwrap_or(tail.len());
        let (authority, tail) = tail.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str("xxxxx@");
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Percent decoding; what is no UTF-8 then is replaced.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|&b| char::from(b).to_digit(16));
        rest = tail;
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = &tail[2..];
            }
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether it can be the name of one file.
fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && name.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let commit = "0123456789012345678901234567890123456789";
        for (text, expected) in [
            ("a/b", "path"),
            ("./git@host:x", "path"),
            ("C://x/y.git", "path"),
            ("file:///x.git", "path"),
            ("ext::sh -c x", "path"),
            ("https://h/a.tar?x=1", "http a.tar"),
            ("HTTPS://h", "http __unnamed__"),
            ("https://h/", "http __unnamed__"),
            ("https://h/a%20b/", "http a b"),
            ("https://h/..", "http __unnamed__"),
            ("http://h/a%2Fb", "http b"),
            ("https:///x", "the URL \"https:///x\" has no host"),
            ("https://u:p@h/ x", "invalid URL \"https://xxxxx@h/ x\""),
            ("https://h/r.git", "git https://h/r.git - - -"),
            (
                "https://u:p@h:8/r.git#main:a/b",
                "git https://u:p@h:8/r.git main - a/b",
            ),
            ("https://h/r.git#:sub", "git https://h/r.git - - sub"),
            ("git@h:o/r#v1", "git git@h:o/r v1 - -"),
            ("git@h:o/r.git#v1:/s/./t/", "git git@h:o/r.git v1 - s/t"),
            ("ssh://git@h:22/r#x", "git ssh://git@h:22/r x - -"),
            ("git://h/r", "git git://h/r - - -"),
            (
                "https://h/r.git?tag=v1&subdir=d",
                "git https://h/r.git refs/tags/v1 - d",
            ),
            (
                "https://h/r.git?branch=b&commit=abcdef0",
                "git https://h/r.git refs/heads/b abcdef0 -",
            ),
            (
                "https://h/r.git?ref=a&tag=b",
                "conflicting git references \"a\" and \"refs/tags/b\"",
            ),
            ("https://h/r.git?nope=1", "unexpected query parameter \"nope\""),
            ("https://h/r.git?mtime=x", "invalid mtime value: \"x\""),
            (
                "https://h/r.git#--upload-pack=x",
                "invalid git reference \"--upload-pack=x\"",
            ),
            ("https://h/r.git#a:../b", "invalid git subdirectory \"../b\""),
            (
                "git@h:--upload-pack=x",
                "invalid git URL \"git@h:--upload-pack=x\"",
            ),
            (
                "ssh://-oProxyCommand=x/r",
                "invalid git URL \"ssh://-oProxyCommand=x/r\"",
            ),
            (
                "https://h/r.git?commit=xyz",
                "invalid commit \"xyz\": expected at least 7 hex digits",
            ),
        ] {
            let found = match Remote::of_add(text) {
                None => "path".to_owned(),
                Some(Err(message)) => message,
                Some(Ok(Remote::Http(http))) => format!("http {}", http.file_name()),
                Some(Ok(Remote::Git(git))) => {
                    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                    let (reference, commit) = (or(&git.reference), or(&git.commit));
                    format!("git {} {reference} {commit} {}", git.remote, or(&git.subdir))
                }
            };
            assert_eq!(found, expected, "{text}");
        }
        let full = Remote::of_add(&format!(
            "https://h/r.git?commit={commit}&submodules=0&keep-git-dir=true"
        ));
        let Some(Ok(Remote::Git(git))) = full else {
            panic!("{full:?}")
        };
        assert_eq!(git.reference.as_deref(), Some(commit));
        assert!(git.keep_git_dir && !git.submodules);
        let Ok(Remote::Git(git)) = Remote::of_context("github.com/o/r#main:d") else {
            panic!()
        };
        assert_eq!(git.remote, "https://github.com/o/r.git");
        assert!(Remote::of_context("nowhere").is_err());
    }

    #[test]
    fn credentials_are_not_shown() {
        for (text, expected) in [
            ("ADD https://u:p@h/x /d", "ADD https://xxxxx@h/x /d"),
            ("https://t@h", "https://xxxxx@h"),
            ("git@h:x https://h/a@b", "git@h:x https://h/a@b"),
            ("a://u:p@h b://v@i/", "a://xxxxx@h b://xxxxx@i/"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn checksums() {
        let hex = "0".repeat(64);
        for (text, valid) in [
            (format!("sha256:{hex}"), true),
            (format!("sha384:{}", "0".repeat(96)), true),
            (format!("sha512:{}", "f".repeat(128)), true),
            (format!("sha512:{hex}"), false),
            (format!("md5:{hex}"), false),
            (hex.clone(), false),
            (format!("sha256:{}", "A".repeat(64)), false),
        ] {
            assert_eq!(Checksum::parse(&text).is_ok(), valid, "{text}");
        }
    }
}
