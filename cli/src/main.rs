//! `kubectl process`: Processes as a tree, verbs, and checks.
//!
//! Arguments are in [`args`], each command in [`commands`]. What is shown is made by pure functions: from
//! objects to a [`model`], from a model to lines in [`render`].

mod args;
mod cluster;
mod commands;
mod exit;
mod model;
mod out;
mod phase;
mod pods;
mod reference;
mod render;
#[cfg(test)]
mod samples;
mod scrub;
mod temporal;
mod verify;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Ameide, AmeideCommand, Cli, Command, PrimitiveCommand, PrimitiveKind};
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let (target, command) = arguments();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return ended(&error.into()),
    };
    let result = runtime.block_on(Box::pin(commands::run(&target, command)));
    // A log that is followed, or a read of the terminal, may hang for ever.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ended(&error),
    }
}

/// What is asked for; the name of the program is a part of it.
fn arguments() -> (args::Target, Command) {
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_stem() == Some(OsStr::new("ameide")) {
        let Ameide { target, command } = Ameide::parse();
        let AmeideCommand::Primitive { command } = command;
        let PrimitiveCommand::Verify { kind } = command;
        let PrimitiveKind::Process(verify) = kind;
        return (target, Command::Verify(verify));
    }
    let Cli { target, command } = Cli::parse();
    (target, command)
}

fn ended(error: &anyhow::Error) -> ExitCode {
    if out::nobody_reads(error) {
        return ExitCode::SUCCESS;
    }
    let failure = error.downcast_ref::<Failure>();
    let message = format!("{error:#}");
    if !message.is_empty() {
        // Whoever has closed stderr does not want to know.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), (message + "\n").as_bytes());
    }
    ExitCode::from(failure.map_or(Exit::Unasked, |failure| failure.exit).code())
}
