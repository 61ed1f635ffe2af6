//! F18: what a person has asked for, and was told that it is done, is refused by the API server for a while.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::ListParams;
use process_operator_faultproxy::{Action, Answer, RequestMatch, Verb};
use process_operator_harness::{manifest, until};

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_is_refused_for_a_while_is_done_once() -> Result<()> {
    let world = World::new("f18restart").await?;
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let writes = RequestMatch::any()
        .verb(Verb::Patch)
        .resource("deployments");
    let refusal = Answer::status(500).reason("InternalError");
    let rule = world.kube.rule(writes, Action::Answer(refusal));
    env.grant(&process, "restart").await?;
    rule.wait_hits(2, SOON).await?;
    rule.remove();
    let generations = async || {
        let mine = ListParams::default().labels(&format!("ameide.io/process={NAME}"));
        let sets = env.api::<ReplicaSet>().list(&mine).await?;
        anyhow::Ok(sets.items.len())
    };
    until("its pods are of another template", SOON, async || {
        let count = generations().await?;
        ensure!(count == 2, "{count} ReplicaSets");
        Ok(())
    })
    .await?;
    at_rest(&world, "v1").await?;
    // What follows in the lifecycle does not do it again.
    env.patch(NAME, &serde_json::json!({ "spec": { "replicas": 2 } }))
        .await?;
    at_rest(&world, "v1").await?;
    let count = generations().await?;
    ensure!(count == 2, "{count} ReplicaSets");
    world.finish().await
}
