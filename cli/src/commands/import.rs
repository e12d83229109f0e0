//! `import`.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::tag::split;
use crate::args::image::ImportArgs;
use crate::client::{Client, Payload, query};
use crate::failure::{Failure, Result};
use crate::output::messages;

/// Bytes read from a file at once.
const CHUNK: usize = 256 << 10;

/// `import`.
pub(super) async fn run(client: &Client, args: &ImportArgs) -> Result {
    let mut pairs = vec![("fromSrc", "-")];
    if let Some(reference) = &args.reference {
        let (repository, tag) = split(reference);
        pairs.push(("repo", repository));
        pairs.extend(tag.map(|tag| ("tag", tag)));
    }
    pairs.extend(args.message.as_deref().map(|message| ("message", message)));
    pairs.extend(args.platform.as_deref().map(|platform| ("platform", platform)));
    pairs.extend(args.change.iter().map(|change| ("changes", change.as_str())));
    let payload = Payload::Stream("application/x-tar", upload(Some(&args.file))?);
    let lines = client
        .stream(&query("/images/create", &pairs), payload, &[])
        .await?;
    messages::show(lines, &mut io::stdout(), false).await?;
    Ok(())
}

/// A file's content, or stdin's (`-` or nothing), read on a thread of its own.
pub(super) fn upload(path: Option<&Path>) -> Result<BoxStream<'static, io::Result<Bytes>>> {
    let mut source: Box<dyn io::Read + Send> = match path {
        Some(path) if path != Path::new("-") => match std::fs::File::open(path) {
            Ok(file) => Box::new(file),
            Err(error) => return Err(Failure::new(format!("cannot open {}: {error}", path.display()))),
        },
        _ => Box::new(io::stdin()),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    std::thread::Builder::new()
        .name("upload".to_owned())
        .spawn(move || {
            loop {
                let mut buffer = vec![0; CHUNK];
                let chunk = match source.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => {
                        buffer.truncate(length);
                        Ok(Bytes::from(buffer))
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        })?;
    Ok(futures_util::stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    })
    .boxed())
}
