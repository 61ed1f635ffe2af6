//! F24: Temporal is there and refuses: too much is asked of it, it takes too long, a namespace or a
//! right is missing. First what is done for a Process in the middle of its roll, then everything in the
//! middle of a drain.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, GrpcCode, GrpcError, Rpc, RpcMatch};
use process_operator_harness::{condition, is_current, until};
use serde_json::json;

use crate::drains::{count, held, on_v1};
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// What the server would say; no other message has it.
const WORDS: &str = "refused for a test";

/// An answer, and where it shows.
struct Refusal {
    name: &'static str,
    error: GrpcError,
    /// A condition with status, reason and words that the lifecycle sets.
    shown: [&'static str; 4],
}

/// Asked for one Process, not for the operator's own workflows.
fn about_workers(rpc: &Rpc) -> bool {
    let visibility = ["CountWorkflowExecutions", "ListWorkflowExecutions"];
    rpc.method.contains("WorkerDeployment") || visibility.contains(&rpc.method.as_str())
}

async fn refused(refusal: Refusal) -> Result<()> {
    let world = World::new(refusal.name).await?;
    let env = &world.env;
    let process = on_v1(&world, &json!({}), 2).await?;
    let answer = || Action::Answer(refusal.error.clone());
    let apps = env.apps.clone();
    let about = RpcMatch::any().when(move |rpc| about_workers(rpc) && rpc.mentions(&apps));
    let some = world.temporal.rule(about, answer());
    env.set_tag(NAME, "v2").await?;
    let [type_, status, reason, words] = refusal.shown;
    let what = format!("{type_}={status}, {reason}: {words}");
    let shown = env
        .wait_process(NAME, &what, SOON, |process| {
            let (is, why, message) = condition(process, type_);
            is == status && why == reason && message.contains(words)
        })
        .await?;
    ensure!(
        condition(&shown, "Ready").0 == "True" && is_current_version(&shown, "v1"),
        "v1 serves all the while: {:?}",
        shown.status
    );
    some.remove();
    held(env, 2).await?;

    let all = world.temporal.rule(RpcMatch::any(), answer());
    env.wait_process(NAME, "the watcher says it", SOON, |process| {
        let (status, reason, message) = condition(process, "TemporalReachable");
        status == "False" && reason == "TemporalUnavailable" && message.contains(WORDS)
    })
    .await?;
    let operator = world.operator()?;
    ensure!(!operator.ended(), "it runs on");
    ensure!(operator.get("/livez").await?.0 == 200, "and is alive");
    // One that ends meanwhile is found afterwards.
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    ensure!(env.deployments(NAME).await?.len() == 2, "both have workers");
    all.remove();
    held(env, 1).await?;
    ensure!(count(env, "old", "Running").await? == 1);
    let output = env.temporal.finish_waiting(&env.apps, "old-1").await?;
    ensure!(output.completed_on.starts_with("v1-"), "{output:?}");
    at_rest(&world, "v2").await?;
    until("the operator is ready", SOON, async || {
        let (code, text) = operator.get("/readyz").await?;
        ensure!(code == 200, "{text}");
        Ok(())
    })
    .await?;
    let events = env.events(&process).await?;
    let routed = events
        .iter()
        .filter(|(reason, _)| reason == "VersionCurrent")
        .count();
    ensure!(routed == 2, "each version once: {events:?}");
    ensure!(
        !operator.ended(),
        "one process from the beginning to the end"
    );
    world.leave().await
}

fn is_current_version(process: &Process, tag: &str) -> bool {
    let status = process.status.as_ref();
    let current = status.and_then(|status| status.current_version.as_ref());
    current.is_some_and(|it| it.build_id.starts_with(&format!("{tag}-")))
        && !is_current(process, "v2")
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_asked() -> Result<()> {
    refused(Refusal {
        name: "f24rate",
        error: GrpcError::new(GrpcCode::ResourceExhausted, WORDS),
        shown: ["TemporalReachable", "False", "TemporalUnavailable", WORDS],
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_too_long() -> Result<()> {
    refused(Refusal {
        name: "f24late",
        error: GrpcError::new(GrpcCode::DeadlineExceeded, WORDS),
        shown: ["TemporalReachable", "False", "TemporalUnavailable", WORDS],
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_is_missing() -> Result<()> {
    refused(Refusal {
        name: "f24right",
        error: GrpcError::new(GrpcCode::PermissionDenied, WORDS),
        shown: ["Stalled", "True", "Forbidden", WORDS],
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_missing() -> Result<()> {
    refused(Refusal {
        name: "f24names",
        error: namespace_not_found()?,
        shown: ["Stalled", "True", "NamespaceNotFound", "does not exist"],
    })
    .await
}

/// As the server says it: the type of the details tells it from any other thing that is not found.
fn namespace_not_found() -> Result<GrpcError> {
    const TYPE: &str = "type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotFoundFailure";
    let length = u8::try_from(TYPE.len())?;
    // google.rpc.Status: code 5, and one google.protobuf.Any without a value.
    let mut status = vec![
        0x08,
        5,
        0x1a,
        length.checked_add(2).context("short")?,
        0x0a,
        length,
    ];
    status.extend(TYPE.bytes());
    Ok(GrpcError::new(GrpcCode::NotFound, WORDS).details(status))
}
