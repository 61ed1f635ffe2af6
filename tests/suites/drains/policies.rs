//! What happens to old workflows when their time is up, and to no others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use process_operator_faultproxy::{Action, RpcMatch, TemporalProxy, TemporalProxyConfig};
use process_operator_harness::{Env, OperatorOptions, Scene, manifest, until, written_at};
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;

use crate::histories::{is_what_was_told, nothing_is_added};
use crate::support::{
    QUEUE, SOON, Stops, count, counted, held, on_v1, open, retired, set_drain, tells, to_v2,
};

#[tokio::test(flavor = "multi_thread")]
async fn cancel_asks_first_and_terminates_what_does_not_end() -> Result<()> {
    let scene = Scene::new("cancel").await?;
    let env = &scene.env;
    on_v1(
        env,
        &json!({ "timeoutSeconds": 20, "cancelGraceSeconds": 20 }),
        &[],
    )
    .await?;
    open(env, "old", 48, false).await?;
    open(env, "deaf", 2, true).await?;
    let stops = Stops::watch(env);
    let (_, version) = to_v2(env, 50).await?;
    ensure!(version.deadline.is_none(), "the default is to wait");
    ensure!(version.oldest_start_time.is_some());
    open(env, "new", 5, false).await?;
    // The drain runs already: it is told.
    set_drain(env, &json!({ "onTimeout": "Cancel" })).await?;
    let (reason, _) = tells(env, "DrainTimedOut").await?;
    ensure!(
        reason.starts_with("Cancel: 50 running workflows, for example "),
        "{reason}"
    );
    counted(env, "old", "Canceled", 48).await?;
    let (reason, _) = tells(env, "DrainEscalated").await?;
    ensure!(
        reason.starts_with("Terminate: 2 running workflows"),
        "{reason}"
    );
    counted(env, "deaf", "Terminated", 2).await?;
    for id in ["deaf-0", "deaf-1"] {
        let history = env.temporal.history(&env.apps, id).await?;
        let grace = passed(
            &history,
            EventType::WorkflowExecutionCancelRequested,
            EventType::WorkflowExecutionTerminated,
        )?;
        // They may be asked in any order of fifty.
        ensure!((15..40).contains(&grace.as_secs()), "{id} had {grace:#}");
    }
    retired(env).await?;
    let old = "WorkflowId STARTS_WITH 'old-' OR WorkflowId STARTS_WITH 'deaf-'";
    stops.after_the_last(env, &version.build_id, old).await?;
    ensure!(
        count(env, "new", "Running").await? == 5,
        "others are left alone"
    );
    scene.leave().await
}

/// The time from the first event of one type to the first of another, by the server's clock.
fn passed(history: &[HistoryEvent], from: EventType, to: EventType) -> Result<SignedDuration> {
    let at = |kind: EventType| -> Result<Timestamp> {
        let event = history.iter().find(|event| event.event_type() == kind);
        event
            .and_then(written_at)
            .with_context(|| kind.as_str_name())
    };
    Ok(at(to)?.duration_since(at(from)?))
}

/// A run that has gone on as another one when its turn to be asked comes, and one that takes the place of
/// another that closed: the number of those that are open is the same.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_asks_runs_that_come_in_the_place_of_others() -> Result<()> {
    const RENEWING: usize = 3;
    let env = Env::new("renew").await?;
    let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
    let options = OperatorOptions {
        temporal_address: Some(proxy.addr().to_string()),
        ..OperatorOptions::default()
    };
    let scene = Scene::of(env, options).await?;
    let env = &scene.env;
    on_v1(env, &json!({ "cancelGraceSeconds": 40 }), &[]).await?;
    for n in 0..RENEWING {
        env.temporal
            .start_renewing(&env.apps, QUEUE, &format!("renews-{n}"))
            .await?;
    }
    open(env, "deaf", 1, true).await?;
    let asked = RpcMatch::method("RequestCancelWorkflowExecution");
    let late = proxy.rule(asked.first(4), Action::Delay(Duration::from_secs(4)));
    let (_, version) = to_v2(env, 4).await?;
    set_drain(env, &json!({ "onTimeout": "Cancel", "timeoutSeconds": 1 })).await?;
    late.wait_done(4, SOON).await?;
    env.temporal.terminate(&env.apps, "deaf-0").await?;
    let deployment = format!("{}/l2o", env.namespace);
    let pinned = Some((deployment.as_str(), version.build_id.as_str()));
    env.temporal
        .start_waiting_as(&env.apps, QUEUE, "late-0", false, pinned)
        .await?;
    counted(env, "renews", "Canceled", RENEWING).await?;
    counted(env, "late", "Canceled", 1).await?;
    ensure!(count(env, "renews", "Terminated").await? == 0);
    let (reason, _) = tells(env, "WorkflowsEnded").await?;
    // The index may show one that goes on in another run not at all for a moment.
    let told = (1..=4).any(|most| reason == format!("Cancel of {most} running workflows: 0 left"));
    ensure!(told, "{reason}");
    retired(env).await?;
    scene.leave().await
}

/// The grace is shortened while it lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_grace_reaches_a_cancel_that_is_under_way() -> Result<()> {
    let scene = Scene::new("grace").await?;
    let env = &scene.env;
    let policy = json!({ "onTimeout": "Cancel", "timeoutSeconds": 1, "cancelGraceSeconds": 3600 });
    on_v1(env, &policy, &[]).await?;
    open(env, "old", 1, false).await?;
    open(env, "deaf", 1, true).await?;
    env.set_tag("l2o", "v2").await?;
    counted(env, "old", "Canceled", 1).await?;
    ensure!(count(env, "deaf", "Running").await? == 1);
    set_drain(env, &json!({ "cancelGraceSeconds": 5 })).await?;
    counted(env, "deaf", "Terminated", 1).await?;
    let (reason, _) = tells(env, "DrainEscalated").await?;
    ensure!(reason.starts_with("Terminate: 1 running"), "{reason}");
    retired(env).await?;
    scene.leave().await
}

/// What a Process says nothing about is as the operator's flags say.
#[tokio::test(flavor = "multi_thread")]
async fn flags_are_the_policy_of_a_process_that_has_none() -> Result<()> {
    let env = Env::new("flags").await?;
    let args = [
        "--drain-timeout-seconds",
        "1",
        "--drain-on-timeout",
        "Terminate",
    ];
    let options = OperatorOptions {
        args: args.map(str::to_owned).to_vec(),
        ..OperatorOptions::default()
    };
    let scene = Scene::of(env, options).await?;
    let env = &scene.env;
    let process = env.apply(&manifest(env, "l2o", "v1")).await?;
    ensure!(process.spec.drain.is_none(), "{:?}", process.spec.drain);
    env.wait_settled("l2o", "v1").await?;
    env.guard_versions("l2o");
    open(env, "old", 3, false).await?;
    env.set_tag("l2o", "v2").await?;
    counted(env, "old", "Terminated", 3).await?;
    let (reason, _) = tells(env, "DrainTimedOut").await?;
    ensure!(reason.starts_with("Terminate: 3 running"), "{reason}");
    retired(env).await?;
    scene.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn terminate_ends_all_old_workflows_and_no_others() -> Result<()> {
    let scene = Scene::new("terminate").await?;
    let env = &scene.env;
    on_v1(env, &json!({}), &[]).await?;
    open(env, "old", 50, false).await?;
    to_v2(env, 50).await?;
    open(env, "new", 5, false).await?;
    set_drain(
        env,
        &json!({ "onTimeout": "Terminate", "timeoutSeconds": 1 }),
    )
    .await?;
    counted(env, "old", "Terminated", 50).await?;
    let (reason, actor) = tells(env, "WorkflowsEnded").await?;
    ensure!(
        reason == "Terminate of 50 running workflows: 0 left",
        "{reason}"
    );
    ensure!(actor == "process-operator", "{actor}");
    retired(env).await?;
    ensure!(
        count(env, "new", "Running").await? == 5,
        "others are left alone"
    );
    scene.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn old_workflows_can_be_moved_to_the_current_version() -> Result<()> {
    let scene = Scene::new("move").await?;
    let env = &scene.env;
    on_v1(env, &json!({}), &[]).await?;
    open(env, "old", 50, false).await?;
    to_v2(env, 50).await?;
    open(env, "new", 5, false).await?;
    set_drain(
        env,
        &json!({ "onTimeout": "MoveToCurrent", "timeoutSeconds": 1 }),
    )
    .await?;
    let (reason, _) = tells(env, "WorkflowsEnded").await?;
    ensure!(
        reason == "MoveToCurrent of 50 running workflows: 0 left",
        "{reason}"
    );
    retired(env).await?;
    ensure!(count(env, "old", "Running").await? == 50, "they go on");
    ensure!(
        count(env, "new", "Running").await? == 5,
        "others are left alone"
    );
    for n in 0..50 {
        let output = env
            .temporal
            .finish_waiting(&env.apps, &format!("old-{n}"))
            .await?;
        ensure!(output.started_on.starts_with("v1-"), "{output:?}");
        ensure!(output.completed_on.starts_with("v2-"), "{output:?}");
    }
    scene.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_deadline_they_are_waited_for_and_the_last_one_ends_it() -> Result<()> {
    let scene = Scene::new("wait").await?;
    let env = &scene.env;
    on_v1(
        env,
        &json!({ "onTimeout": "Wait", "timeoutSeconds": 1 }),
        &[],
    )
    .await?;
    open(env, "old", 50, false).await?;
    let (process, version) = to_v2(env, 50).await?;
    open(env, "new", 5, false).await?;
    ensure!(version.deadline.is_none(), "Wait has no deadline");
    let pods = env.pods("l2o").await?;
    // Below ten each change is a tenth, and told.
    for (some, left) in [(1..42, 9), (42..46, 5), (46..50, 1)] {
        for n in some {
            let id = format!("old-{n}");
            env.temporal.finish_waiting(&env.apps, &id).await?;
        }
        held(env, left).await?;
    }
    let build_id = version.build_id;
    let kept = env.pods("l2o").await?.iter().any(|pod| {
        pod.metadata.deletion_timestamp.is_none()
            && pod
                .metadata
                .labels
                .iter()
                .flatten()
                .any(|(_, value)| *value == build_id)
    });
    ensure!(kept, "{} pods before", pods.len());
    nothing_is_added(env, &process).await?;
    is_what_was_told(env, &process, 4).await?;
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    retired(env).await?;
    ensure!(
        count(env, "new", "Running").await? == 5,
        "others are left alone"
    );
    let events = env.events(&process).await?;
    ensure!(!events.iter().any(|(reason, _)| reason == "DrainTimedOut"));
    scene.leave().await
}

/// Workflows that follow the current version hold no old one, even if they ran there last.
#[tokio::test(flavor = "multi_thread")]
async fn workflows_that_move_by_themselves_are_never_touched() -> Result<()> {
    let scene = Scene::new("auto").await?;
    let env = &scene.env;
    let process = on_v1(env, &json!({}), &[("VERSIONING_BEHAVIOR", "AutoUpgrade")]).await?;
    let status = process.status.context("status")?;
    let build_id = status.current_version.context("current")?.build_id;
    let deployment = format!("{}/l2o", env.namespace);
    open(env, "auto", 5, false).await?;
    for n in 0..3 {
        let version = Some((deployment.as_str(), build_id.as_str()));
        env.temporal
            .start_waiting_as(&env.apps, QUEUE, &format!("old-{n}"), false, version)
            .await?;
    }
    to_v2(env, 3).await?;
    set_drain(
        env,
        &json!({ "onTimeout": "Terminate", "timeoutSeconds": 1 }),
    )
    .await?;
    counted(env, "old", "Terminated", 3).await?;
    retired(env).await?;
    ensure!(count(env, "auto", "Running").await? == 5, "they go on");
    let output = env.temporal.finish_waiting(&env.apps, "auto-0").await?;
    ensure!(output.completed_on.starts_with("v2-"), "{output:?}");
    tokio::time::timeout(Duration::from_secs(120), scene.leave()).await?
}

/// More than the server lists with one call: the oldest is on the last page.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_more_than_a_page_is_found() -> Result<()> {
    let scene = Scene::new("oldest").await?;
    let env = &scene.env;
    on_v1(env, &json!({}), &[]).await?;
    open(env, "first", 1, false).await?;
    let first = env
        .temporal
        .list(&env.apps, "WorkflowId = 'first-0'")
        .await?;
    let at = first.first().and_then(|info| info.start_time);
    let at = at.context("it was started")?;
    let started = Timestamp::new(at.seconds, at.nanos)?;
    // Told by the second.
    until("the next second", SOON, async || {
        let age = Timestamp::now().duration_since(started).as_secs_f64();
        ensure!(age > 2.0, "{age}");
        Ok(())
    })
    .await?;
    open(env, "old", 210, false).await?;
    let (process, version) = to_v2(env, 211).await?;
    let oldest = version.oldest_start_time.context("the oldest")?.0;
    let off = oldest.duration_since(started).as_secs_f64();
    ensure!(off.abs() <= 1.0, "{oldest}, not {started}");
    let order = json!({ "action": "Terminate" });
    env.grant_with(&process, "forceCancelDrain", &order).await?;
    let (reason, _) = tells(env, "WorkflowsEnded").await?;
    ensure!(
        reason == "Terminate of 211 running workflows: 0 left",
        "{reason}"
    );
    retired(env).await?;
    scene.leave().await
}
