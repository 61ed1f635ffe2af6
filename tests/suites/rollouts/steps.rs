//! Steps that have a gate and an analysis of their own.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Env, Scene, condition, until};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::support::{SOON, canary, change, reason, rollout, routed};

/// Long enough for the spec to be changed meanwhile.
const GATE_SECONDS: i64 = 10;

/// Gate workflows in the order of their start: id and status.
async fn gates(env: &Env) -> Result<Vec<(String, i32)>> {
    let query = "WorkflowId STARTS_WITH 'gate/'";
    let mut found = env.temporal.list(&env.apps, query).await?;
    found.sort_by_key(|info| info.start_time.as_ref().map(|at| (at.seconds, at.nanos)));
    let of =
        |info: &temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo| {
            let id = info.execution.as_ref().map(|it| it.workflow_id.clone());
            (id.unwrap_or_default(), info.status)
        };
    Ok(found.iter().map(of).collect())
}

/// What a workflow was started with, and after how many seconds it had to be over.
fn started_with(events: &[HistoryEvent]) -> Result<(Value, i64)> {
    let begun = events.iter().find_map(|event| match &event.attributes {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(begun)) => Some(begun),
        _ => None,
    });
    let begun = begun.context("the start")?;
    let input = begun.input.iter().flat_map(|input| &input.payloads).next();
    let input = serde_json::from_slice(&input.context("an input")?.data)?;
    let within = begun
        .workflow_execution_timeout
        .as_ref()
        .context("a time-out")?;
    Ok((input, within.seconds))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_goes_by_its_own_evidence_and_its_own_gate() -> Result<()> {
    let (scene, _) = Scene::settled("ownstep").await?;
    let env = &scene.env;
    // The rollout as a whole asks for no execution and allows no failure, and would look once an hour.
    let policy = |input: &Value| {
        let steps = json!([
            {
                "weight": 90,
                "analysis": { "minWorkflows": 10, "maxFailurePercent": 90, "intervalSeconds": 1 },
                "gate": {
                    "workflowType": "Verify", "input": input, "attempts": 2, "timeoutSeconds": GATE_SECONDS,
                },
            },
            { "weight": 95, "pause": { "durationSeconds": 1 } },
        ]);
        let mut policy = canary(&steps);
        policy["analysis"] =
            json!({ "minWorkflows": 0, "maxFailurePercent": 0, "intervalSeconds": 3600 });
        policy
    };
    let fails = [("FAIL_PERCENT", "30")];
    let endless = json!({ "delay_ms": 600_000 });
    env.patch("l2o", &change("v2", &fails, &policy(&endless)))
        .await?;
    let waiting = env
        .wait_process("l2o", "inconclusive", SOON, |process| {
            let (_, reason, message) = condition(process, "Progressing");
            reason == "Inconclusive" && message.contains("10 are needed")
        })
        .await?;
    ensure!(
        rollout(&waiting).step == 1 && gates(env).await?.is_empty(),
        "its gate comes after its evidence: {:?}",
        rollout(&waiting)
    );

    // Some fail, more than the rollout and less than the step allows. Looked at once an hour they would not be
    // seen within this test.
    env.temporal.starts(&env.apps, "l2o-tq", 40).await?;
    until("its gate is tried", SOON, async || {
        let gates = gates(env).await?;
        ensure!(gates.len() == 1, "{gates:?}");
        Ok(())
    })
    .await?;
    let failed = format!(
        "WorkflowType = 'Quick' AND ExecutionStatus = 'Failed' \
         AND TemporalWorkerDeploymentVersion STARTS_WITH '{}/l2o:v2-'",
        env.namespace
    );
    let failed = env.temporal.list(&env.apps, &failed).await?;
    ensure!(!failed.is_empty(), "some have failed on v2");

    // Each try takes the input that the step has then: the first does not end, the second does.
    let quick = json!({ "message": "of the step" });
    env.patch("l2o", &change("v2", &fails, &policy(&quick)))
        .await?;
    // Past the step the rollout's own analysis counts again.
    let aborted = reason(env, "Stalled", "AnalysisFailed").await?;
    let message = condition(&aborted, "Degraded").2;
    ensure!(message.contains("at most 0 % may"), "{message}");
    let tries = gates(env).await?;
    let [(first, timed_out), (second, completed)] = &tries[..] else {
        anyhow::bail!("two tries: {tries:?}");
    };
    ensure!(*timed_out == i32::from(Status::TimedOut), "{timed_out}");
    ensure!(*completed == i32::from(Status::Completed), "{completed}");
    for (id, input) in [(first, endless), (second, quick)] {
        let found = started_with(&env.temporal.history(&env.apps, id).await?)?;
        ensure!(found == (input, GATE_SECONDS), "{id}: {found:?}");
    }
    let weights = aborted.status.iter().flat_map(|status| &status.history);
    let weights: Vec<_> = weights
        .filter(|entry| entry.what == "WeightChanged")
        .collect();
    ensure!(weights.len() == 2, "both steps were taken: {weights:?}");

    routed(env, "v1", "", 0.0).await?;
    let all_at_once = json!({ "strategy": "RollingUpdate", "steps": null, "analysis": null });
    env.patch("l2o", &change("v3", &[], &all_at_once)).await?;
    env.wait_settled("l2o", "v3").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_stuck_tasks_may_be_allowed_in_a_step_than_in_the_rollout() -> Result<()> {
    let (scene, _) = Scene::settled("stuckstep").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([{
        "weight": 90,
        "pause": { "durationSeconds": 300 },
        "analysis": {
            "minWorkflows": 0, "maxFailurePercent": 100, "maxTaskFailures": 2, "intervalSeconds": 1,
        },
    }]));
    policy["analysis"] = json!({ "minWorkflows": 0, "maxTaskFailures": 1000 });
    let stuck = [("FAIL_TASK_PERCENT", "100")];
    env.patch("l2o", &change("v2", &stuck, &policy)).await?;
    crate::support::at_step(env, 1).await?;
    let starts: Vec<_> = (0..10)
        .map(|n| {
            let (temporal, apps) = (env.temporal.clone(), env.apps.clone());
            tokio::spawn(async move { temporal.quick(&apps, "l2o-tq", &format!("q-{n}")).await })
        })
        .collect();
    let aborted = reason(env, "Stalled", "AnalysisFailed").await?;
    let message = condition(&aborted, "Degraded").2;
    ensure!(message.contains("at most 2 may"), "{message}");
    routed(env, "v1", "", 0.0).await?;
    for start in starts {
        let answer = tokio::time::timeout(Duration::from_mins(3), start).await???;
        ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    }
    scene.finish().await
}
