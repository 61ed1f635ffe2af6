//! A rollout in each of its stages: what is refused there changes nothing, and what is granted does as it says.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use process_operator_crds::{Process, names};
use process_operator_harness::{Env, Scene, condition, until};
use serde_json::{Value, json};

use crate::support::{SOON, ask, canary, change, now, reason, rollout, rollouts, routed, shares};

/// Where a rollout stands: stage, step and weight.
pub(crate) type Stand = (&'static str, i32, i32);

/// A verb, which `full` may follow, and a telling part of why it is refused.
pub(crate) type Refusal = (&'static str, &'static str);

/// What is refused in every stage of a rollout that nobody has paused.
pub(crate) const NOT_NOW: [Refusal; 4] = [
    ("resume", "it is not paused"),
    ("retry", "nothing has failed or was undone"),
    ("undo", "a rollout is under way: abort it first"),
    ("forceCancelDrain", "nothing is draining"),
];

/// What is refused in every stage while it is paused.
pub(crate) const PAUSED: [Refusal; 5] = [
    ("pause", "it is paused already"),
    ("promote", "it is paused: resume it first"),
    ("promote full", "it is paused: resume it first"),
    ("retry", "nothing has failed or was undone"),
    ("undo", "a rollout is under way: abort it first"),
];

/// What is refused once it was aborted.
pub(crate) const ABORTED: [Refusal; 4] = [
    ("pause", "nothing is being rolled out"),
    ("resume", "nothing is being rolled out"),
    ("promote", "nothing is being rolled out"),
    ("abort", "nothing is being rolled out"),
];

/// A gate that stays open until it is told to finish.
pub(crate) fn open_gate() -> Value {
    json!({ "workflowType": "WaitForSignal", "timeoutSeconds": 600 })
}

/// Whether status shows a rollout there.
pub(crate) fn is_at(process: &Process, stand: Stand) -> bool {
    let found = rollout(process);
    (found.stage.as_str(), found.step, found.weight) == stand
}

/// Waits until status shows a rollout there.
pub(crate) async fn at(env: &Env, name: &str, stand: Stand) -> Result<Process> {
    env.wait_process(name, &format!("{stand:?}"), SOON, |process| {
        is_at(process, stand)
    })
    .await
}

/// Each of them is refused with its words, and nothing has changed after that.
pub(crate) async fn refused(env: &Env, process: &Process, verbs: &[Refusal]) -> Result<()> {
    let look = async || {
        let found = rollout(&now(env).await?);
        let stand = (found.stage, found.step, found.weight);
        anyhow::Ok((stand, shares(env).await?))
    };
    let before = look().await?;
    for &(verb, words) in verbs {
        let why = ask(env, process, verb).await?.err();
        let why = why.with_context(|| format!("{verb} was granted at {before:?}"))?;
        ensure!(why.contains(words), "{verb} at {before:?}: {why}");
    }
    let after = look().await?;
    ensure!(after == before, "{before:?} became {after:?}");
    Ok(())
}

/// Gate workflows ever started for a Process, each by workflow id and run id, in the order of their tries.
pub(crate) async fn gate_runs(env: &Env, name: &str) -> Result<Vec<(String, String)>> {
    let query = format!("WorkflowId STARTS_WITH 'gate/{}/{name}/'", env.namespace);
    let found = env.temporal.list(&env.apps, &query).await?;
    let runs = found.into_iter().filter_map(|info| info.execution);
    let mut runs: Vec<_> = runs.map(|run| (run.workflow_id, run.run_id)).collect();
    runs.sort();
    Ok(runs)
}

/// The last of so many gates, once it is there.
pub(crate) async fn last_gate(env: &Env, name: &str, count: usize) -> Result<(String, String)> {
    until(&format!("gate {count} is there"), SOON, async || {
        let mut runs = gate_runs(env, name).await?;
        ensure!(runs.len() == count, "{runs:?}");
        runs.pop().context("none")
    })
    .await
}

/// Lets a gate complete, on the version that it was started on.
pub(crate) async fn complete_gate(env: &Env, gate: &str) -> Result<()> {
    let output = env.temporal.finish_waiting(&env.apps, gate).await?;
    ensure!(
        output.completed_on.starts_with("v2-"),
        "{gate} ends where it began: {output:?}"
    );
    Ok(())
}

/// Paused it stays where it is, and what is refused then is refused.
async fn paused(env: &Env, process: &Process, stand: Stand) -> Result<()> {
    env.grant(process, "pause").await?;
    let found = reason(env, "Progressing", "Paused").await?;
    ensure!(is_at(&found, stand), "{stand:?}: {:?}", rollout(&found));
    refused(env, process, &PAUSED).await
}

/// Lets it go on where it was paused.
async fn resumed(env: &Env, process: &Process, stand: Stand) -> Result<()> {
    env.grant(process, "resume").await?;
    env.wait_process("l2o", "it is not paused", SOON, |process| {
        condition(process, "Progressing").1 != "Paused" && is_at(process, stand)
    })
    .await?;
    Ok(())
}

/// Waits until nothing but the pause holds it: what the stage has waited for is there, and the share stays.
async fn only_paused(env: &Env, process: &Process, ramping: &str, percent: f32) -> Result<()> {
    let ids = rollouts(env, process, "v2").await?;
    let id = ids.first().context("a rollout")?;
    until("only the pause holds it", SOON, async || {
        let details = env.temporal.current_details(&env.control, id).await?;
        ensure!(details.contains("**Paused.**"), "{details}");
        Ok(())
    })
    .await?;
    ensure!(condition(&now(env).await?, "Progressing").1 == "Paused");
    routed(env, "v1", ramping, percent).await
}

/// Aborted, all goes to the version that served before.
async fn aborted(env: &Env, process: &Process) -> Result<()> {
    env.grant(process, "abort").await?;
    reason(env, "Stalled", "RolloutAborted").await?;
    routed(env, "v1", "", 0.0).await?;
    refused(env, process, &ABORTED).await
}

/// What was granted is told once each, and what was refused at once is not told.
pub(crate) async fn asked(env: &Env, process: &Process, granted: &[&str]) -> Result<()> {
    until("each granted request is told once", SOON, async || {
        let events = env.events(process).await?;
        let reasons = events.iter().map(|(reason, _)| reason.as_str());
        let mut told: Vec<_> = reasons
            .filter(|it| it.ends_with("Requested") || *it == "RequestRefused")
            .collect();
        told.sort_unstable();
        ensure!(told == granted, "{told:?}");
        Ok(())
    })
    .await
}

/// Pods of the versions with this tag.
pub(crate) async fn pods_of(env: &Env, tag: &str) -> Result<BTreeSet<String>> {
    let prefix = format!("{tag}-");
    let of = |pod: &&Pod| {
        let build_id = pod.labels().get(names::label::BUILD_ID);
        build_id.is_some_and(|it| it.starts_with(&prefix))
    };
    let pods = env.pods("l2o").await?;
    Ok(pods
        .iter()
        .filter(of)
        .filter_map(ResourceExt::uid)
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_refuses_what_is_out_of_place_and_is_left_by_resume_or_promote() -> Result<()> {
    let (scene, process) = Scene::settled("stages").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([
        { "weight": 20, "pause": {} },
        { "weight": 90, "analysis": { "minWorkflows": 2, "intervalSeconds": 1 } },
        { "weight": 95, "gate": open_gate() },
    ]));
    policy["gate"] = open_gate();
    env.patch("l2o", &change("v2", &[], &policy)).await?;

    // A gate that completes while it is paused leads on with `resume`, and not before.
    let stand = ("Gate", 0, 0);
    at(env, "l2o", stand).await?;
    refused(env, &process, &NOT_NOW).await?;
    paused(env, &process, stand).await?;
    complete_gate(env, &last_gate(env, "l2o", 1).await?.0).await?;
    only_paused(env, &process, "", 0.0).await?;
    env.grant(&process, "resume").await?;

    at(env, "l2o", ("Pausing", 1, 20)).await?;
    refused(env, &process, &NOT_NOW).await?;
    env.grant(&process, "promote").await?;

    // And so does evidence.
    let stand = ("Analyzing", 2, 90);
    at(env, "l2o", stand).await?;
    refused(env, &process, &NOT_NOW).await?;
    paused(env, &process, stand).await?;
    let answers = env.temporal.starts(&env.apps, "l2o-tq", 20).await?;
    answers.all_answered()?;
    only_paused(env, &process, "v2", 90.0).await?;
    env.grant(&process, "resume").await?;

    let stand = ("StepGate", 3, 95);
    at(env, "l2o", stand).await?;
    let (gate, _) = last_gate(env, "l2o", 2).await?;
    refused(env, &process, &NOT_NOW).await?;
    paused(env, &process, stand).await?;
    resumed(env, &process, stand).await?;
    reason(env, "Progressing", "GateRunning").await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    // Passed over, it has not been stopped.
    complete_gate(env, &gate).await?;
    let granted = [
        "PauseRequested",
        "PauseRequested",
        "PauseRequested",
        "PromoteRequested",
        "PromoteRequested",
        "ResumeRequested",
        "ResumeRequested",
        "ResumeRequested",
    ];
    asked(env, &process, &granted).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_starts_is_not_promoted_and_what_waits_for_that_outlasts_a_restart() -> Result<()> {
    let (scene, process) = Scene::settled("waits").await?;
    let env = &scene.env;
    let manual = json!({ "strategy": "Manual" });
    let slow = [("START_DELAY_MS", "60000")];
    env.patch("l2o", &change("v2", &slow, &manual)).await?;
    let stand = ("Starting", 0, 0);
    at(env, "l2o", stand).await?;
    refused(env, &process, &NOT_NOW).await?;
    let early = [("promote", "the new version does not serve yet")];
    refused(env, &process, &early).await?;
    paused(env, &process, stand).await?;
    resumed(env, &process, stand).await?;
    refused(env, &process, &early).await?;
    aborted(env, &process).await?;

    env.patch("l2o", &change("v3", &[], &manual)).await?;
    let stand = ("WaitingForPromotion", 0, 0);
    at(env, "l2o", stand).await?;
    // While v2 goes its drain could be ended, which is not what this is about.
    reason(env, "Draining", "NothingDraining").await?;
    refused(env, &process, &NOT_NOW).await?;
    let (old, new) = (pods_of(env, "v1").await?, pods_of(env, "v3").await?);
    ensure!(old.len() == 1 && new.len() == 1, "{old:?} {new:?}");
    env.grant(&process, "restart").await?;
    until("v1 has another pod", SOON, async || {
        let found = pods_of(env, "v1").await?;
        ensure!(found.len() == 1 && found.is_disjoint(&old), "{found:?}");
        Ok(())
    })
    .await?;
    let found = pods_of(env, "v3").await?;
    ensure!(found == new, "v3 was not meant: {found:?}, before {new:?}");
    paused(env, &process, stand).await?;
    resumed(env, &process, stand).await?;
    routed(env, "v1", "", 0.0).await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v3").await?;
    let granted = [
        "AbortRequested",
        "PauseRequested",
        "PauseRequested",
        "PromoteRequested",
        "RestartRequested",
        "ResumeRequested",
        "ResumeRequested",
    ];
    asked(env, &process, &granted).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_in_a_gate_it_is_tried_anew_and_aborted_for_want_of_evidence_it_goes() -> Result<()>
{
    let (scene, process) = Scene::settled("aborts").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([{ "weight": 50, "analysis": { "minWorkflows": 1000 } }]));
    policy["gate"] = open_gate();
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    at(env, "l2o", ("Gate", 0, 0)).await?;
    let (first, _) = last_gate(env, "l2o", 1).await?;
    aborted(env, &process).await?;

    // The gate that was left is not stopped, and does not count for the next attempt.
    env.grant(&process, "retry").await?;
    at(env, "l2o", ("Gate", 0, 0)).await?;
    let (second, _) = last_gate(env, "l2o", 2).await?;
    ensure!(second != first, "a gate of its own");
    complete_gate(env, &second).await?;
    at(env, "l2o", ("Analyzing", 1, 50)).await?;
    refused(env, &process, &NOT_NOW).await?;
    aborted(env, &process).await?;

    ensure!(
        env.deployments("l2o").await?.len() == 2,
        "the gate that runs keeps its pods"
    );
    complete_gate(env, &first).await?;
    until("v2 is gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    let granted = ["AbortRequested", "AbortRequested", "RetryRequested"];
    asked(env, &process, &granted).await?;
    scene.finish().await
}
