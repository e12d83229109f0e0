//! Files of git repositories, fetched with the host's git.
//!
//! A reference is resolved first (`ls-remote`), unless it is a commit; a commit whose files are in the store already is not
//! fetched again. Git gets an environment of its own: no configuration but what is given here, no hooks, no prompts, no
//! protocol but http, https, git and ssh. Credentials are given in the environment, never on a command line.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cooper_registry::store::Snapshot;
use rustix::fs::{AtFlags, FileType, Mode, Timespec, chmodat, statat, utimensat};

use super::fetcher::{Fetched, Fetcher, basic, has_room};
use super::process::{Ended, Failure, run};
use super::source::{Git, Transport, Url, is_full_commit, redact};
use crate::build::{Error, IoContext as _};
use crate::cache::{Key, Made, look_up, remember};
use crate::tree::{RootHandle, only_modified, resolve};

/// A repository with more bytes in its packs is refused.
const MAX_PACKS: u64 = 32 << 30;
/// Where what was fetched is kept in the local repository.
const FETCHED: &str = "refs/cooper/fetched";
/// Of what git says when it fails.
const MAX_MESSAGE: usize = 2000;

/// What the host's environment may tell git: how to get to the network.
const KEPT: [&str; 12] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
];

/// One repository on its way into a snapshot.
struct Repository<'a> {
    fetcher: &'a Fetcher<'a>,
    source: &'a Git,
    /// Without credentials.
    remote: String,
    /// Settings in git's environment.
    config: Vec<(String, String)>,
    agent: Option<PathBuf>,
    /// What must not be seen.
    hidden: Vec<String>,
    snapshot: Snapshot,
}

impl Fetcher<'_> {
    /// Fetches a repository's files, unless those of the commit are known.
    pub(super) fn git(&self, source: &Git) -> Result<Fetched, Error> {
        let repository = Repository::new(self, source)?;
        let (commit, name) = repository.resolve()?;
        if let Some(expected) = &source.commit
            && !commit.starts_with(expected.as_str())
        {
            return Err(repository.failed(&format!("expected commit {expected}, got {commit}")));
        }
        let mut key = Key::new("GIT");
        key.add("commit", &commit);
        key.add_some("subdir", source.subdir.as_ref());
        key.add_some("submodules", (!source.submodules).then_some("no"));
        key.add_some("mtime", source.commit_time.then_some("commit"));
        if source.keep_git_dir {
            // What is in it says where it is from.
            key.add("git-dir", &repository.remote);
            key.add("git-dir", source.reference.as_deref().unwrap_or(""));
        }
        let hash = key.hash();
        if let Some(found) = look_up(self.store, self.lease, &hash)? {
            return Ok(Fetched {
                layer: found.layer,
                created: found.created,
                cached: true,
            });
        }
        let title = format!("fetched {} at {commit}", redact(&source.remote));
        let snapshot = repository.check_out(&commit, name.as_deref())?;
        let layer = self.store.commit_snapshot(snapshot, None)?;
        self.lease.layer(&layer.diff_id)?;
        let created = jiff::Timestamp::now().to_string();
        let made = Made {
            diff_id: &layer.diff_id,
            created: &created,
        };
        remember(self.store, &hash, &title, made, None)?;
        Ok(Fetched {
            layer,
            created,
            cached: false,
        })
    }
}

impl<'a> Repository<'a> {
    fn new(fetcher: &'a Fetcher<'a>, source: &'a Git) -> Result<Self, Error> {
        let mut repository = Self {
            fetcher,
            source,
            remote: source.remote.clone(),
            config: Vec::new(),
            agent: None,
            hidden: Vec::new(),
            snapshot: fetcher.store.new_snapshot()?,
        };
        for (name, value) in [
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.untrackedCache", "false"),
            ("credential.helper", ""),
            ("init.templateDir", ""),
            ("init.defaultBranch", "main"),
            ("advice.detachedHead", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("fetch.recurseSubmodules", "false"),
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
            ("safe.directory", "*"),
        ] {
            repository.config.push((name.to_owned(), value.to_owned()));
        }
        match source.transport {
            Transport::Http => repository.authorize()?,
            Transport::Ssh => {
                let agent = fetcher
                    .services
                    .secrets
                    .ssh_agent("default")
                    .map_err(Error::Source)?;
                let agent = agent.ok_or_else(|| repository.failed("the client forwards no ssh agent"))?;
                repository.agent = Some(agent);
            }
            Transport::Git => {}
        }
        Ok(repository)
    }

    /// Credentials of the URL, or the secrets `GIT_AUTH_HEADER` and `GIT_AUTH_TOKEN`, for this host alone or for any.
    fn authorize(&mut self) -> Result<(), Error> {
        use base64::Engine as _;
        let source = self.source;
        let url = Url::parse(&source.remote).map_err(Error::Source)?;
        self.remote = url.without_credentials(&source.remote);
        let value = if let Some(basic) = basic(&url) {
            self.hidden.extend(url.user.map(str::to_owned));
            basic
        } else {
            let names = [
                format!("GIT_AUTH_HEADER.{}", url.host),
                format!("GIT_AUTH_TOKEN.{}", url.host),
                "GIT_AUTH_HEADER".to_owned(),
                "GIT_AUTH_TOKEN".to_owned(),
            ];
            let Some((at, value)) = self.fetcher.secret(&names)? else {
                return Ok(());
            };
            self.hidden.push(value.clone());
            if at % 2 == 0 {
                value
            } else {
                let pair = format!("x-access-token:{value}");
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
        };
        self.hidden.push(value.clone());
        let scheme = self.remote.split("://").next().unwrap_or("https");
        let name = format!("http.{scheme}://{}/.extraheader", url.authority);
        self.config.push((name, format!("Authorization: {value}")));
        Ok(())
    }

    fn failed(&self, message: &str) -> Error {
        let mut text = format!(
            "failed to fetch {}: {}",
            redact(&self.source.remote),
            redact(message.trim())
        );
        for hidden in &self.hidden {
            text = text.replace(hidden, "xxxxx");
        }
        if text.len() > MAX_MESSAGE {
            let end = text.floor_char_boundary(MAX_MESSAGE);
            text.truncate(end);
        }
        Error::Source(text)
    }

    fn tree(&self) -> PathBuf {
        self.snapshot.upper()
    }

    /// Runs git in the work tree.
    fn run(&self, args: &[&str]) -> Result<Ended, Error> {
        let mut command = Command::new("git");
        command.args(args).current_dir(self.tree()).env_clear();
        for name in KEPT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let home = self.snapshot.work();
        command
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", &home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("GIT_ALLOW_PROTOCOL", "http:https:git:ssh")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_CEILING_DIRECTORIES", self.snapshot.dir())
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            // Hosts that the system knows must be who they were; others are believed, as BuildKit does.
            .env(
                "GIT_SSH_COMMAND",
                "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=30 -o UserKnownHostsFile=/dev/null \
                 -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR",
            )
            .env("GIT_CONFIG_COUNT", self.config.len().to_string());
        for (at, (name, value)) in self.config.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), name);
            command.env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        if let Some(agent) = &self.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        run(&mut command, self.fetcher.stop, &|| self.watch()).map_err(|failure| match failure {
            Failure::Stopped => Error::Cancelled,
            Failure::Watched(message) => self.failed(&message),
            Failure::Start(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.failed("git is needed and not installed on this host")
            }
            Failure::Start(error) => self.failed(&format!("git could not be run: {error}")),
        })
    }

    /// The same, where it must succeed.
    fn must(&self, args: &[&str]) -> Result<String, Error> {
        let ended = self.run(args)?;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        Err(self.failed(&ended.stderr))
    }

    /// Objects while a repository comes: neither too many of them nor too little room.
    fn watch(&self) -> Result<(), String> {
        let dir = fs::File::open(self.snapshot.dir()).map_err(|error| error.to_string())?;
        if !has_room(&dir) {
            return Err("not enough free space".to_owned());
        }
        let packs = fs::read_dir(self.tree().join(".git/objects/pack"));
        let size: u64 = packs
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .sum();
        if size > MAX_PACKS {
            return Err(format!("the repository has more than {MAX_PACKS} bytes"));
        }
        Ok(())
    }

    /// The commit, and the full name of the reference that leads to it, if one does.
    fn resolve(&self) -> Result<(String, Option<String>), Error> {
        let reference = self.source.reference.as_deref();
        if let Some(commit) = reference.filter(|text| is_full_commit(text)) {
            return Ok((commit.to_owned(), None));
        }
        let name = reference.unwrap_or("HEAD");
        let peeled = format!("{name}^{{}}");
        let listed = self.must(&["ls-remote", "--", &self.remote, name, &peeled])?;
        let found = choose(&listed, name).ok_or_else(|| {
            let listed: Vec<&str> = listed.lines().take(5).collect();
            self.failed(&format!(
                "repository does not contain ref {name}, output: {listed:?}"
            ))
        })?;
        if !is_full_commit(&found.0) {
            return Err(self.failed("the server gave something that is no commit"));
        }
        Ok((found.0, Some(found.1)))
    }

    /// Fetches the commit and puts its files into the snapshot's upper directory.
    fn check_out(self, commit: &str, name: Option<&str>) -> Result<Snapshot, Error> {
        let format = if commit.len() == 64 { "sha256" } else { "sha1" };
        self.must(&["init", "-q", &format!("--object-format={format}")])?;
        self.fetch_commit(commit, name)?;
        let object = format!("{commit}^{{commit}}");
        self.must(&["checkout", "-q", "-f", "--detach", &object])?;
        if self.source.submodules && self.tree().join(".gitmodules").symlink_metadata().is_ok() {
            self.must(&["remote", "add", "origin", "--", &self.remote])?;
            self.must(&["submodule", "update", "-q", "--init", "--recursive", "--depth=1"])?;
        } else if self.source.keep_git_dir {
            self.must(&["remote", "add", "origin", "--", &self.remote])?;
        }
        let time = match self.source.commit_time {
            true => self
                .must(&["show", "-s", "--format=%ct", commit])?
                .trim()
                .parse()
                .ok(),
            false => None,
        };
        if self.source.keep_git_dir {
            self.must(&["update-ref", "-d", FETCHED])?;
            let left = self.tree().join(".git/FETCH_HEAD");
            if let Err(error) = fs::remove_file(&left) {
                tracing::debug!(%error, "there is no FETCH_HEAD to remove");
            }
        }
        self.fetcher.check_cancelled()?;
        self.normalise(time)?;
        self.enter_subdir()?;
        Ok(self.snapshot)
    }

    /// As little of the history as the server lets us have.
    fn fetch_commit(&self, commit: &str, name: Option<&str>) -> Result<(), Error> {
        let by_name = name.filter(|_| !self.source.fetch_by_commit);
        let mut last = None;
        for what in by_name.into_iter().chain([commit]) {
            let refspec = format!("+{what}:{FETCHED}");
            let args = [
                "fetch",
                "-q",
                "--no-tags",
                "--depth=1",
                "--",
                &self.remote,
                &refspec,
            ];
            let ended = self.run(&args)?;
            // A name may lead elsewhere by now.
            if ended.status.success() && self.has(commit)? {
                return Ok(());
            }
            last = Some(ended);
        }
        // Servers without shallow clones, or that give nothing but what they advertise.
        let all = [
            "+refs/heads/*:refs/cooper/heads/*",
            "+refs/tags/*:refs/cooper/tags/*",
        ];
        let args = ["fetch", "-q", "--no-tags", "--", &self.remote, all[0], all[1]];
        let ended = self.run(&args)?;
        if self.has(commit)? {
            return Ok(());
        }
        let said = last.filter(|last| !last.status.success()).unwrap_or(ended);
        Err(self.failed(&format!(
            "commit {commit} could not be fetched: {}",
            said.stderr.trim()
        )))
    }

    fn has(&self, commit: &str) -> Result<bool, Error> {
        let ended = self.run(&["cat-file", "-e", &format!("{commit}^{{commit}}")])?;
        Ok(ended.status.success())
    }

    /// Modes 0644 and 0755, whatever this process's umask is; the times of the commit, if asked; no `.git` but a kept one.
    fn normalise(&self, time: Option<i64>) -> Result<(), Error> {
        let root = RootHandle::open_host(&self.tree())?;
        let mut dirs = vec![PathBuf::new()];
        let mut at = 0;
        while at < dirs.len() {
            self.fetcher.check_cancelled()?;
            let rel = dirs[at].clone();
            at += 1;
            let dir = root.open_dir(&rel).at(&rel)?;
            for name in crate::tree::list(&dir).at(&rel)? {
                let path = rel.join(&name);
                let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                if name.as_bytes() == b".git" {
                    if !self.source.keep_git_dir {
                        // Its parents are directories, and nobody else writes here.
                        let full = self.tree().join(&path);
                        let removed = if kind == FileType::Directory {
                            fs::remove_dir_all(&full)
                        } else {
                            fs::remove_file(&full)
                        };
                        removed.map_err(|error| Error::io(&path, &error))?;
                    }
                    continue;
                }
                let mode = match kind {
                    FileType::Directory => {
                        dirs.push(path.clone());
                        0o755
                    }
                    FileType::RegularFile if stat.st_mode & 0o100 != 0 => 0o755,
                    _ => 0o644,
                };
                if kind != FileType::Symlink {
                    chmodat(&dir, &name, Mode::from_raw_mode(mode), AtFlags::empty()).at(&path)?;
                }
                if let Some(time) = time.filter(|_| kind != FileType::Directory) {
                    utimensat(&dir, &name, &at_second(time), AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
                }
            }
        }
        // Nothing is written into the directories any more.
        if let Some(time) = time {
            for rel in &dirs {
                rustix::fs::futimens(root.open_dir(rel).at(rel)?, &at_second(time)).at(rel)?;
            }
        }
        Ok(())
    }

    /// Leaves only the subdirectory.
    fn enter_subdir(&self) -> Result<(), Error> {
        let Some(subdir) = &self.source.subdir else {
            return Ok(());
        };
        let root = RootHandle::open_host(&self.tree())?;
        let found = resolve(&root, Path::new(subdir)).at(subdir)?;
        let is_dir = found
            .stat
            .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if !is_dir {
            return Err(self.failed(&format!("the repository has no directory {subdir}")));
        }
        if found.real.as_os_str().is_empty() {
            return Ok(());
        }
        let (tree, whole) = (self.tree(), self.snapshot.dir().join("whole"));
        let moved = fs::rename(&tree, &whole).and_then(|()| fs::rename(whole.join(&found.real), &tree));
        moved.map_err(|error| Error::io(Path::new(subdir), &error))
    }
}

fn at_second(time: i64) -> rustix::fs::Timestamps {
    only_modified(Timespec {
        tv_sec: time,
        tv_nsec: 0,
    })
}

/// Of the lines of `ls-remote` the one that `name` means: a branch before a tag, as for `git checkout`, and of an annotated
/// tag its commit.
fn choose(listed: &str, name: &str) -> Option<(String, String)> {
    let lines: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
    let get = |wanted: &str| {
        lines
            .iter()
            .find(|(_, name)| *name == wanted)
            .map(|(commit, _)| *commit)
    };
    let short = name.strip_prefix("refs/").unwrap_or(name);
    let mut candidates = vec![
        format!("refs/heads/{name}"),
        format!("refs/{short}"),
        format!("refs/tags/{name}"),
    ];
    if name == "HEAD" {
        candidates.insert(0, name.to_owned());
    }
    candidates.into_iter().find_map(|full| {
        let commit = get(&format!("{full}^{{}}")).or_else(|| get(&full))?;
        Some((commit.to_owned(), full))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_references() {
        let listed = "1\tHEAD\n2\trefs/heads/x\n3\trefs/tags/x\n4\trefs/tags/x^{}\n5\trefs/tags/v\n6\trefs/tags/v^{}\n7\trefs/pull/1/head\n";
        for (name, expected) in [
            ("HEAD", Some(("1", "HEAD"))),
            ("x", Some(("2", "refs/heads/x"))),
            ("refs/tags/x", Some(("4", "refs/tags/x"))),
            ("v", Some(("6", "refs/tags/v"))),
            ("refs/pull/1/head", Some(("7", "refs/pull/1/head"))),
            ("nosuch", None),
        ] {
            let found = choose(listed, name);
            let expected = expected.map(|(commit, full)| (commit.to_owned(), full.to_owned()));
            assert_eq!(found, expected, "{name}");
        }
    }
}
