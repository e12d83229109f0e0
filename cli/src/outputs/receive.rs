//! Fetching a result.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cooper_daemon::export::{Format, WriteOptions};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::directory;
use super::file::NewFile;
use super::spec::{Destination, OutputKind, OutputSpec};
use crate::client::{Client, ClientError, query};
use crate::failure::{Failure, Result};
use crate::output::messages;
use crate::session::{Pump, Target};

/// Chunks between the connection and the thread that writes files.
const QUEUE: usize = 8;

/// Brings the image `image`, an id or name, to where `spec` says. `names` are those of `--tag`, which the archive gives the
/// image unless the output has its own; `epoch` is SOURCE_DATE_EPOCH, the latest time that files get. Nothing happens for an
/// output that stays in the engine.
///
/// A file is there whole or not at all. A directory keeps what was written before a failure. Gives warnings.
pub(crate) async fn receive(
    client: &Client,
    image: &str,
    spec: &OutputSpec,
    names: &[String],
    epoch: Option<i64>,
) -> Result<Vec<String>> {
    if !spec.is_received() {
        return Ok(Vec::new());
    }
    refuse_terminal(spec)?;
    let format = match spec.kind {
        OutputKind::Oci => Format::Oci,
        OutputKind::Docker | OutputKind::Image => Format::Docker,
        OutputKind::Tar | OutputKind::Local => Format::Tar,
    };
    let given = if spec.names.is_empty() { names } else { &spec.names };
    let mut parsed = Vec::new();
    for name in given {
        let name = name
            .parse()
            .map_err(|error| Failure::new(format!("invalid name {name:?}: {error}")))?;
        parsed.push(name);
    }
    let options = WriteOptions {
        compression: spec.compression,
        docker_types: spec.docker_types,
        names: parsed,
        annotations: spec.annotations.clone(),
        platform_split: spec.platform_split,
        source_date_epoch: epoch,
    };
    let format = serde_json::to_value(format)?;
    let options = serde_json::to_string(&options)?;
    let pairs = [
        ("image", image),
        ("format", format.as_str().unwrap_or_default()),
        ("options", options.as_str()),
    ];
    let (body, _) = client.download(&query("/cooper/export", &pairs)).await?;
    match &spec.dest {
        Some(Destination::Path(path)) if spec.kind == OutputKind::Local || spec.directory => {
            to_directory(body, path).await
        }
        Some(Destination::Path(path)) => to_file(body, path).await.map(|()| Vec::new()),
        Some(Destination::Stdout) | None => to_stdout(body).await.map(|()| Vec::new()),
    }
}

/// A terminal gets no archives. To be asked before a build that would be in vain.
pub(crate) fn refuse_terminal(spec: &OutputSpec) -> Result {
    if spec.is_stdout() && messages::stdout_is_terminal() {
        let failure = Failure::new("refusing to write an archive to a terminal");
        return Err(failure.hint("use dest=FILE, or redirect"));
    }
    Ok(())
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let error = ClientError::from(error);
            Failure::new(format!("the export ended early: {error}"))
                .hint("the engine's log says why; an image that is incomplete cannot be exported")
        })?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn to_stdout(mut body: Incoming) -> Result {
    let pump = Pump::start()?;
    while let Some(data) = next(&mut body).await? {
        if !pump.write(Target::Stdout, data).await {
            break;
        }
    }
    pump.finish().await.map_err(Failure::from)
}

async fn to_file(mut body: Incoming, path: &Path) -> Result {
    let fail = |error: io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let mut file = NewFile::create(path).map_err(fail)?;
    while let Some(data) = next(&mut body).await? {
        file.write(&data).map_err(fail)?;
    }
    file.keep().map_err(fail)
}

async fn to_directory(mut body: Incoming, path: &Path) -> Result<Vec<String>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let into = path.to_owned();
    let writer = tokio::task::spawn_blocking(move || {
        let mut reader = ChannelReader {
            receiver,
            current: Bytes::new(),
        };
        let skipped = directory::unpack(&mut reader, &into)?;
        // What follows the end of the archive is read, so that the sender is not cut off.
        io::copy(&mut reader, &mut io::sink())?;
        Ok::<_, io::Error>(skipped)
    });
    let sent = loop {
        match next(&mut body).await {
            Ok(Some(data)) => {
                if sender.send(Ok(data)).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(failure) => {
                let broken = io::Error::from(io::ErrorKind::ConnectionAborted);
                // The writer has ended if nobody takes it.
                let _ = sender.send(Err(broken)).await;
                break Err(failure);
            }
        }
    };
    drop(sender);
    let written = writer.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    sent?;
    let skipped =
        written.map_err(|error| Failure::new(format!("cannot write below {}: {error}", path.display())))?;
    let left_out = |path: &PathBuf| {
        format!(
            "{} is a device that this user cannot make: left out",
            path.display()
        )
    };
    Ok(skipped.iter().map(left_out).collect())
}

/// Chunks as a blocking reader.
struct ChannelReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
