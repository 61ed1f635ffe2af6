//! `status`: whether a Process is settled, for pipelines.

use anyhow::Result;
use futures::StreamExt as _;
use jiff::Timestamp;
use process_operator_crds::Process;
use serde::Serialize;

use super::watch;
use crate::args::{Format, StatusArgs};
use crate::cluster::Cluster;
use crate::exit::{Exit, Failure, not_yet};
use crate::out::{Out, data, write};
use crate::phase::{Phase, phase};
use crate::render::Line;
use crate::render::tree::{sign, tone};
use crate::render::words::clock;

/// What is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    name: &'a str,
    #[serde(flatten)]
    phase: &'a Phase,
    current: String,
    target: String,
    weight: Option<i32>,
}

pub(crate) async fn run(cluster: &Cluster, args: &StatusArgs) -> Result<()> {
    // A watch would wait for a cluster that cannot be reached.
    let process = cluster.process(&args.name).await?;
    if !args.watch {
        let phase = phase(&process);
        tell(args, &process, &phase)?;
        return end(&phase);
    }
    let Some(limit) = args.timeout else {
        return follow(cluster, args).await;
    };
    match tokio::time::timeout(limit, follow(cluster, args)).await {
        Ok(result) => result,
        Err(_) => Err(not_yet(format!(
            "process {} has neither settled nor failed within {} s",
            args.name,
            limit.as_secs()
        ))),
    }
}

/// Tells each change until it is settled, has failed or is gone.
async fn follow(cluster: &Cluster, args: &StatusArgs) -> Result<()> {
    let mut changes = std::pin::pin!(watch::process(cluster, &args.name));
    let mut told: Option<Phase> = None;
    while let Some(seen) = changes.next().await {
        let Some(process) = seen? else {
            return Err(cluster.absent(&args.name));
        };
        let now = phase(&process);
        if told.as_ref() != Some(&now) {
            tell(args, &process, &now)?;
        }
        if now.exit() != Exit::NotYet {
            return end(&now);
        }
        told = Some(now);
    }
    Err(not_yet("the watch has ended"))
}

fn tell(args: &StatusArgs, process: &Process, phase: &Phase) -> Result<()> {
    let status = process.status.clone().unwrap_or_default();
    let build_id = |version: Option<process_operator_crds::status::VersionStatus>| {
        version.map(|version| version.build_id).unwrap_or_default()
    };
    let told = Told {
        name: &args.name,
        phase,
        current: build_id(status.current_version),
        target: build_id(status.target_version),
        weight: status.rollout.map(|rollout| rollout.weight),
    };
    match args.output.output {
        // One line for each, so that a program can read them one after the other.
        Some(Format::Json) if args.watch => write(&(serde_json::to_string(&told)? + "\n")),
        Some(format @ (Format::Json | Format::Yaml)) => data(&told, format),
        Some(Format::Name) => write(&format!("{:?}\n", phase.word)),
        None | Some(Format::Wide) => Out::stdout().lines(&[line(args.watch, phase)]),
    }
}

fn line(with_time: bool, phase: &Phase) -> Line {
    let tone = tone(phase.word);
    let time = if with_time {
        format!("{}  ", clock(Timestamp::now()))
    } else {
        String::new()
    };
    Line::plain(time)
        .and(Line::toned(
            format!("{} {:?}", sign(tone), phase.word),
            tone,
        ))
        .and(Line::plain(format!("  {}", phase.words)))
}

/// The exit code; what there is to say has been said.
fn end(phase: &Phase) -> Result<()> {
    match phase.exit() {
        Exit::Done => Ok(()),
        exit => Err(Failure::new(exit, "").into()),
    }
}
