//! `save`.

use std::io::Write;
use std::path::{Path, PathBuf};

use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::args::image::SaveArgs;
use crate::client::{Client, ClientError, query};
use crate::failure::{Failure, Result};
use crate::output::messages;
use crate::session::{Pump, Target};

/// `save`.
pub(super) async fn run(client: &Client, args: &SaveArgs) -> Result {
    if args.output.is_none() && messages::stdout_is_terminal() {
        return Err(
            Failure::new("refusing to write a tar to a terminal").hint("use --output FILE, or redirect")
        );
    }
    let pairs: Vec<_> = args
        .images
        .iter()
        .map(|image| ("names", image.as_str()))
        .collect();
    let (body, _) = client.download(&query("/images/get", &pairs)).await?;
    match &args.output {
        Some(path) => to_file(body, path).await,
        None => to_stdout(body).await,
    }
}

pub(super) async fn to_stdout(mut body: Incoming) -> Result {
    let pump = Pump::start()?;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(ClientError::from)?.into_data()
            && !pump.write(Target::Stdout, data).await
        {
            break;
        }
    }
    pump.finish().await.map_err(Failure::from)
}

/// Writes beside the target and renames, so that the target is never half a tar. Devices and pipes are written as they are.
pub(super) async fn to_file(mut body: Incoming, path: &Path) -> Result {
    let fail = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let regular = std::fs::metadata(path).map_or(true, |metadata| metadata.is_file());
    let target = if regular {
        Partial::beside(path)
    } else {
        Partial(None)
    };
    let mut file = std::fs::File::create(target.0.as_deref().unwrap_or(path)).map_err(fail)?;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(ClientError::from)?.into_data() {
            file.write_all(&data).map_err(fail)?;
        }
    }
    target.keep(path).map_err(fail)
}

/// A file that goes away unless it is kept.
struct Partial(Option<PathBuf>);

impl Partial {
    fn beside(path: &Path) -> Self {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        Self(Some(path.with_file_name(name)))
    }

    fn keep(mut self, path: &Path) -> std::io::Result<()> {
        match self.0.take() {
            Some(partial) => std::fs::rename(partial, path),
            None => Ok(()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may never have been created.
            let _ = std::fs::remove_file(path);
        }
    }
}
