//! What happens to a new Process between the moment in which the watch shows it and its finalizer.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{DeleteParams, ListParams};
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, RequestMatch, RuleHandle};
use process_operator_harness::{manifest, until};

use crate::scenario::{at_rest, gone};
use crate::world::{NAME, SOON, World};

/// Creates it, and holds the finalizer back.
async fn without_finalizer(world: &World) -> Result<RuleHandle> {
    let finalizer = RequestMatch::writes()
        .resource("processes")
        .name(NAME)
        .first(1);
    let finalizer = world.kube.rule(finalizer, Action::Delay(SOON));
    world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    finalizer.wait_hits(1, SOON).await?;
    Ok(finalizer)
}

/// F09: what the operator goes by is old when it writes.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_before_its_finalizer_is_written_is_what_is_deployed() -> Result<()> {
    let world = World::new("f09first").await?;
    let env = &world.env;
    let finalizer = without_finalizer(&world).await?;
    env.set_tag(NAME, "v2").await?;
    finalizer.remove();
    at_rest(&world, "v2").await?;
    let made: Vec<String> = env
        .deployments(NAME)
        .await?
        .iter()
        .map(kube::ResourceExt::name_any)
        .collect();
    let report = world.kube.writes(..);
    let others: Vec<_> = report
        .writes
        .iter()
        .filter(|write| write.kind.resource.starts_with("deployments"))
        .filter(|write| write.namespace == env.namespace && !made.contains(&write.name))
        .collect();
    ensure!(others.is_empty(), "v1 was deployed: {others:?}");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_before_its_finalizer_is_written_leaves_nothing() -> Result<()> {
    let world = World::new("f09gone").await?;
    let env = &world.env;
    let finalizer = without_finalizer(&world).await?;
    let process = env.api::<Process>().get(NAME).await?;
    env.remember(&process);
    env.api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    finalizer.remove();
    gone(&world, &process).await?;
    until("no ControllerRevision is left", SOON, async || {
        let left = env.api::<ControllerRevision>();
        let left = left.list_metadata(&ListParams::default()).await?;
        let names: Vec<_> = left.iter().map(kube::ResourceExt::name_any).collect();
        ensure!(names.is_empty(), "{names:?}");
        Ok(())
    })
    .await?;
    world.finish().await
}
