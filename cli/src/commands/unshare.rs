//! `unshare`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use cooper_daemon::rootless;

use crate::args::root::Global;
use crate::args::system::UnshareArgs;
use crate::failure::{Failure, Result};

/// `unshare`: this process, which is in the user's namespace by now, becomes the command. For root that is all there is
/// to do.
pub(super) fn run(global: &Global, args: &UnshareArgs) -> Result {
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let (program, arguments) = match args.command.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (shell(), &[][..]),
    };
    let mut command = Command::new(&program);
    command.args(arguments);
    if let Some(user) = global.places.user {
        command.env(rootless::ENTERED, user.to_string());
    }
    rootless::keep_across_exec()?;
    let error = command.exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    Err(Failure::new(format!("{}: {error}", program.display())).with_code(code))
}
