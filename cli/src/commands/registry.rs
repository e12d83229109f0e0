//! `registry serve`.

use cooper_daemon::Engine;
use tokio::net::TcpListener;

use super::print;
use crate::args::root::Global;
use crate::args::system::ServeArgs;
use crate::client::{chain, directories};
use crate::failure::{Failure, Result};
use crate::session::Signals;

/// `registry serve`: serves until SIGINT or SIGTERM.
pub(super) async fn serve(global: &Global, args: &ServeArgs) -> Result {
    if global.host.is_some() {
        return Err(Failure::new(
            "`cooper registry serve` works on a store of this machine: use --data-root, not --host",
        ));
    }
    super::log_to_stderr(if global.debug {
        tracing::Level::DEBUG
    } else {
        tracing::Level::INFO
    });
    let mut signals = Signals::ending()?;
    let engine = Engine::open(directories(global))
        .map_err(|error| Failure::new(format!("cannot open the store: {}", chain(&error))))?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::new(format!("cannot listen on {}: {error}", args.listen)))?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        print::warning(&format!(
            "serving {address} in plain text and without authentication: everyone who reaches it can push"
        ));
    }
    print::talk(&format!("serving the registry at http://{address}"));
    cooper_daemon::serve_registry(engine, listener, async move {
        signals.next().await;
    })
    .await
    .map_err(|error| Failure::new(format!("the registry at {address} failed: {error}")))
}
