//! F25: what the operator has in Temporal is lost, while Processes live and a version drains. Everything
//! is begun anew from what there is, and no pod notices. Or what the workers have there is lost.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, lifecycle_id, manifest, until,
};
use process_operator_tests::testbed::{PrivateTemporal, Testbed};
use serde_json::json;

use crate::drains::{QUEUE, draining, held, on_v1, open_more};
use crate::scenario::{at_rest, gone};
use crate::world::{NAME, SOON, World};

/// Restarts of all pods by uid; `None` for one that is told to stop.
async fn pods(env: &Env) -> Result<BTreeMap<String, Option<i32>>> {
    let pods = env.pods(NAME).await?;
    let restarts = pods.iter().map(|pod| {
        let statuses = pod.status.iter();
        let containers = statuses.flat_map(|it| it.container_statuses.iter().flatten());
        let restarts = containers.map(|container| container.restart_count).sum();
        let stays = pod.metadata.deletion_timestamp.is_none();
        (pod.uid().unwrap_or_default(), stays.then_some(restarts))
    });
    Ok(restarts.collect())
}

/// v2 has the pod and the Deployment that it had, and nothing else is left. The pod of v1 may take its time to stop.
async fn as_it_was(
    env: &Env,
    served: &BTreeMap<String, Option<i32>>,
    made: &[String],
) -> Result<()> {
    let (mut now, uids) = (pods(env).await?, uids(env).await?);
    now.retain(|_, restarts| restarts.is_some());
    ensure!(
        now.len() == 1
            && now
                .iter()
                .all(|(uid, restarts)| served.get(uid) == Some(restarts)),
        "v2 has the pod that it had: {served:?} {now:?}"
    );
    ensure!(
        uids.iter().all(|uid| made.contains(uid)) && uids.len() == 1,
        "and its Deployment: {made:?} {uids:?}"
    );
    Ok(())
}

/// v2 is current and v1 drains until a day from then; then all is lost.
async fn lost(name: &str, lose: impl AsyncFn(&Env) -> Result<()>) -> Result<()> {
    let world = World::new(name).await?;
    let env = &world.env;
    let policy = json!({ "timeoutSeconds": 86_400, "onTimeout": "Cancel" });
    let process = on_v1(&world, &policy, 2).await?;
    env.set_tag(NAME, "v2").await?;
    let before = held(env, 2).await?;
    open_more(env, "new", 1).await?;
    let (served, made) = (pods(env).await?, uids(env).await?);

    lose(env).await?;
    let id = lifecycle_id(&process);
    let about = id.trim_start_matches("process/").to_owned();
    until("lifecycle and drain are begun anew", SOON, async || {
        for query in [
            format!("WorkflowId = '{id}' AND ExecutionStatus = 'Running'"),
            format!("WorkflowId STARTS_WITH 'drain/{about}' AND ExecutionStatus = 'Running'"),
        ] {
            let open = env.temporal.list(&env.control, &query).await?;
            ensure!(open.len() == 1, "{query}: {}", open.len());
        }
        Ok(())
    })
    .await?;
    // It counts by itself: what status shows now may be from before.
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    let after = held(env, 1).await?;
    ensure!(
        after.build_id == before.build_id
            && after.since == before.since
            && after.deadline == before.deadline,
        "the drain goes on where it was: {before:?} {after:?}"
    );
    let output = env.temporal.finish_waiting(&env.apps, "old-1").await?;
    ensure!(
        output.completed_on == before.build_id,
        "by its own pods: {output:?}"
    );
    let now = pods(env).await?;
    let kept = |(uid, restarts): (&String, &Option<i32>)| {
        now.get(uid).is_none_or(|it| it == restarts || it.is_none())
    };
    ensure!(served.iter().all(kept), "{served:?} {now:?}");
    at_rest(&world, "v2").await?;
    as_it_was(env, &served, &made).await?;
    let live = env.api::<Process>().get(NAME).await?;
    ensure!(draining(&live).is_none(), "{:?}", live.status);
    world.hold().await?;
    env.temporal.finish_waiting(&env.apps, "new-0").await?;
    env.api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    gone(&world, &process).await?;
    world.finish().await
}

async fn uids(env: &Env) -> Result<Vec<String>> {
    let deployments = env.deployments(NAME).await?;
    Ok(deployments
        .iter()
        .filter_map(kube::ResourceExt::uid)
        .collect())
}

/// By somebody who cleans up in the Temporal UI.
#[tokio::test(flavor = "multi_thread")]
async fn all_workflows_of_the_operator_are_terminated() -> Result<()> {
    lost("f25term", async |env| {
        let open = env
            .temporal
            .list(&env.control, "ExecutionStatus = 'Running'")
            .await?;
        for info in open {
            let execution = info.execution.context("an id")?;
            env.temporal
                .terminate(&env.control, &execution.workflow_id)
                .await?;
        }
        Ok(())
    })
    .await
}

/// Histories, search attributes and all.
#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_of_the_operator_is_made_again_and_empty() -> Result<()> {
    lost("f25empty", async |env| {
        env.temporal.delete_namespace(&env.control).await?;
        env.temporal.create_namespace(&env.control).await
    })
    .await
}

/// Waits until Temporal routes to this version.
async fn routed(env: &Env, version: &str) -> Result<()> {
    let name = format!("{}/{NAME}", env.namespace);
    until(&format!("{version} is current"), SOON, async || {
        let info = env.temporal.worker_deployment(&env.apps, &name).await?;
        let routing = info
            .and_then(|info| info.routing_config)
            .context("no record")?;
        let current = routing.current_deployment_version.context("none")?;
        ensure!(current.build_id.starts_with(version), "{current:?}");
        Ok(())
    })
    .await
}

/// What ran is lost, and with it what held v1. The version that the spec wants is current again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_of_the_workers_is_made_again_and_empty() -> Result<()> {
    let world = World::new("f25apps").await?;
    let env = &world.env;
    let policy = json!({ "timeoutSeconds": 86_400, "onTimeout": "Cancel" });
    on_v1(&world, &policy, 2).await?;
    env.set_tag(NAME, "v2").await?;
    held(env, 2).await?;
    open_more(env, "new", 1).await?;
    let (served, made) = (pods(env).await?, uids(env).await?);

    env.temporal.delete_namespace(&env.apps).await?;
    env.temporal.create_namespace(&env.apps).await?;
    routed(env, "v2-").await?;
    at_rest(&world, "v2").await?;
    let answer = env.temporal.quick(&env.apps, QUEUE, "after").await?;
    ensure!(answer.build_id.starts_with("v2-"), "{answer:?}");
    as_it_was(env, &served, &made).await?;
    world.leave().await
}

/// Temporal is restored to what it was before the roll: it routes to v1, and no drain has begun. The operator is
/// started anew, since what it remembers of its workflows is newer than the backup. The roll is made again with the
/// pods that there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporal_that_is_restored_from_before_a_roll_follows_the_spec_again() -> Result<()> {
    let mut temporal =
        tokio::task::spawn_blocking(|| PrivateTemporal::start_new("f25restore")).await??;
    let (address, pods_address) = (temporal.address(), temporal.pod_address());
    let env = Env::on("f25restore", Testbed::current()?, address, pods_address).await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    let process = env.apply(&manifest(&env, NAME, "v1")).await?;
    env.wait_settled(NAME, "v1").await?;
    env.guard_versions(NAME);
    open_more(&env, "old", 2).await?;
    temporal.stop()?;
    temporal.back_up()?;
    temporal.start()?;
    operator.ready().await?;
    env.set_tag(NAME, "v2").await?;
    held(&env, 2).await?;
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    let (served, made) = (pods(&env).await?, uids(&env).await?);

    temporal.stop()?;
    operator.kill();
    temporal.restore()?;
    temporal.start()?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    operator.ready().await?;
    routed(&env, "v2-").await?;
    // Both are open again, since it knows nothing of the end of one.
    held(&env, 2).await?;
    let now = pods(&env).await?;
    ensure!(now == served, "no pod notices: {served:?} {now:?}");
    ensure!(uids(&env).await? == made, "no Deployment is made anew");
    for id in ["old-0", "old-1"] {
        let output = env.temporal.finish_waiting(&env.apps, id).await?;
        ensure!(output.completed_on.starts_with("v1-"), "{output:?}");
    }
    env.wait_settled(NAME, "v2").await?;
    let lifecycles = env.workflows(&lifecycle_id(&process)).await?;
    ensure!(lifecycles.len() == 1, "{lifecycles:?}");
    invariants.leave(&env, &[&operator], NAME).await?;
    env.remove().await
}
