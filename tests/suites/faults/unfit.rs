//! F20: what the API server refuses although the schema let it through, and what cannot be changed any more.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use process_operator_faultproxy::Action;
use process_operator_harness::{Env, condition, manifest, until};
use serde_json::json;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

async fn only(env: &Env) -> Result<Deployment> {
    let mut all = env.deployments(NAME).await?;
    ensure!(all.len() == 1, "{} Deployments", all.len());
    all.pop().context("one")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_api_server_refuses_harms_no_running_version_and_is_corrected() -> Result<()>
{
    let world = World::new("f20").await?;
    let env = &world.env;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let before = only(env).await?;

    let applies = world.writes().resource("deployments");
    let tries = world.kube.rule(applies, Action::Pass);
    let probe = json!({ "tcpSocket": { "port": 8080 }, "successThreshold": 2 });
    let wrong = json!({ "spec": {
        "image": "localhost/process-example-worker:v2", "worker": { "livenessProbe": probe },
    } });
    env.patch(NAME, &wrong).await?;
    let told = env
        .wait_process(NAME, "the refusal is told", SOON, |process| {
            condition(process, "Stalled").1 == "InvalidSpec"
        })
        .await?;
    for (kind, status) in [
        ("Ready", "True"),
        ("Degraded", "True"),
        ("Stalled", "True"),
        ("Progressing", "False"),
        ("Reconciling", "False"),
    ] {
        let (found, why, message) = condition(&told, kind);
        ensure!(found == status, "{kind} is {found}, {why} {message}");
    }
    let message = condition(&told, "Degraded").2;
    ensure!(
        message.contains("livenessProbe.successThreshold") && message.contains("must be 1"),
        "{message}"
    );
    // Time has to pass for what must not happen in it.
    tokio::time::sleep(Duration::from_secs(12)).await;
    ensure!(tries.hits() <= 6, "{} tries in a while", tries.hits());
    let still = only(env).await?;
    ensure!(
        still.uid() == before.uid() && still.metadata.generation == before.metadata.generation,
        "v1 is untouched"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    tries.remove();

    env.patch(
        NAME,
        &json!({ "spec": { "worker": { "livenessProbe": null } } }),
    )
    .await?;
    at_rest(&world, "v2").await?;
    world.finish().await
}

/// Somebody has re-made a Deployment with a selector of his own while no operator was there.
#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_cannot_be_put_right_is_told_and_its_deployment_re_made_once_it_is_gone()
-> Result<()> {
    let world = World::new("f20s").await?;
    let env = &world.env;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let mut other = only(env).await?;
    let name = other.name_any();
    world.operator()?.kill();
    let api = env.api::<Deployment>();
    api.delete(&name, &DeleteParams::background()).await?;
    until("it is gone", SOON, async || {
        ensure!(api.get_opt(&name).await?.is_none(), "still there");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    other.metadata.resource_version = None;
    other.metadata.uid = None;
    other.metadata.managed_fields = None;
    other.status = None;
    let spec = other.spec.as_mut().context("a spec")?;
    let team = || ("team".to_owned(), "other".to_owned());
    spec.selector
        .match_labels
        .get_or_insert_default()
        .extend([team()]);
    let template = spec.template.metadata.get_or_insert_default();
    template.labels.get_or_insert_default().extend([team()]);
    api.create(&PostParams::default(), &other).await?;

    world.start(true).await?;
    env.wait_process(NAME, "the selector is told", SOON, |process| {
        let (status, _, message) = condition(process, "Degraded");
        status == "True" && message.contains("spec.selector") && message.contains("immutable")
    })
    .await?;
    api.delete(&name, &DeleteParams::background()).await?;
    at_rest(&world, "v1").await?;
    let again = only(env).await?;
    let selector = again.spec.context("a spec")?.selector.match_labels;
    ensure!(!selector.unwrap_or_default().contains_key("team"), "ours");
    world.finish().await
}
