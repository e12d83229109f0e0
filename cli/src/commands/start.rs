//! `start`.

use cooper_daemon::api::ContainerInspect;

use super::each::each;
use super::foreground::{self, Attachment};
use crate::args::container::StartArgs;
use crate::client::{Client, escape};
use crate::failure::{Failure, Result};
use crate::session::{self, Signals};
use crate::settings::container::Streams;

/// `start`.
pub(super) async fn run(client: &Client, args: &StartArgs) -> Result {
    if !args.attach && !args.interactive {
        return each(&args.containers, |name| async move {
            foreground::start(client, &escape(name)).await?;
            Ok(format!("{name}\n"))
        })
        .await;
    }
    let [name] = &args.containers[..] else {
        return Err(Failure::new("cannot start and attach several containers at once"));
    };
    let container: ContainerInspect = client.get(&format!("/containers/{}/json", escape(name))).await?;
    if container.state.running {
        return Err(Failure::new(format!("container {name} is already running"))
            .hint(format!("`cooper attach {name}` joins it")));
    }
    let attachment = Attachment {
        id: &container.id,
        streams: Streams {
            stdin: args.interactive && container.config.open_stdin,
            stdout: true,
            stderr: true,
        },
        tty: container.config.tty,
        removed: container.host_config.auto_remove,
        detach_keys: session::parse_keys(&args.detach_keys).map_err(Failure::new)?,
        sig_proxy: true,
    };
    attachment.start(client, Signals::forwarded()?).await
}
