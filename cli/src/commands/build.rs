//! `build`, and the first half of `run --build`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cooper_daemon::api::Message;
use cooper_daemon::build::{Event, tar_directory};
use futures_util::StreamExt;
use serde_json::json;

use super::create::usage;
use super::print;
use crate::args::build::{BuildArgs, ProgressMode};
use crate::args::create::RunArgs;
use crate::client::{Client, Lines, Payload, query};
use crate::failure::{Failure, Result};
use crate::output::messages::stderr_is_terminal;
use crate::output::progress::{Plain, Screen, Tty, size};
use crate::outputs::{OutputSpec, receive, refuse_terminal};
use crate::session::{Signals, signal_number};
use crate::settings::values;

/// Longest Dockerfile read from stdin or from outside of the context.
const MAX_DOCKERFILE: u64 = 4 << 20;
/// Time between two frames of the live view.
const FRAME: Duration = Duration::from_millis(100);
/// Name of a Dockerfile that is not in the context, inside of the tar.
const FOREIGN_DOCKERFILE: &str = ".dockerfile.cooper";

/// What to build and how to show it.
pub(super) struct Options {
    context: PathBuf,
    file: Option<PathBuf>,
    /// The rest of the query, in docker's names.
    pairs: Vec<(&'static str, String)>,
    progress: ProgressMode,
}

/// What was built.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Built {
    /// The image's id.
    pub(super) id: String,
    /// Its names.
    pub(super) names: Vec<String>,
}

/// `build`.
pub(super) async fn run(client: &Client, args: &BuildArgs) -> Result {
    let outputs = args.output.iter().map(|text| OutputSpec::parse(text));
    let outputs = outputs
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(usage)?;
    for spec in &outputs {
        refuse_terminal(spec)?;
        if spec.is_image_form() {
            return Err(usage(
                "options of the image are not available for this output".to_owned(),
            ));
        }
    }
    let built = build(client, &Options::new(args)?).await?;
    for spec in &outputs {
        let epoch = epoch().and_then(|(_, value)| value.parse().ok());
        for warning in receive(client, &built.id, spec, &built.names, epoch).await? {
            print::warning(&warning);
        }
    }
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
    };
    if let Some(path) = &args.iidfile {
        write(path, &built.id)?;
    }
    if let Some(path) = &args.metadata_file {
        let metadata = json!({"containerimage.config.digest": built.id, "image.name": built.names.join(",")});
        write(path, &super::inspect::pretty(&metadata)?)?;
    }
    if args.quiet || args.progress == ProgressMode::Quiet {
        print::line(&built.id)?;
    }
    Ok(())
}

impl Options {
    fn new(args: &BuildArgs) -> Result<Self> {
        if !matches!(args.network.as_str(), "host" | "none" | "default") {
            return Err(usage(format!(
                "network `{}` is not available: use host or none",
                args.network
            )));
        }
        let flag = |set: bool| if set { "1" } else { "0" }.to_owned();
        let labels = values::labels(&[], &args.label).map_err(usage)?;
        let mut pairs: Vec<(&'static str, String)> = args.tag.iter().map(|tag| ("t", tag.clone())).collect();
        pairs.extend([
            (
                "buildargs",
                json!(build_args(&args.build_arg, &|name| std::env::var(name).ok())).to_string(),
            ),
            ("labels", json!(labels).to_string()),
            ("nocache", flag(args.no_cache)),
            ("pull", flag(args.pull)),
            ("networkmode", args.network.clone()),
        ]);
        pairs.extend(epoch());
        pairs.extend(args.target.clone().map(|target| ("target", target)));
        pairs.extend(args.platform.clone().map(|platform| ("platform", platform)));
        let progress = if args.quiet {
            ProgressMode::Quiet
        } else {
            args.progress
        };
        Ok(Self {
            context: args.context.clone(),
            file: args.file.clone(),
            pairs,
            progress,
        })
    }

    /// What `run --build` builds.
    pub(super) fn for_run(args: &RunArgs, directory: &Path) -> Self {
        let build_args = build_args(&args.build_arg, &|name| std::env::var(name).ok());
        let mut pairs = vec![("buildargs", json!(build_args).to_string())];
        pairs.push((
            "pull",
            if args.flags.pull == crate::args::create::PullPolicy::Always {
                "1"
            } else {
                "0"
            }
            .to_owned(),
        ));
        pairs.extend(epoch());
        pairs.extend(args.build_target.clone().map(|target| ("target", target)));
        Self {
            context: directory.to_owned(),
            file: args.build_file.clone(),
            pairs,
            progress: if args.flags.quiet {
                ProgressMode::Quiet
            } else {
                ProgressMode::Auto
            },
        }
    }
}

/// SOURCE_DATE_EPOCH of the environment, to which the engine clamps times.
fn epoch() -> Option<(&'static str, String)> {
    let value = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .filter(|value| !value.is_empty())?;
    Some(("cooper-epoch", value))
}

/// `--build-arg`, with SOURCE_DATE_EPOCH from the environment as buildx does. A name that has no value anywhere is
/// left out.
fn build_args(flags: &[String], own: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    all.extend(own("SOURCE_DATE_EPOCH").map(|value| ("SOURCE_DATE_EPOCH".to_owned(), value)));
    for flag in flags {
        match flag.split_once('=') {
            Some((name, value)) => {
                all.insert(name.to_owned(), value.to_owned());
            }
            None => all.extend(own(flag).map(|value| (flag.clone(), value))),
        }
    }
    all
}

/// Builds, showing the progress. Ctrl-C cancels the build and waits for it to be cleaned up.
pub(super) async fn build(client: &Client, options: &Options) -> Result<Built> {
    let source = Source::find(&options.context, options.file.as_deref())?;
    let mut pairs: Vec<(&str, &str)> = options
        .pairs
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    pairs.push(("cooper-events", "1"));
    pairs.push(("dockerfile", &source.dockerfile));
    let payload = match &source.context {
        Some(directory) if client.is_in_process() => {
            let Some(directory) = directory.to_str() else {
                return Err(Failure::new(format!(
                    "the path {} is not UTF-8",
                    directory.display()
                )));
            };
            pairs.push(("cooper-context", directory));
            match &source.content {
                None => Payload::Empty,
                Some(content) => {
                    pairs.push(("cooper-dockerfile", "1"));
                    let content = Bytes::from(content.clone());
                    Payload::Stream("text/plain", futures_util::stream::iter([Ok(content)]).boxed())
                }
            }
        }
        _ => Payload::Stream("application/x-tar", source.tar()?),
    };
    let mut signals = Signals::ending()?;
    let work = async {
        let lines = client.stream(&query("/build", &pairs), payload, &[]).await?;
        follow(lines, options.progress).await
    };
    tokio::select! {
        result = work => result,
        name = signals.next() => Err(Failure::Cancelled(128 + signal_number(name))),
    }
}

/// Where the files and the Dockerfile come from.
struct Source {
    /// Absolute; `None` for no files at all.
    context: Option<PathBuf>,
    /// Name of the Dockerfile in the context.
    dockerfile: String,
    /// The Dockerfile when it is not in the context.
    content: Option<Vec<u8>>,
}

impl Source {
    fn find(context: &Path, file: Option<&Path>) -> Result<Self> {
        let stdin = Path::new("-");
        if context == stdin {
            if file.is_some() {
                return Err(usage(
                    "with `-` as the context, the Dockerfile comes from stdin: leave --file out".to_owned(),
                ));
            }
            let content = Some(read_dockerfile(&mut io::stdin().lock(), stdin)?);
            return Ok(Self {
                context: None,
                dockerfile: "Dockerfile".to_owned(),
                content,
            });
        }
        if context.to_str().is_some_and(|text| {
            text.starts_with("http://") || text.starts_with("https://") || text.starts_with("git@")
        }) {
            return Err(Failure::new(format!(
                "the context {} is remote, which is not available yet",
                context.display()
            )));
        }
        let directory = context
            .canonicalize()
            .map_err(|error| Failure::new(format!("context {}: {error}", context.display())))?;
        if !directory.is_dir() {
            return Err(Failure::new(format!(
                "context {} is not a directory",
                context.display()
            )));
        }
        let foreign = |content| Self {
            context: Some(directory.clone()),
            dockerfile: FOREIGN_DOCKERFILE.to_owned(),
            content: Some(content),
        };
        let Some(file) = file else {
            return Ok(Self {
                context: Some(directory),
                dockerfile: "Dockerfile".to_owned(),
                content: None,
            });
        };
        if file == stdin {
            return Ok(foreign(read_dockerfile(&mut io::stdin().lock(), stdin)?));
        }
        let fail = |error: io::Error| {
            Failure::new(format!("cannot read the Dockerfile {}: {error}", file.display()))
        };
        // The directory is resolved, the file itself is not: a link in the context is the engine's to follow.
        let parent = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let absolute = parent
            .canonicalize()
            .map_err(fail)?
            .join(file.file_name().unwrap_or_default());
        std::fs::symlink_metadata(&absolute).map_err(fail)?;
        match absolute.strip_prefix(&directory).ok().and_then(Path::to_str) {
            Some(inside) => Ok(Self {
                dockerfile: inside.to_owned(),
                context: Some(directory),
                content: None,
            }),
            None => Ok(foreign(read_dockerfile(
                &mut std::fs::File::open(&absolute).map_err(fail)?,
                file,
            )?)),
        }
    }

    /// The files as docker sends them: a tar, with a foreign Dockerfile in front.
    fn tar(&self) -> Result<futures_util::stream::BoxStream<'static, io::Result<Bytes>>> {
        let mut front = Vec::new();
        if let Some(content) = &self.content {
            let mut header = tar::Header::new_ustar();
            header.set_path(&self.dockerfile)?;
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            front.extend_from_slice(header.as_bytes());
            front.extend_from_slice(content);
            front.resize(front.len().next_multiple_of(512), 0);
        }
        let context = self.context.clone();
        let dockerfile = self.content.is_none().then(|| PathBuf::from(&self.dockerfile));
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        std::thread::Builder::new()
            .name("context".to_owned())
            .spawn(move || {
                let mut sink = Chunks {
                    sender,
                    buffer: front,
                };
                let written = match &context {
                    Some(directory) => tar_directory(directory, dockerfile.as_deref(), &mut sink)
                        .map_err(|error| io::Error::other(format!("cannot send the context: {error}"))),
                    None => sink.write_all(&[0; 1024]),
                };
                let result = written.and_then(|()| sink.flush());
                if let Err(error) = result {
                    // The request may have gone; then nobody needs to know.
                    let _ = sink.sender.blocking_send(Err(error));
                }
            })?;
        Ok(futures_util::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        })
        .boxed())
    }
}

fn read_dockerfile(source: &mut dyn Read, name: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    source
        .take(MAX_DOCKERFILE + 1)
        .read_to_end(&mut content)
        .map_err(|error| Failure::new(format!("cannot read the Dockerfile {}: {error}", name.display())))?;
    if content.len() as u64 > MAX_DOCKERFILE {
        return Err(Failure::new(format!(
            "the Dockerfile {} is longer than {MAX_DOCKERFILE} bytes",
            name.display()
        )));
    }
    Ok(content)
}

/// Collects small writes into the chunks of a request body.
struct Chunks {
    sender: tokio::sync::mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 256 << 10 {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(chunk))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Shows the stream until it ends.
async fn follow(mut lines: Lines, mode: ProgressMode) -> Result<Built> {
    let started = Instant::now();
    let mut view = View::new(mode);
    let mut built = Built::default();
    let mut ticks = tokio::time::interval(FRAME);
    let result = loop {
        let line = tokio::select! {
            line = lines.next() => line?,
            _ = ticks.tick(), if view.is_live() => {
                view.frame(started.elapsed());
                continue;
            }
        };
        let Some(line) = line else { break Ok(()) };
        let message: Message = serde_json::from_value(line)?;
        if let Some(error) = message.error {
            break Err(Failure::new(error));
        }
        if let Some(event) = message.cooper {
            view.event(&event, started.elapsed())?;
            if let Event::Image { id, names } = event {
                built = Built { id, names };
            }
        } else if let Some(text) = message.stream {
            // An engine that does not know our events sends text.
            view.text(&text);
        } else if let Some(id) = message.aux.as_ref().and_then(|aux| aux.get("ID")?.as_str()) {
            id.clone_into(&mut built.id);
        }
    };
    view.finish(started.elapsed());
    result?;
    if built.id.is_empty() {
        return Err(Failure::new("the build ended without an image"));
    }
    Ok(built)
}

/// One of the ways to show a build.
enum View {
    Plain(Plain),
    Live(Tty, Screen),
    Raw,
    Silent,
}

impl View {
    fn new(mode: ProgressMode) -> Self {
        match mode {
            ProgressMode::Auto if stderr_is_terminal() => Self::Live(Tty::default(), Screen::default()),
            ProgressMode::Tty => Self::Live(Tty::default(), Screen::default()),
            ProgressMode::Auto | ProgressMode::Plain => Self::Plain(Plain::default()),
            ProgressMode::Rawjson => Self::Raw,
            ProgressMode::Quiet | ProgressMode::None => Self::Silent,
        }
    }

    fn is_live(&self) -> bool {
        matches!(self, Self::Live(..))
    }

    fn event(&mut self, event: &Event, at: Duration) -> Result {
        match self {
            Self::Plain(plain) => plain.event(event, at).iter().for_each(|line| print::talk(line)),
            Self::Live(tty, _) => tty.event(event, at),
            Self::Raw => print::line(&serde_json::to_string(event)?)?,
            Self::Silent => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if !matches!(self, Self::Raw | Self::Silent) {
            print::talk(text.trim_end_matches('\n'));
        }
    }

    fn frame(&mut self, at: Duration) {
        if let Self::Live(tty, screen) = self {
            let (width, height) = size();
            // Without a stderr there is nobody to show it to.
            let _ = screen.draw(tty.frame(at, width, height), &mut io::stderr().lock());
        }
    }

    fn finish(&mut self, at: Duration) {
        match self {
            Self::Plain(plain) => plain.finish(at).iter().for_each(|line| print::talk(line)),
            Self::Live(..) => self.frame(at),
            Self::Raw | Self::Silent => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let own = |name: &str| match name {
            "SOURCE_DATE_EPOCH" => Some("1".to_owned()),
            "HOME" => Some("/root".to_owned()),
            _ => None,
        };
        let flags = ["A=b=c", "HOME", "UNSET", "SOURCE_DATE_EPOCH=2"].map(str::to_owned);
        let got: Vec<_> = build_args(&flags, &own)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(got, ["A=b=c", "HOME=/root", "SOURCE_DATE_EPOCH=2"]);
    }

    #[test]
    fn dockerfiles_inside_and_outside() {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("context");
        std::fs::create_dir_all(context.join("sub")).unwrap();
        for file in ["context/Dockerfile", "context/sub/Other", "Outside"] {
            std::fs::write(directory.path().join(file), "FROM scratch\n").unwrap();
        }
        let check = |file: Option<&str>, dockerfile: &str, foreign: bool| {
            let file = file.map(|file| directory.path().join(file));
            let source = Source::find(&context, file.as_deref())
                .map_err(|failure| failure.to_string())
                .unwrap();
            assert_eq!(
                (source.dockerfile.as_str(), source.content.is_some()),
                (dockerfile, foreign)
            );
        };
        check(None, "Dockerfile", false);
        check(Some("context/sub/Other"), "sub/Other", false);
        check(Some("Outside"), FOREIGN_DOCKERFILE, true);
        assert!(Source::find(&context, Some(&context.join("missing"))).is_err());
        assert!(Source::find(&directory.path().join("Outside"), None).is_err());
    }
}
