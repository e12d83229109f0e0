//! `completion` and `man`, both made from the same definitions as the help.

use std::io;

use clap::CommandFactory;

use super::print;
use crate::args::root::Cli;
use crate::args::system::{CompletionArgs, ManArgs};
use crate::failure::{Failure, Result};

/// `completion`.
pub(super) fn script(args: &CompletionArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cooper", &mut script);
    print::data(&String::from_utf8_lossy(&script))
}

/// `man`: one page a verb.
pub(super) fn manual(args: &ManArgs) -> Result {
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(&args.directory)?;
        clap_mangen::generate_to(Cli::command(), &args.directory)
    };
    write().map_err(|error| {
        Failure::new(format!(
            "cannot write manual pages to {}: {error}",
            args.directory.display()
        ))
    })
}
