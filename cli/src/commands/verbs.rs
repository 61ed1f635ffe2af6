//! Verbs: a request in the annotation, and the operator's answer in the status.

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use process_operator_crds::status::RequestStatus;
use process_operator_crds::{Process, names};
use process_operator_workflows::contract::{Annotation, Verb, VerbArgs as Arguments};
use serde::Serialize;
use serde_json::json;

use super::watch;
use crate::args::{Format, VerbArgs};
use crate::cluster::Cluster;
use crate::exit::{no, not_yet, unasked};
use crate::out::{Out, data, write};
use crate::render::tree::sign;
use crate::render::{Line, Tone};

/// For so long a request may be carried out at least; clocks differ.
const VALID: Duration = Duration::from_secs(300);

/// A verb with its arguments.
pub(crate) struct Wanted {
    verb: Verb,
    full: bool,
    build_id: String,
    action: String,
    /// What it does, to be confirmed.
    confirm: Option<String>,
}

impl Wanted {
    /// One that is not asked about.
    pub(crate) fn new(verb: Verb) -> Self {
        Self {
            verb,
            full: false,
            build_id: String::new(),
            action: String::new(),
            confirm: None,
        }
    }

    /// One that is asked about, unless `yes`.
    pub(crate) fn asking(verb: Verb, yes: bool, does: impl Into<String>) -> Self {
        Self {
            confirm: (!yes).then(|| does.into()),
            ..Self::new(verb)
        }
    }

    /// The next step, or all of them.
    pub(crate) fn promote(full: bool, yes: bool) -> Self {
        let does = "takes all steps at once: all new workflows go to the new version";
        Self {
            full,
            ..Self::asking(Verb::Promote, yes || !full, does)
        }
    }

    /// An earlier version.
    pub(crate) fn undo(to: &str, yes: bool) -> Self {
        let version = match to {
            "" => "the version that was current before",
            version => version,
        };
        let does = format!("gives all new workflows to {version}, whatever the spec says");
        Self {
            build_id: to.to_owned(),
            ..Self::asking(Verb::Undo, yes, does)
        }
    }

    /// The workflows that hold an old version.
    pub(crate) fn force_drain(build_id: &str, action: String, yes: bool) -> Self {
        let version = match build_id {
            "" => "the old version",
            version => version,
        };
        let does = format!("does {action} to all running workflows that are pinned to {version}");
        Self {
            build_id: build_id.to_owned(),
            action,
            ..Self::asking(Verb::ForceCancelDrain, yes, does)
        }
    }
}

/// What is told.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    #[serde(flatten)]
    request: &'a RequestStatus,
}

/// Asks, and waits for the answer.
pub(crate) async fn run(cluster: &Cluster, args: &VerbArgs, wanted: Wanted) -> Result<()> {
    let process = cluster.process(&args.name).await?;
    confirm(&args.name, &wanted)?;
    let asked = tokio::time::timeout(args.timeout, free(cluster, args)).await;
    asked.map_err(|_| {
        not_yet(format!(
            "an earlier request has not been answered within {} s: is an operator running? \
             `kubectl process verify {}` tells",
            args.timeout.as_secs(),
            args.name
        ))
    })??;
    let request = request(cluster, args, &process, wanted).await?;
    let text = serde_json::to_string(&request)?;
    let patch = json!({ "metadata": { "annotations": { names::annotation::REQUEST: text } } });
    let api = cluster.api::<Process>();
    let asked = api
        .patch(&args.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    asked.map_err(|error| cluster.about_process(&args.name, &error))?;
    if let Ok(answer) =
        tokio::time::timeout(args.timeout, answer(cluster, &args.name, &request.id)).await
    {
        told(args, &answer?)
    } else {
        let withdrawn = withdraw(&api, &args.name, &text).await;
        Err(not_yet(format!(
            "no answer within {} s; the request {}. Is an operator running? `kubectl process verify {}` \
             tells",
            args.timeout.as_secs(),
            if withdrawn {
                "was withdrawn"
            } else {
                "may still be carried out"
            },
            args.name
        )))
    }
}

/// Asks whether it is meant.
fn confirm(name: &str, wanted: &Wanted) -> Result<()> {
    let Some(does) = &wanted.confirm else {
        return Ok(());
    };
    let question = format!("{} of {name} {does}.", wanted.verb);
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(unasked(format!("{question} Give --yes if that is meant.")));
    }
    eprint!("{question} Go on? [y/N] ");
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .context("reading the answer")?;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(unasked("Nothing was asked for."))
}

/// Waits until the operator has answered what somebody else has asked for: an annotation that is
/// overwritten before it was read is lost.
async fn free(cluster: &Cluster, args: &VerbArgs) -> Result<()> {
    let mut changes = std::pin::pin!(watch::process(cluster, &args.name));
    while let Some(seen) = changes.next().await {
        let process = seen?.ok_or_else(|| cluster.absent(&args.name))?;
        if !pending(&process, Timestamp::now()) {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a request waits to be answered.
fn pending(process: &Process, now: Timestamp) -> bool {
    let Some(text) = process.annotations().get(names::annotation::REQUEST) else {
        return false;
    };
    let asked = Annotation::read(text);
    let answered = process
        .status
        .as_ref()
        .and_then(|status| status.last_request.as_ref())
        .is_some_and(|last| last.id == asked.id);
    let valid = asked.expires_at.is_some_and(|until| until > now);
    !answered && valid && Some(&asked.uid) == process.metadata.uid.as_ref()
}

async fn request(
    cluster: &Cluster,
    args: &VerbArgs,
    process: &Process,
    wanted: Wanted,
) -> Result<Annotation> {
    let now = Timestamp::now();
    let valid = SignedDuration::try_from(args.timeout.max(VALID))?;
    Ok(Annotation {
        id: format!("{}-{}", now.as_nanosecond(), std::process::id()),
        verb: wanted.verb.to_string(),
        uid: process.uid().unwrap_or_default(),
        expires_at: Some(now + valid),
        args: Arguments {
            actor: actor(cluster).await,
            reason: args.reason.clone(),
            full: wanted.full,
            build_id: wanted.build_id,
            action: wanted.action,
        },
        ..Annotation::default()
    })
}

/// Who asks, as the API server knows them.
async fn actor(cluster: &Cluster) -> String {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let user = review
        .ok()
        .and_then(|review| review.status?.user_info?.username);
    user.or_else(|| std::env::var("USER").ok())
        .unwrap_or_default()
}

/// Waits for the answer to a request.
async fn answer(cluster: &Cluster, name: &str, id: &str) -> Result<RequestStatus> {
    let mut changes = std::pin::pin!(watch::process(cluster, name));
    while let Some(seen) = changes.next().await {
        let process = seen?.ok_or_else(|| cluster.absent(name))?;
        let last = process.status.and_then(|status| status.last_request);
        if let Some(last) = last.filter(|last| last.id == id) {
            return Ok(last);
        }
    }
    Err(unasked("the watch has ended"))
}

/// Takes a request back that nobody has answered, unless another one stands there.
async fn withdraw(api: &Api<Process>, name: &str, text: &str) -> bool {
    let path = format!(
        "/metadata/annotations/{}",
        names::annotation::REQUEST.replace('/', "~1")
    );
    let steps = json!([
        { "op": "test", "path": path, "value": text },
        { "op": "remove", "path": path },
    ]);
    let Ok(steps) = serde_json::from_value(steps) else {
        return false;
    };
    let back = Patch::<Process>::Json(steps);
    api.patch(name, &PatchParams::default(), &back)
        .await
        .is_ok()
}

/// Says what became of it.
fn told(args: &VerbArgs, answer: &RequestStatus) -> Result<()> {
    let accepted = answer.result == "Accepted";
    match args.output.output {
        Some(format @ (Format::Json | Format::Yaml)) => {
            let told = Told {
                name: &args.name,
                request: answer,
            };
            data(&told, format)?;
        }
        Some(Format::Name) => write(&format!("process.ameide.io/{}\n", args.name))?,
        None | Some(Format::Wide) if accepted => {
            let done = Line::toned(sign(Tone::Good), Tone::Good).and(Line::plain(format!(
                " {} {}: {}",
                answer.verb, args.name, answer.message
            )));
            Out::stdout().lines(&[done])?;
        }
        None | Some(Format::Wide) => {}
    }
    if accepted {
        return Ok(());
    }
    Err(no(format!(
        "{} {} was refused: {}",
        answer.verb, args.name, answer.message
    )))
}
