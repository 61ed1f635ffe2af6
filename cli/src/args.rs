//! Arguments. Their comments are the help, and the reference in docs/reference/cli.md.

#![allow(
    clippy::doc_markdown,
    reason = "people read these comments in a terminal, where backticks are noise"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// What the exit codes mean; the end of every help.
const EXITS: &str = "Exit codes: 0 done; 1 the answer is no (failed, refused, a check failed); \
                     2 it could not be asked (usage, not found, no right, no cluster); 3 not yet.";

/// Processes as a tree, verbs for their rollouts, and checks.
///
/// Works with the rights that the caller has in Kubernetes. Colours only on a terminal, and not with
/// NO_COLOR set.
#[derive(Debug, Parser)]
#[command(name = "kubectl-process", bin_name = "kubectl process", version, about, after_help = EXITS)]
pub(crate) struct Cli {
    /// Where to look.
    #[command(flatten)]
    pub(crate) target: Target,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The same program by the name `ameide`: one command of a larger family.
#[derive(Debug, Parser)]
#[command(name = "ameide", version, about = "Checks of primitives", after_help = EXITS)]
pub(crate) struct Ameide {
    /// Where to look.
    #[command(flatten)]
    pub(crate) target: Target,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: AmeideCommand,
}

/// First word after `ameide`.
#[derive(Debug, Subcommand)]
pub(crate) enum AmeideCommand {
    /// Primitives of the platform.
    Primitive {
        /// What to do with one.
        #[command(subcommand)]
        command: PrimitiveCommand,
    },
}

/// Second word.
#[derive(Debug, Subcommand)]
pub(crate) enum PrimitiveCommand {
    /// Check that a primitive is healthy.
    Verify {
        /// Which kind.
        #[command(subcommand)]
        kind: PrimitiveKind,
    },
}

/// Third word.
#[derive(Debug, Subcommand)]
pub(crate) enum PrimitiveKind {
    /// A Process: the same as `kubectl process verify`.
    Process(VerifyArgs),
}

/// Which cluster and which namespace.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Namespace; that of the context when absent.
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig; the current one when absent.
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// The kubeconfig file; KUBECONFIG or ~/.kube/config when absent.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Everything that can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a Process as a tree: rollout, versions, Deployments, pods, drains, last actions.
    Get(GetArgs),
    /// List Processes, one line each.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// List the last transitions of a Process: when, what, who, why.
    History(HistoryArgs),
    /// Say whether a Process is settled (exit code 0), has failed (1) or is under way (3).
    Status(StatusArgs),
    /// Hold the rollout: the share of new workflows stays as it is.
    Pause(VerbArgs),
    /// Let a paused or held rollout go on.
    Resume(VerbArgs),
    /// Take the next step of the rollout now, or with --full all of them.
    Promote(PromoteArgs),
    /// Give the rollout up: new workflows go to the version that served before.
    Abort(SureArgs),
    /// Do again what failed; after an abort, roll the spec's version out again.
    Retry(VerbArgs),
    /// Bring an earlier version back, until the spec changes or `retry`.
    Undo(UndoArgs),
    /// Restart the pods of the current version, one after the other.
    Restart(SureArgs),
    /// Show what drains; with --force, end the workflows that hold an old version.
    Drain(DrainArgs),
    /// Print the address of the Process's workflow in the Temporal UI.
    Open(OpenArgs),
    /// Print the logs of the workers of one version.
    Logs(LogsArgs),
    /// Collect what a report of a problem needs into one archive, without secrets.
    Gather(GatherArgs),
    /// Check a Process, or all of a namespace, and say how to mend what is wrong.
    Verify(VerifyArgs),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Print the reference of all commands as Markdown.
    #[command(hide = true)]
    Reference,
}

/// How things are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// More columns, nothing shortened.
    Wide,
    /// `process.ameide.io/NAME` only.
    Name,
    /// What is shown, as JSON.
    Json,
    /// What is shown, as YAML.
    Yaml,
}

/// `-o`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Another form than the one for people.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of the Process.
    pub(crate) name: String,
    /// Keep looking: redrawn in place on a terminal, otherwise a line for each change.
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Those of all namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only those with these labels.
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Name of the Process.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Name of the Process.
    pub(crate) name: String,
    /// Wait until it is settled or has failed.
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// How long to wait, for example 90s or 30m; for ever when absent.
    #[arg(long, value_parser = span, requires = "watch")]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerbArgs {
    /// Name of the Process.
    pub(crate) name: String,
    /// Why; shown in the history and in Events.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    /// How long to wait for the operator's answer.
    #[arg(long, value_parser = span, default_value = "60s")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What a verb takes that asks first.
#[derive(Debug, Clone, Args)]
pub(crate) struct SureArgs {
    #[command(flatten)]
    pub(crate) verb: VerbArgs,
    /// Do not ask whether it is meant.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `promote`.
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    pub(crate) sure: SureArgs,
    /// All steps at once: it takes all new workflows.
    #[arg(long)]
    pub(crate) full: bool,
}

/// `undo`.
#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    pub(crate) sure: SureArgs,
    /// Which version; the one that was current before when absent.
    #[arg(long, value_name = "BUILD_ID", default_value = "")]
    pub(crate) to: String,
}

/// What happens to workflows that hold an old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum Action {
    /// Each is asked to end.
    Cancel,
    /// Each ends at once.
    Terminate,
    /// Each goes on on the current version.
    MoveToCurrent,
}

/// `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) sure: SureArgs,
    /// End the workflows now.
    #[arg(long)]
    pub(crate) force: bool,
    /// Which version; may be left out while only one drains.
    #[arg(long, requires = "force", default_value = "")]
    pub(crate) build_id: String,
    /// What happens to them.
    #[arg(long, requires = "force", value_enum, default_value_t = Action::Cancel)]
    pub(crate) action: Action,
}

/// `open`.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// Name of the Process.
    pub(crate) name: String,
    /// Address of the Temporal UI.
    #[arg(
        long,
        env = "TEMPORAL_UI_ADDRESS",
        default_value = "http://localhost:8233"
    )]
    pub(crate) ui: String,
    /// Open it in a browser too.
    #[arg(long)]
    pub(crate) browser: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name of the Process.
    pub(crate) name: String,
    /// Build id of the version, or the beginning of one; the current one when absent.
    #[arg(long, value_name = "BUILD_ID")]
    pub(crate) version: Option<String>,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only so many of the last lines of each pod.
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<i64>,
    /// Only what is younger, for example 10m.
    #[arg(long, value_parser = span)]
    pub(crate) since: Option<Duration>,
}

/// `gather`.
#[derive(Debug, Args)]
pub(crate) struct GatherArgs {
    /// Name of the Process.
    pub(crate) name: String,
    /// The archive, `-` for stdout; process-NAME-TIME.tar.gz when absent.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Last lines of each container's log.
    #[arg(long, default_value_t = 1000, value_name = "LINES")]
    pub(crate) tail: i64,
    #[command(flatten)]
    pub(crate) temporal: TemporalArgs,
}

/// The Temporal server, for what Kubernetes cannot tell.
#[derive(Debug, Clone, Args)]
pub(crate) struct TemporalArgs {
    /// The Temporal server (host:port or a URL), for what Kubernetes cannot tell. TLS and API key come from
    /// Temporal's environment configuration (TEMPORAL_TLS_*, TEMPORAL_API_KEY).
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) temporal_address: Option<String>,
}

/// `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Name of the Process; all of the namespace when absent.
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) temporal: TemporalArgs,
    /// Run a workflow of this type on the workers, without input, and see it complete.
    #[arg(long, value_name = "TYPE", requires = "temporal_address")]
    pub(crate) probe: Option<String>,
    /// How long the probe may take.
    #[arg(long, value_parser = span, default_value = "30s")]
    pub(crate) probe_timeout: Duration,
    /// Namespace in which the operator runs.
    #[arg(long, default_value = "process-operator")]
    pub(crate) operator_namespace: String,
    /// Another form than the one for people.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// A span of time such as `90s`, `5m` or `1h30m`; a bare number is seconds.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span of time; write for example 90s, 5m or 1h30m");
    let seconds = if let Ok(seconds) = text.parse::<u64>() {
        seconds
    } else {
        let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        u64::try_from(span.as_secs()).map_err(|_| wrong())?
    };
    if seconds == 0 {
        return Err("it must be longer than nothing".into());
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
