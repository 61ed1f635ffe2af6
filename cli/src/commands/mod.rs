//! One file for each command.

mod drain;
mod gather;
mod get;
mod history;
mod list;
mod logs;
pub(crate) mod objects;
mod open;
mod status;
#[cfg(test)]
mod tests;
mod verbs;
mod watch;

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;
use process_operator_workflows::contract::Verb;

use crate::args::{Cli, Command, Target};
use crate::cluster::Cluster;
use crate::{out, reference, verify};
use verbs::Wanted;

/// Does what is asked for.
pub(crate) async fn run(target: &Target, command: Command) -> Result<()> {
    match command {
        Command::Completion { shell } => out::write(&completion(shell)),
        Command::Reference => out::write(&reference::page()),
        command => {
            let cluster = Cluster::connect(target).await?;
            Box::pin(on(&cluster, command)).await
        }
    }
}

/// The script that completes commands in a shell.
fn completion(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kubectl-process", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Does what is asked for on a cluster.
async fn on(cluster: &Cluster, command: Command) -> Result<()> {
    match command {
        Command::Get(args) => get::run(cluster, &args).await,
        Command::List(args) => list::run(cluster, &args).await,
        Command::History(args) => history::run(cluster, &args).await,
        Command::Status(args) => status::run(cluster, &args).await,
        Command::Pause(args) => verbs::run(cluster, &args, Wanted::new(Verb::Pause)).await,
        Command::Resume(args) => verbs::run(cluster, &args, Wanted::new(Verb::Resume)).await,
        Command::Retry(args) => verbs::run(cluster, &args, Wanted::new(Verb::Retry)).await,
        Command::Promote(args) => {
            let wanted = Wanted::promote(args.full, args.sure.yes);
            verbs::run(cluster, &args.sure.verb, wanted).await
        }
        Command::Abort(args) => {
            let wanted = Wanted::asking(
                Verb::Abort,
                args.yes,
                "gives the rollout up; new workflows go to the version that served before",
            );
            verbs::run(cluster, &args.verb, wanted).await
        }
        Command::Undo(args) => {
            let wanted = Wanted::undo(&args.to, args.sure.yes);
            verbs::run(cluster, &args.sure.verb, wanted).await
        }
        Command::Restart(args) => {
            let wanted = Wanted::asking(
                Verb::Restart,
                args.yes,
                "restarts the pods of the current version, one after the other",
            );
            verbs::run(cluster, &args.verb, wanted).await
        }
        Command::Drain(args) => drain::run(cluster, &args).await,
        Command::Open(args) => open::run(cluster, &args).await,
        Command::Logs(args) => logs::run(cluster, &args).await,
        Command::Gather(args) => gather::run(cluster, &args).await,
        Command::Verify(args) => verify::run(cluster, &args).await,
        Command::Completion { .. } | Command::Reference => Ok(()),
    }
}
