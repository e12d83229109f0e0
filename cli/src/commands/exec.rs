//! `exec`.

use cooper_daemon::api::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecStartRequest};

use super::create::usage;
use crate::args::container::ExecArgs;
use crate::client::{Client, Payload, escape};
use crate::failure::{Failure, Result, start_error_code};
use crate::session::{self, End, Session, Signals};
use crate::settings::values;

/// `exec`.
pub(super) async fn run(client: &Client, args: &ExecArgs) -> Result {
    let [container, command @ ..] = &args.rest[..] else {
        return Err(Failure::new("`cooper exec` requires a container and a command"));
    };
    let stdin = args.interactive && !args.detach;
    if stdin && args.tty && !session::is_terminal_stdin() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let detach_keys = session::parse_keys(&args.detach_keys).map_err(usage)?;
    let environment =
        values::environment(&args.env_file, &args.env, &|name| std::env::var(name).ok()).map_err(usage)?;
    let console_size = session::window()
        .filter(|_| args.tty)
        .map(|(rows, columns)| [rows, columns]);
    let request = ExecCreateRequest {
        user: args.user.clone().unwrap_or_default(),
        privileged: args.privileged,
        tty: args.tty,
        console_size,
        attach_stdin: stdin,
        attach_stdout: !args.detach,
        attach_stderr: !args.detach,
        env: (!environment.is_empty()).then_some(environment),
        working_dir: args.workdir.clone().unwrap_or_default(),
        cmd: Some(command.to_vec()),
        ..ExecCreateRequest::default()
    };
    let created: ExecCreateResponse = client
        .post(
            &format!("/containers/{}/exec", escape(container)),
            Payload::json(&request)?,
        )
        .await?;
    let start = ExecStartRequest {
        detach: args.detach,
        tty: args.tty,
        console_size,
    };
    let path = format!("/exec/{}/start", created.id);
    let failed = |error: crate::client::ClientError| {
        let code = start_error_code(&error.to_string());
        Failure::from(error).with_code(code)
    };
    if args.detach {
        client.act(&path, Payload::json(&start)?).await.map_err(failed)?;
        return Ok(());
    }
    // Docker passes no signals on to an exec; they end this process, after the terminal was restored.
    let signals = Signals::ending()?;
    let stream = client
        .hijack(&path, Payload::json(&start)?)
        .await
        .map_err(failed)?;
    let session = Session {
        client,
        stream,
        stdin,
        tty: args.tty,
        detach_keys,
        resize: format!("/exec/{}/resize", created.id),
        signals_to: None,
        signals,
    };
    match session.run().await? {
        End::Output => {}
        End::Detached => return Ok(()),
        End::Signal(name) => return Err(Failure::Exit(128 + session::signal_number(name))),
    }
    let ended: ExecInspect = client.get(&format!("/exec/{}/json", created.id)).await?;
    match ended.exit_code {
        None | Some(0) => Ok(()),
        Some(code) => Err(Failure::Exit(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
    }
}
