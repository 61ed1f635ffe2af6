//! The end of a Process whose old version drains: it is made again under the same name, its namespace
//! goes, nobody is left who could end it in order.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use process_operator_crds::Process;
use process_operator_harness::{Env, condition, until};
use serde_json::{Value, json};

use crate::drains::{held, on_v1, open_more};
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// v2 is current, and workflows that never end by themselves hold v1.
async fn in_a_drain(name: &str, deletion: &Value) -> Result<(World, Process)> {
    let world = World::new(name).await?;
    let process = on_v1(&world, &json!({ "onTimeout": "Wait" }), 2).await?;
    let env = &world.env;
    env.patch(NAME, &json!({ "spec": { "deletion": deletion } }))
        .await?;
    env.set_tag(NAME, "v2").await?;
    held(env, 2).await?;
    // What is open is abandoned by policy, or by the one who takes the finalizer or the namespace away.
    env.unguard_versions();
    Ok((world, process))
}

async fn delete(env: &Env) -> Result<()> {
    let api = env.api::<Process>();
    api.delete(NAME, &DeleteParams::default()).await?;
    Ok(())
}

async fn gone(env: &Env) -> Result<()> {
    until("the Process is gone", SOON, async || {
        let found = env.api::<Process>().get_opt(NAME).await?;
        let said = found.as_ref().map(|it| condition(it, "Ready").2);
        ensure!(found.is_none(), "still there: {said:?}");
        Ok(())
    })
    .await
}

/// The second Process of the name comes to rest on v2, whatever the first has left behind; the first
/// does nothing any more, and what is there is the second's.
async fn second_settles(world: &World, first: &Process) -> Result<()> {
    let env = &world.env;
    env.no_workflow_about(first).await?;
    // What still runs on v1 has lost its workers with the first; the second drains it.
    for n in 0..2 {
        let id = format!("old-{n}");
        if env
            .temporal
            .open_on(&env.apps, crate::drains::QUEUE)
            .await?
            > 0
        {
            // It may have ended with the first.
            let _ = env.temporal.terminate(&env.apps, &id).await;
        }
    }
    at_rest(world, "v2").await?;
    let second = env.api::<Process>().get(NAME).await?;
    ensure!(second.uid() != first.uid(), "it is another one");
    let deployments = env.deployments(NAME).await?;
    let owners: Vec<String> = deployments
        .iter()
        .flat_map(kube::ResourceExt::owner_references)
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
        .collect();
    ensure!(
        deployments.len() == 1 && owners == [second.uid().unwrap_or_default()],
        "{} Deployments of {owners:?}",
        deployments.len()
    );
    let answer = env
        .temporal
        .quick(&env.apps, crate::drains::QUEUE, "second")
        .await?;
    ensure!(answer.build_id.starts_with("v2-"), "{answer:?}");
    let lifecycles = env
        .workflows(&format!("process/{}/{NAME}/", env.namespace))
        .await?;
    ensure!(lifecycles.len() == 2, "one for each uid: {lifecycles:?}");
    Ok(())
}

/// The same spec again, as a tool does that keeps it in a repository.
async fn again(env: &Env) -> Result<()> {
    let mut wanted = process_operator_harness::manifest(env, NAME, "v2");
    wanted["spec"]["drain"] = json!({ "onTimeout": "Wait" });
    env.apply(&wanted).await?;
    Ok(())
}

/// F11.
#[tokio::test(flavor = "multi_thread")]
async fn made_again_under_the_same_name_in_the_middle_of_a_drain() -> Result<()> {
    let (world, first) = in_a_drain("f11", &json!({ "timeoutSeconds": 0 })).await?;
    delete(&world.env).await?;
    gone(&world.env).await?;
    again(&world.env).await?;
    second_settles(&world, &first).await?;
    world.leave().await
}

/// F11: the first lifecycle learns that its Process is gone when there is another one already.
#[tokio::test(flavor = "multi_thread")]
async fn made_again_in_the_middle_of_a_drain_when_the_finalizer_was_removed_by_hand() -> Result<()>
{
    let (world, first) = in_a_drain("f11hand", &json!({ "timeoutSeconds": 3600 })).await?;
    let env = &world.env;
    delete(env).await?;
    env.patch(NAME, &json!({ "metadata": { "finalizers": null } }))
        .await?;
    gone(env).await?;
    again(env).await?;
    second_settles(&world, &first).await?;
    world.leave().await
}

/// F36: nothing can be made any more, and nothing is tried to.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_ends_its_drains_and_nothing_is_made_in_it() -> Result<()> {
    let (world, process) = in_a_drain("f36", &json!({ "timeoutSeconds": 3600 })).await?;
    let env = &world.env;
    open_more(env, "new", 1).await?;
    let (mark, writes) = (world.kube.mark(), env.audit.mark()?);
    let api: Api<Namespace> = Api::all(env.kube.clone());
    api.delete(&env.namespace, &DeleteParams::default()).await?;
    until("the namespace is gone", SOON, async || {
        let left = api.get_opt(&env.namespace).await?;
        ensure!(left.is_none(), "{:?}", left.and_then(|it| it.status));
        Ok(())
    })
    .await?;
    // Kept by their policy, without workers; their records go when they do.
    ensure!(crate::drains::count(env, "old", "Running").await? == 2);
    for id in ["old-0", "old-1", "new-0"] {
        env.temporal.terminate(&env.apps, id).await?;
    }
    env.nothing_is_left(&process).await?;
    let tried: Vec<String> = world
        .kube
        .records(mark..)
        .iter()
        .map(|record| record.request.clone())
        .filter(|request| request.is_write() && request.namespace == env.namespace)
        .filter(|request| request.resource != "events" && request.verb.as_str() != "delete")
        .filter(|request| request.resource != "processes")
        // It may be taken away before the Process is, which nobody has deleted until then.
        .filter(|request| !request.name.ends_with("-sentinel"))
        .map(|request| format!("{} {}/{}", request.verb, request.resource, request.name))
        .collect();
    ensure!(tried.is_empty(), "{tried:?}");
    let made = process_operator_faultproxy::audit::AuditFilter::mutating()
        .service_account("process-operator", "process-operator")
        .namespace(&env.namespace)
        .code(201);
    let made = env.audit.select(writes, &made)?;
    ensure!(
        made.iter().all(|entry| entry
            .object_ref
            .as_ref()
            .is_some_and(|object| object.resource == "events")),
        "{made:?}"
    );
    world.hold().await
}

/// F37: a drain that never ends, a deletion that waits for it, Temporal gone for good, and in the end no
/// operator either. What there is to do is said, and done by the first operator that comes back.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_keeps_a_process_that_is_to_go_without_temporal() -> Result<()> {
    let (world, first) = in_a_drain("f37", &json!({ "timeoutSeconds": 3_000_000 })).await?;
    let env = &world.env;
    delete(env).await?;
    env.wait_process(NAME, "it waits", SOON, |process| {
        condition(process, "Ready")
            .2
            .contains("waiting for 2 running workflows")
    })
    .await?;
    world.temporal.down().await;
    env.wait_process(NAME, "the way out is named", SOON, |process| {
        let (status, _, message) = condition(process, "TemporalReachable");
        status == "False" && message.contains("ameide.io/force-finalize")
    })
    .await?;
    world.crew.kill();
    env.kubectl(
        &["annotate", "process", NAME, "ameide.io/force-finalize=true"],
        "",
    )?;
    let held = env.api::<Process>().get(NAME).await?;
    ensure!(!held.finalizers().is_empty(), "nobody is there to do it");
    ensure!(env.pods(NAME).await?.len() == 2, "its workers run on");

    // It has never seen Temporal, and never will.
    world.start(false).await?;
    gone(env).await?;
    until("its workers are collected", SOON, async || {
        let (deployments, pods) = (
            env.deployments(NAME).await?.len(),
            env.pods(NAME).await?.len(),
        );
        ensure!((deployments, pods) == (0, 0), "{deployments} {pods}");
        Ok(())
    })
    .await?;
    // Were it to come back after all, the workflows would be as they were, and nothing else.
    world.temporal.up().await?;
    for n in 0..2 {
        let id = format!("old-{n}");
        env.temporal
            .terminate(&env.apps, &id)
            .await
            .with_context(|| format!("{id} was left as it is"))?;
    }
    env.no_workflow_about(&first).await?;
    world.finish().await
}
