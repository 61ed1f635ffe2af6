//! What becomes of workflows that outlast their Process.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{PodGuard, manifest};
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::support::{PROMPT, QUEUE, SOON, ended, is_open, says, settled, told};

#[tokio::test(flavor = "multi_thread")]
async fn abandon_leaves_what_is_open_after_its_time() -> Result<()> {
    let (scene, process) = settled("abandon", &json!({ "timeoutSeconds": 5 })).await?;
    let env = &scene.env;
    for id in ["one", "two"] {
        env.temporal.start_waiting(&env.apps, QUEUE, id).await?;
    }
    env.delete("l2o").await?;
    let waiting = says(env, "waiting for 2 running workflows until").await?;
    let answer = env.temporal.quick(&env.apps, QUEUE, "late").await?;
    ensure!(
        answer.build_id.starts_with("v1-"),
        "workers serve while it waits: {answer:?}"
    );
    // The policy says so, after its time.
    env.unguard_versions();
    env.gone_within("l2o", SOON).await?;
    let asked = waiting.metadata.deletion_timestamp.context("deleting")?.0;
    let took = jiff::Timestamp::now().duration_since(asked);
    ensure!(took.as_secs() >= 5, "gone after {took:#}");
    is_open(env, "one").await?;
    is_open(env, "two").await?;
    let events = told(env, &process).await?;
    for reason in ["Deleting", "WaitingForWorkflows", "StoppingWorkers"] {
        let count = events.iter().filter(|it| *it == reason).count();
        ensure!(count == 1, "{reason}: {count} in {events:?}");
    }
    for id in ["one", "two"] {
        env.temporal.terminate(&env.apps, id).await?;
    }
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_asks_first_and_terminates_what_does_not_listen() -> Result<()> {
    let policy = json!({ "timeoutSeconds": 2, "onTimeout": "Cancel", "cancelGraceSeconds": 8 });
    let (scene, process) = settled("cancel", &policy).await?;
    let env = &scene.env;
    env.apply(&manifest(env, "other", "v1")).await?;
    env.wait_settled("other", "v1").await?;
    env.temporal
        .start_waiting(&env.apps, "other-tq", "untouched")
        .await?;
    let listening: Vec<String> = (0..8).map(|n| format!("listens-{n}")).collect();
    for id in &listening {
        env.temporal.start_open(&env.apps, QUEUE, id, false).await?;
    }
    env.temporal
        .start_open(&env.apps, QUEUE, "deaf", true)
        .await?;
    for id in listening.iter().map(String::as_str).chain(["deaf"]) {
        env.temporal.wait_taken(&env.apps, id).await?;
    }
    let guard = PodGuard::start(env, "l2o", QUEUE);
    env.delete("l2o").await?;
    says(env, "to cancel, terminating what is open at").await?;
    for id in &listening {
        ended(env, id, WorkflowExecutionStatus::Canceled).await?;
    }
    is_open(env, "deaf").await?;
    env.gone_within("l2o", SOON).await?;
    ended(env, "deaf", WorkflowExecutionStatus::Terminated).await?;
    guard.hold()?;
    is_open(env, "untouched").await?;
    let events = env.events(&process).await?;
    let asked = events
        .iter()
        .find(|(reason, _)| reason == "CancellingWorkflows");
    let (_, note) = asked.context("it tells before it acts")?;
    ensure!(note.contains("9 running workflows"), "{note}");
    env.nothing_is_left(&process).await?;
    env.leave("other").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn terminate_ends_fifty_and_nothing_else() -> Result<()> {
    let policy = json!({ "timeoutSeconds": 2, "onTimeout": "Terminate" });
    let (scene, process) = settled("terminate", &policy).await?;
    let env = &scene.env;
    env.apply(&manifest(env, "other", "v1")).await?;
    env.wait_settled("other", "v1").await?;
    env.temporal
        .start_waiting(&env.apps, "other-tq", "untouched")
        .await?;
    for n in 0..50 {
        let id = format!("run-{n}");
        env.temporal
            .start_open(&env.apps, QUEUE, &id, n % 2 == 0)
            .await?;
    }
    env.temporal.wait_taken(&env.apps, "run-49").await?;
    let guard = PodGuard::start(env, "l2o", QUEUE);
    env.delete("l2o").await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    for n in [0, 1, 25, 48, 49] {
        ended(
            env,
            &format!("run-{n}"),
            WorkflowExecutionStatus::Terminated,
        )
        .await?;
    }
    ensure!(
        env.temporal.open_on(&env.apps, QUEUE).await? == 0,
        "some are open"
    );
    is_open(env, "untouched").await?;
    env.nothing_is_left(&process).await?;
    env.leave("other").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn late_starts_are_terminated() -> Result<()> {
    late_starts("Terminate", WorkflowExecutionStatus::Terminated).await
}

#[tokio::test(flavor = "multi_thread")]
async fn late_starts_are_asked_to_cancel() -> Result<()> {
    late_starts("Cancel", WorkflowExecutionStatus::Canceled).await
}

/// A workflow that is started while the deletion waits ends as the others do; one that is started while they
/// are asked to cancel is asked too.
async fn late_starts(policy: &str, end: WorkflowExecutionStatus) -> Result<()> {
    // A late start is seen within 15 s, and must be before the deadline.
    let deletion = json!({ "timeoutSeconds": 45, "onTimeout": policy, "cancelGraceSeconds": 15 });
    let (scene, process) = settled(&format!("late-{}", policy.to_lowercase()), &deletion).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.temporal
        .start_waiting_as(&env.apps, QUEUE, "deaf", true, None)
        .await?;
    env.delete("l2o").await?;
    says(env, "waiting for 2 running workflows until").await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "late").await?;
    says(env, "1 started since the deletion began").await?;
    if policy == "Cancel" {
        says(env, "to cancel, terminating what is open at").await?;
        env.temporal
            .start_waiting(&env.apps, QUEUE, "later")
            .await?;
    }
    env.gone_within("l2o", SOON).await?;
    ended(env, "long", end).await?;
    ended(env, "late", end).await?;
    ended(env, "deaf", WorkflowExecutionStatus::Terminated).await?;
    if policy == "Cancel" {
        ended(env, "later", end).await?;
    }
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

/// With no worker there is nobody to hear a request to cancel.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_worker_ever_took_is_not_waited_for() -> Result<()> {
    let policy = json!({ "timeoutSeconds": 1, "onTimeout": "Cancel", "cancelGraceSeconds": 3600 });
    let (scene, process) = settled("untaken", &policy).await?;
    let env = &scene.env;
    env.patch("l2o", &json!({ "spec": { "replicas": 0 } }))
        .await?;
    process_operator_harness::until("no pod", SOON, async || {
        let pods = env.pods("l2o").await?.len();
        ensure!(pods == 0, "{pods} pods");
        Ok(())
    })
    .await?;
    env.temporal
        .start_open(&env.apps, QUEUE, "untaken", false)
        .await?;
    env.delete("l2o").await?;
    env.gone_within("l2o", SOON).await?;
    ended(env, "untaken", WorkflowExecutionStatus::Terminated).await?;
    let history = env.temporal.history(&env.apps, "untaken").await?;
    let reason = history.last().and_then(|event| match &event.attributes {
        Some(Attributes::WorkflowExecutionTerminatedEventAttributes(ended)) => {
            Some(ended.reason.clone())
        }
        _ => None,
    });
    ensure!(
        reason
            .as_ref()
            .is_some_and(|reason| reason.contains("no worker ever took it")),
        "{reason:?}"
    );
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_open_it_goes_at_once() -> Result<()> {
    let (scene, process) = settled("nothing", &json!({})).await?;
    let env = &scene.env;
    env.temporal.quick(&env.apps, QUEUE, "done").await?;
    let started = std::time::Instant::now();
    env.delete("l2o").await?;
    env.gone_within("l2o", PROMPT).await?;
    println!("deleted after {:.1} s", started.elapsed().as_secs_f64());
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_policy_counts_while_it_waits() -> Result<()> {
    let (scene, process) = settled("change", &json!({})).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    says(env, "then they are left as they are").await?;
    env.patch(
        "l2o",
        &json!({ "spec": { "deletion": { "timeoutSeconds": 3600 } } }),
    )
    .await?;
    says(env, "waiting for 1 running workflow until").await?;
    let terminate = json!({ "timeoutSeconds": 0, "onTimeout": "Terminate" });
    env.patch("l2o", &json!({ "spec": { "deletion": terminate } }))
        .await?;
    env.gone_within("l2o", Duration::from_secs(30)).await?;
    ended(env, "long", WorkflowExecutionStatus::Terminated).await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}
