//! A rollout that is cut short in each of its stages: the operator is killed there, or a newer spec arrives.

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use process_operator_crds::Process;
use process_operator_crds::status::VersionStatus;
use process_operator_harness::{
    Env, Operator, OperatorOptions, Scene, is_current, manifest, until,
};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;

use crate::stages::{
    NOT_NOW, Stand, at, complete_gate, gate_runs, is_at, last_gate, open_gate, refused,
};
use crate::support::{SOON, canary, change, now, rollout, rollouts, routed};

/// Kills the operator as soon as the rollout stands there, and starts another one: it stands there still, and says
/// in these words what it waits for.
async fn killed(scene: Scene, process: &Process, stand: Stand, words: &str) -> Result<Scene> {
    at(&scene.env, "l2o", stand).await?;
    scene.operator.kill();
    let operator = Operator::start(&scene.env, OperatorOptions::default()).await?;
    let scene = Scene { operator, ..scene };
    let env = &scene.env;
    // Status alone would show it without anybody there: both workflows answer, from their histories.
    refused(env, process, &NOT_NOW).await?;
    let ids = rollouts(env, process, "v2").await?;
    let id = ids.first().context("a rollout")?;
    until("the rollout says where it stands", SOON, async || {
        let details = env.temporal.current_details(&env.control, id).await?;
        ensure!(details.contains(words), "{details}");
        Ok(())
    })
    .await?;
    let found = now(env).await?;
    ensure!(is_at(&found, stand), "{stand:?}: {:?}", rollout(&found));
    Ok(scene)
}

/// It has become Current by one rollout, and by no other runs of gates than these.
async fn done_once(scene: Scene, process: &Process, gates: &[(String, String)]) -> Result<()> {
    let env = &scene.env;
    env.wait_settled("l2o", "v2").await?;
    let ids = rollouts(env, process, "v2").await?;
    ensure!(ids.len() == 1, "one rollout: {ids:?}");
    let found = gate_runs(env, "l2o").await?;
    ensure!(found == gates, "{found:?}, not {gates:?}");
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_its_gate_and_in_the_pause_of_its_second_step_it_goes_on_from_there() -> Result<()>
{
    let (scene, process) = Scene::settled("killgate").await?;
    let mut policy = canary(&json!([{ "weight": 20 }, { "weight": 60, "pause": {} }]));
    policy["gate"] = open_gate();
    let change = change("v2", &[], &policy);
    scene.env.patch("l2o", &change).await?;
    let gate = last_gate(&scene.env, "l2o", 1).await?;
    let words = "Gate: workflow `WaitForSignal` must complete";
    let scene = killed(scene, &process, ("Gate", 0, 0), words).await?;
    routed(&scene.env, "v1", "", 0.0).await?;
    complete_gate(&scene.env, &gate.0).await?;

    let words = "Waiting for `promote`";
    let scene = killed(scene, &process, ("Pausing", 2, 60), words).await?;
    routed(&scene.env, "v1", "v2", 60.0).await?;
    scene.env.grant(&process, "promote").await?;
    done_once(scene, &process, &[gate]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_waits_for_evidence_and_in_the_gate_of_a_step_it_goes_on_from_there()
-> Result<()> {
    let (scene, process) = Scene::settled("killstep").await?;
    let policy = canary(&json!([{
        "weight": 90,
        "analysis": { "minWorkflows": 2, "intervalSeconds": 1 },
        "gate": open_gate(),
    }]));
    let change = change("v2", &[], &policy);
    scene.env.patch("l2o", &change).await?;
    let words = "until 2 executions of it have closed";
    let scene = killed(scene, &process, ("Analyzing", 1, 90), words).await?;
    routed(&scene.env, "v1", "v2", 90.0).await?;
    let started = gate_runs(&scene.env, "l2o").await?;
    ensure!(started.is_empty(), "before its evidence: {started:?}");
    let env = &scene.env;
    let answers = env.temporal.starts(&env.apps, "l2o-tq", 20).await?;
    answers.all_answered()?;

    let gate = last_gate(env, "l2o", 1).await?;
    let words = "Gate: workflow `WaitForSignal` must complete";
    let scene = killed(scene, &process, ("StepGate", 1, 90), words).await?;
    routed(&scene.env, "v1", "v2", 90.0).await?;
    complete_gate(&scene.env, &gate.0).await?;
    done_once(scene, &process, &[gate]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_waits_to_be_promoted_it_goes_on_from_there() -> Result<()> {
    let (scene, process) = Scene::settled("killmanual").await?;
    let change = change("v2", &[], &json!({ "strategy": "Manual" }));
    scene.env.patch("l2o", &change).await?;
    let stand = ("WaitingForPromotion", 0, 0);
    let scene = killed(scene, &process, stand, "Waiting for `promote`").await?;
    routed(&scene.env, "v1", "", 0.0).await?;
    scene.env.grant(&process, "promote").await?;
    done_once(scene, &process, &[]).await
}

/// Nothing is left of a version: neither its Deployment nor what would make that again nor its record.
async fn nothing_of(env: &Env, name: &str, version: &VersionStatus) -> Result<()> {
    let of = format!("{}/{name}", env.namespace);
    let build_id = &version.build_id;
    until(&format!("{build_id} is gone"), SOON, async || {
        let deployments = env.deployments(name).await?;
        let names: Vec<_> = deployments.iter().map(ResourceExt::name_any).collect();
        ensure!(!names.contains(&version.deployment_name), "{names:?}");
        let revisions = env.api::<ControllerRevision>();
        let revision = revisions.get_opt(&version.deployment_name).await?;
        ensure!(revision.is_none(), "its ControllerRevision");
        let info = env.temporal.worker_deployment(&env.apps, &of).await?;
        let known = info.map(|info| info.version_summaries).unwrap_or_default();
        let mut known = known.iter().filter_map(|it| it.deployment_version.as_ref());
        ensure!(known.all(|it| it.build_id != *build_id), "its record");
        Ok(())
    })
    .await
}

/// A Process whose rollout to v2 is superseded by v3 where it stands.
async fn superseded(env: &Env, name: &str, policy: &Value, stand: Stand) -> Result<()> {
    let queue = format!("{name}-tq");
    env.apply(&manifest(env, name, "v1")).await?;
    env.wait_settled(name, "v1").await?;
    env.patch(name, &change("v2", &[], policy)).await?;
    let process = at(env, name, stand).await?;
    let version = process
        .status
        .as_ref()
        .and_then(|it| it.target_version.clone());
    let version = version.context("a target version")?;
    let revisions = env.api::<ControllerRevision>();
    let revision = revisions.get_opt(&version.deployment_name).await?;
    ensure!(revision.is_some(), "{name}: {version:?} has none");
    let gate = if stand.0.ends_with("Gate") {
        Some(last_gate(env, name, 1).await?)
    } else {
        None
    };
    let uid = process.uid().unwrap_or_default();
    let prefix = format!(
        "rollout/{}/{name}/{uid}/{}/",
        env.namespace, version.build_id
    );
    let ids = env.workflows(&prefix).await?;
    let id = ids.first().context("a rollout")?;

    let all_at_once = json!({
        "strategy": "RollingUpdate", "steps": null, "gate": null, "analysis": null,
    });
    env.patch(name, &change("v3", &[], &all_at_once)).await?;
    env.temporal.wait_closed(&env.control, id, SOON).await?;
    let ended = env.temporal.run_status(&env.control, id).await?;
    ensure!(
        ended == WorkflowExecutionStatus::Canceled,
        "{id}: {ended:?}"
    );
    // With that its share is taken back, and the task queue knows it.
    let mut answered = Vec::new();
    until(&format!("{name}: v3 answers"), SOON, async || {
        let start = format!("{name}-{}", answered.len());
        let answer = env.temporal.quick(&env.apps, &queue, &start).await?;
        answered.push(answer.build_id);
        let by_v3 = answered.last().is_some_and(|it| it.starts_with("v3-"));
        ensure!(by_v3, "{answered:?}");
        Ok(())
    })
    .await?;
    ensure!(
        !answered.contains(&version.build_id),
        "{name}: {answered:?}"
    );
    env.wait_process(name, "v3 is current", SOON, |process| {
        is_current(process, "v3")
    })
    .await?;
    if let Some(gate) = gate {
        // It is not stopped, has the pods of its version, and is not started again.
        complete_gate(env, &gate.0).await?;
        let found = gate_runs(env, name).await?;
        ensure!(found == [gate], "{found:?}");
    }
    env.wait_settled(name, "v3").await?;
    let ids = env.workflows(&prefix).await?;
    ensure!(ids.len() == 1, "{name}: one rollout of v2: {ids:?}");
    nothing_of(env, name, &version).await
}

#[tokio::test(flavor = "multi_thread")]
async fn superseded_in_any_stage_a_version_takes_nothing_more_and_leaves_nothing() -> Result<()> {
    let scene = Scene::new("superseded").await?;
    let held = [
        (
            "gate",
            json!({ "strategy": "RollingUpdate", "gate": open_gate() }),
            ("Gate", 0, 0),
        ),
        (
            "stepgate",
            canary(&json!([{ "weight": 90, "gate": open_gate() }])),
            ("StepGate", 1, 90),
        ),
        (
            "evidence",
            canary(&json!([{ "weight": 90, "analysis": { "minWorkflows": 1000 } }])),
            ("Analyzing", 1, 90),
        ),
        (
            "manual",
            json!({ "strategy": "Manual" }),
            ("WaitingForPromotion", 0, 0),
        ),
    ];
    let runs = held
        .iter()
        .map(|(name, policy, stand)| superseded(&scene.env, name, policy, *stand));
    try_join_all(runs).await?;
    scene.finish().await
}
