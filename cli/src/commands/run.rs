//! `run`.

use super::create::{self, usage};
use super::foreground::{Attachment, start, start_failure};
use super::{build, print, rerun};
use crate::args::create::RunArgs;
use crate::client::Client;
use crate::failure::{ENGINE_ERROR, Failure, Result};
use crate::session::{self, Signals};
use crate::settings::container;

/// `run`.
pub(super) async fn run(client: &Client, args: RunArgs) -> Result {
    let built;
    let (image, command) = match &args.build {
        Some(directory) if args.watch => return rerun::run(client, &args, directory).await,
        Some(directory) => {
            let order = build::Order::for_run(&args, directory)?;
            built = build::build(client, order, &mut Signals::ending()?)
                .await
                .map_err(|failure| failure.with_code(ENGINE_ERROR))?;
            (built.id(), &args.rest[..])
        }
        None => match args.rest.split_first() {
            Some((image, command)) => (image.as_str(), command),
            None => {
                return Err(Failure::new("`cooper run` requires an image, or --build DIR")
                    .hint("`cooper run --help` shows the usage"));
            }
        },
    };
    let streams = container::streams(&args.flags, args.detach).map_err(usage)?;
    if streams.stdin && args.flags.tty && !session::is_terminal_stdin() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let detach_keys = session::parse_keys(&args.detach_keys).map_err(usage)?;
    let request = create::request(&args.flags, image, command, streams)?;
    let attached = streams.stdin || streams.stdout || streams.stderr;
    let id = create::create(client, &args.flags, &request).await?;
    if !attached {
        start(client, &id).await.map_err(start_failure)?;
        return print::line(&id);
    }
    // From here on signals are kept for the container, even before it runs.
    let signals = if args.sig_proxy {
        Signals::forwarded()?
    } else {
        Signals::ending()?
    };
    let attachment = Attachment {
        id: &id,
        streams,
        tty: args.flags.tty,
        removed: args.flags.rm,
        detach_keys,
        sig_proxy: args.sig_proxy,
    };
    attachment.start(client, signals).await
}
