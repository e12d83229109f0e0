//! `create`, and the creation part of `run`.

use std::io::Write;
use std::path::Path;

use cooper_daemon::api::{CreateRequest, CreateResponse};

use super::{print, pull};
use crate::args::create::{ContainerFlags, CreateArgs, PullPolicy};
use crate::client::{Client, Payload, query};
use crate::failure::{ENGINE_ERROR, Failure, Result};
use crate::session;
use crate::settings::container::{self, Streams, Surroundings};

/// `create`.
pub(super) async fn run(client: &Client, args: &CreateArgs) -> Result {
    let Some((image, command)) = args.rest.split_first() else {
        return Err(Failure::new("`cooper create` requires an image"));
    };
    let streams = container::streams(&args.flags, false).map_err(usage)?;
    let request = request(&args.flags, image, command, streams)?;
    print::line(&create(client, &args.flags, &request).await?)
}

/// A wrong value of a flag: exit code 125, as docker.
pub(super) fn usage(message: String) -> Failure {
    Failure::new(message).with_code(ENGINE_ERROR)
}

/// The request for these arguments in our surroundings.
pub(super) fn request(
    flags: &ContainerFlags,
    image: &str,
    command: &[String],
    streams: Streams,
) -> Result<CreateRequest> {
    let directory = std::env::current_dir()?;
    let around = Surroundings {
        directory: &directory,
        variable: &|name| std::env::var(name).ok(),
        window: session::window(),
    };
    container::request(flags, image, command, streams, &around).map_err(usage)
}

/// Creates the container, pulling the image if the policy says so, and writes the cidfile. Gives the id.
pub(super) async fn create(
    client: &Client,
    flags: &ContainerFlags,
    request: &CreateRequest,
) -> Result<String> {
    let cidfile = flags.cidfile.as_deref().map(open_cidfile).transpose()?;
    if flags.pull == PullPolicy::Always {
        download(client, flags, &request.config.image).await?;
    }
    let mut pairs = Vec::new();
    pairs.extend(flags.name.as_deref().map(|name| ("name", name)));
    pairs.extend(flags.platform.as_deref().map(|platform| ("platform", platform)));
    let path = query("/containers/create", &pairs);
    let mut created = client
        .post::<CreateResponse>(&path, Payload::json(request)?)
        .await;
    if let Err(error) = &created
        && error.is_not_found()
        && error.to_string().contains("No such image")
        && flags.pull == PullPolicy::Missing
    {
        if !flags.quiet {
            print::talk(&format!(
                "unable to find image `{}` in the store, pulling it",
                request.config.image
            ));
        }
        download(client, flags, &request.config.image).await?;
        created = client.post(&path, Payload::json(request)?).await;
    }
    let created = created.map_err(|error| Failure::from(error).with_code(ENGINE_ERROR))?;
    created
        .warnings
        .iter()
        .for_each(|warning| print::warning(warning));
    if let Some((mut file, path)) = cidfile {
        file.write_all(created.id.as_bytes())
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(created.id)
}

async fn download(client: &Client, flags: &ContainerFlags, image: &str) -> Result {
    let mut stderr = std::io::stderr();
    let platform = flags.platform.as_deref();
    let pulled = if flags.quiet {
        pull::pull(client, image, platform, &mut std::io::sink(), false).await
    } else {
        pull::pull(
            client,
            image,
            platform,
            &mut stderr,
            crate::output::messages::stderr_is_terminal(),
        )
        .await
    };
    pulled.map_err(|failure| failure.with_code(ENGINE_ERROR))
}

/// Refuses to overwrite, before anything is created.
fn open_cidfile(path: &Path) -> Result<(std::fs::File, &Path)> {
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
    {
        Ok(file) => Ok((file, path)),
        Err(error) => Err(usage(format!(
            "cannot create the container id file {}: {error}",
            path.display()
        ))),
    }
}
