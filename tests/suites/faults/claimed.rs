//! F42: two that want the same thing: a task queue, from two namespaces, and the name of a Deployment. The first
//! one keeps it and is not disturbed; the other one says so and goes on when it can.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use process_operator_crds::Process;
use process_operator_harness::{Env, condition, is_settled, manifest, until};
use serde_json::json;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_served_from_another_namespace_is_left_to_it() -> Result<()> {
    let world = World::empty("f42queue").await?;
    let env = &world.env;
    let other = Env::new("f42other").await?;
    let both = format!("{},{}", env.namespace, other.namespace);
    world
        .start_with(true, &["--watch-namespace", &both])
        .await?;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let before = env.api::<Process>().get(NAME).await?;

    // Of the same name, and in the same Temporal namespace.
    let mut second = manifest(&other, NAME, "v2");
    second["spec"]["temporal"]["namespace"] = json!(env.apps);
    other.apply(&second).await?;
    let told = other
        .wait_process(NAME, "the conflict is said", SOON, |process| {
            condition(process, "Stalled").1 == "TaskQueueConflict"
        })
        .await?;
    let message = condition(&told, "Ready").2;
    ensure!(
        message.contains(&format!("{}/{NAME}", env.namespace)),
        "{message}"
    );
    ensure!(
        other.deployments(NAME).await?.is_empty(),
        "it deploys nothing"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "first").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    let after = env.api::<Process>().get(NAME).await?;
    ensure!(
        before.metadata.resource_version == after.metadata.resource_version,
        "the first one is not touched"
    );

    other
        .patch(
            NAME,
            &json!({ "spec": { "temporal": { "taskQueue": "own-tq" } } }),
        )
        .await?;
    other
        .wait_process(NAME, "it has a queue of its own", SOON, |process| {
            is_settled(process, "v2")
        })
        .await?;
    let answer = env.temporal.quick(&env.apps, "own-tq", "second").await?;
    ensure!(answer.build_id.starts_with("v2-"), "{answer:?}");
    other
        .api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    other.wait_gone(NAME).await?;
    other.remove().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_of_somebody_else_is_left_alone_and_its_name_is_told() -> Result<()> {
    let world = World::new("f42name").await?;
    let env = &world.env;
    let api = env.api::<Deployment>();
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let mut all = env.deployments(NAME).await?;
    let name = all.pop().context("one")?.name_any();
    env.api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    env.wait_gone(NAME).await?;
    until("its Deployment is gone", SOON, async || {
        ensure!(api.get_opt(&name).await?.is_none(), "still there");
        anyhow::Ok(())
    })
    .await?;

    let labels = json!({ "app": "other" });
    let theirs: Deployment = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 0, "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "other", "image": "localhost/none:v1" }] },
            },
        },
    }))?;
    let theirs = api.create(&PostParams::default(), &theirs).await?;
    env.apply(&manifest(env, NAME, "v1")).await?;
    env.wait_process(NAME, "the name is told", SOON, |process| {
        let message = condition(process, "Degraded").2;
        message.contains(&name) && message.contains("belongs to something else")
    })
    .await?;
    let still = api.get(&name).await?;
    ensure!(
        still.uid() == theirs.uid()
            && still.metadata.generation == theirs.metadata.generation
            && still.owner_references().is_empty(),
        "it is not touched: {:?}",
        still.metadata
    );
    api.delete(&name, &DeleteParams::background()).await?;
    at_rest(&world, "v1").await?;
    world.finish().await
}
