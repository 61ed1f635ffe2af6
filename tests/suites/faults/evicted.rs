//! F40: pods are taken away as by the drain of a node, by the Eviction API and by deletion, during a canary and
//! while an old version drains, with and without a `PodDisruptionBudget`. The version under test is not blamed
//! for it, and an old version keeps its pods as long as something runs on it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, EvictParams};
use process_operator_harness::{Env, Traffic, condition, is_current, manifest, until, version};
use serde_json::json;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// Pods of the version with this tag that are not on their way out.
async fn pods(env: &Env, tag: &str) -> Result<Vec<Pod>> {
    let mut pods = env.pods(NAME).await?;
    let build = format!("{tag}-");
    pods.retain(|pod| {
        let of = pod.labels().get("ameide.io/build-id");
        pod.metadata.deletion_timestamp.is_none() && of.is_some_and(|of| of.starts_with(&build))
    });
    Ok(pods)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    let mut conditions = conditions.flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// So many pods of a version are ready.
async fn ready(env: &Env, tag: &str, count: usize) -> Result<Vec<Pod>> {
    until(
        &format!("{count} pods of {tag} are ready"),
        SOON,
        async || {
            let pods = pods(env, tag).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            ensure!(
                ready == count && pods.len() == count,
                "{ready} of {}",
                pods.len()
            );
            Ok(pods)
        },
    )
    .await
}

/// Evicts all pods that a version has now, as the drain of their node does: what a budget holds back is
/// asked for again.
async fn evict(env: &Env, tag: &str) -> Result<()> {
    let api = env.asked_once::<Pod>().await?;
    for pod in pods(env, tag).await? {
        until("the pod may go", SOON, async || {
            match api.evict(&pod.name_any(), &EvictParams::default()).await {
                Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
                answer => answer.map(|_| ()),
            }
        })
        .await?;
    }
    Ok(())
}

/// A budget that lets so many pods of the Process go at once.
fn let_go(env: &Env, at_once: usize) -> Result<()> {
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": NAME },
        "spec": {
            "maxUnavailable": at_once, "selector": { "matchLabels": { "ameide.io/process": NAME } },
        },
    });
    env.kubectl(&["apply", "-f", "-"], &budget.to_string())?;
    Ok(())
}

/// Waits until no pod of a version may be evicted.
async fn held_back(env: &Env, tag: &str) -> Result<()> {
    let pods = pods(env, tag).await?;
    let name = pods.first().context("no pod")?.name_any();
    let params = EvictParams {
        delete_options: Some(DeleteParams::default().dry_run()),
        ..EvictParams::default()
    };
    let api = env.asked_once::<Pod>().await?;
    until("the budget holds pods back", SOON, async || {
        match api.evict(&name, &params).await {
            Err(kube::Error::Api(answer)) if answer.message.contains("disruption budget") => Ok(()),
            other => anyhow::bail!("{other:?}"),
        }
    })
    .await
}

/// Deletes all pods of a version without waiting for anything.
async fn delete(env: &Env, tag: &str) -> Result<()> {
    for pod in pods(env, tag).await? {
        let now = DeleteParams::default().grace_period(0);
        env.api::<Pod>().delete(&pod.name_any(), &now).await?;
    }
    Ok(())
}

async fn at_step(env: &Env, step: i32) -> Result<()> {
    env.wait_process(NAME, &format!("step {step}"), SOON, |process| {
        let rollout = process.status.as_ref().and_then(|it| it.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.step == step && rollout.weight > 0)
    })
    .await?;
    Ok(())
}

async fn drained_node(name: &str, budget: bool) -> Result<()> {
    const REPLICAS: usize = 2;
    let world = World::new(name).await?;
    let env = &world.env;
    let mut wanted = manifest(env, NAME, "v1");
    wanted["spec"]["replicas"] = json!(REPLICAS);
    let process = env.apply(&wanted).await?;
    at_rest(&world, "v1").await?;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(250));

    let mut change = version("v2", &[]);
    change["spec"]["rollout"] = json!({
        "strategy": "Canary",
        "analysis": { "intervalSeconds": 1, "maxFailurePercent": 0, "minWorkflows": 1 },
        "steps": [{ "weight": 30, "pause": {} }, { "weight": 60, "pause": {} }],
    });
    env.patch(NAME, &change).await?;
    at_step(env, 1).await?;
    ready(env, "v2", REPLICAS).await?;
    if budget {
        let_go(env, 0)?;
        held_back(env, "v2").await?;
        let_go(env, 1)?;
    }
    evict(env, "v2").await?;
    evict(env, "v1").await?;
    ready(env, "v2", REPLICAS).await?;
    ready(env, "v1", REPLICAS).await?;
    env.grant(&process, "promote").await?;
    at_step(env, 2).await?;
    delete(env, "v2").await?;
    ready(env, "v2", REPLICAS).await?;
    let now = env
        .api::<process_operator_crds::Process>()
        .get(NAME)
        .await?;
    ensure!(
        condition(&now, "Progressing").0 == "True",
        "{:?}",
        now.status
    );
    env.grant(&process, "promote").await?;

    // v1 drains while its pods go one after the other.
    env.wait_process(NAME, "v2 is current while v1 drains", SOON, |process| {
        is_current(process, "v2") && condition(process, "Draining").0 == "True"
    })
    .await?;
    evict(env, "v1").await?;
    ready(env, "v1", REPLICAS).await?;
    delete(env, "v1").await?;
    ready(env, "v1", REPLICAS).await?;
    let answers = traffic.stop().await?;
    answers.all_answered()?;
    ensure!(answers.of("v1") > 0 && answers.of("v2") > 0, "{answers:?}");
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "I3: {finished:?}");
    at_rest(&world, "v2").await?;
    let events = env.events(&process).await?;
    let blamed: Vec<_> = events
        .iter()
        .filter(|(reason, _)| reason == "RolloutFailed" || reason == "RolloutAborted")
        .collect();
    ensure!(blamed.is_empty(), "{blamed:?}");
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_fails_no_canary_and_ends_no_drain() -> Result<()> {
    drained_node("f40", false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds_a_drained_node_back_and_nothing_else() -> Result<()> {
    drained_node("f40pdb", true).await
}
