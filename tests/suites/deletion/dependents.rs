//! What the garbage collector does to the objects of a Process, with and without the operator.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_harness::{
    Env, Operator, OperatorOptions, PodGuard, QUIET, Scene, condition, is_current, lifecycle_id,
    manifest, until,
};
use serde_json::{Value, json};

use crate::support::{QUEUE, SOON, is_open, says, settled};

const FINALIZER: &str = "ameide.io/process-operator";

fn delete(env: &Env, cascade: &str) -> Result<()> {
    let cascade = format!("--cascade={cascade}");
    env.kubectl(&["delete", "process", "l2o", &cascade, "--wait=false"], "")?;
    Ok(())
}

/// uids of the pods.
async fn pods(env: &Env) -> Result<Vec<String>> {
    let mut pods: Vec<String> = env
        .pods("l2o")
        .await?
        .iter()
        .filter_map(kube::ResourceExt::uid)
        .collect();
    pods.sort();
    Ok(pods)
}

fn owners(object: &impl kube::ResourceExt) -> Vec<String> {
    let owners = object.owner_references().iter();
    owners.map(|owner| owner.kind.clone()).collect()
}

/// The garbage collector has done with the Process: of all finalizers ours is left. Of a foreground
/// deletion it may be done before it has looked at every object, of an orphaning it never is.
async fn collected(env: &Env) -> Result<()> {
    until(
        "the garbage collector has done its part",
        SOON,
        async || {
            let process = env.api::<Process>().get("l2o").await?;
            ensure!(
                process.finalizers() == [FINALIZER],
                "{:?}",
                process.finalizers()
            );
            Ok(())
        },
    )
    .await?;
    let all: Vec<_> = env.deployments("l2o").await?.iter().map(owners).collect();
    let kept = |owners: &Vec<String>| owners.contains(&"Namespace".to_owned());
    ensure!(!all.is_empty() && all.iter().all(kept), "{all:?}");
    Ok(())
}

async fn start(env: &Env) -> Result<Operator> {
    Operator::start(env, OperatorOptions::default()).await
}

/// The world of a test that starts and ends operators itself.
async fn alone(name: &str) -> Result<(Env, Operator, Process)> {
    let env = Env::new(name).await?;
    let operator = start(&env).await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    Ok((env, operator, process))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_leaves_both_versions_serving_and_makes_lost_workers_again()
-> Result<()> {
    let (scene, process) = settled("fgtwo", &json!({})).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "old").await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v2 current, v1 draining", SOON, |process| {
        is_current(process, "v2") && condition(process, "Draining").0 == "True"
    })
    .await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "new").await?;
    let guard = PodGuard::start(env, "l2o", QUEUE);
    delete(env, "foreground")?;
    says(env, "waiting for 2 running workflows").await?;
    collected(env).await?;
    let on_old = env.temporal.finish_waiting(&env.apps, "old").await?;
    ensure!(on_old.completed_on.starts_with("v1-"), "{on_old:?}");
    says(env, "waiting for 1 running workflow").await?;
    guard.hold()?;

    // By hand, which no owner keeps anybody from.
    env.unguard_versions();
    let left = env.deployments("l2o").await?;
    for deployment in &left {
        env.api::<Deployment>()
            .delete(&deployment.name_any(), &DeleteParams::background())
            .await?;
    }
    let on_new = env.temporal.finish_waiting(&env.apps, "new").await?;
    ensure!(on_new.completed_on.starts_with("v2-"), "{on_new:?}");
    env.gone_within("l2o", SOON).await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_that_nobody_watched_is_waited_for() -> Result<()> {
    let (env, operator, process) = alone("fgaway").await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    let guard = PodGuard::start(&env, "l2o", QUEUE);
    operator.kill();
    delete(&env, "foreground")?;
    collected(&env).await?;
    let again = start(&env).await?;
    says(&env, "waiting for 1 running workflow").await?;
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    env.nothing_is_left(&process).await?;
    drop(again);
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routing_of_queues_survives_a_foreground_deletion_and_goes_with_the_process()
-> Result<()> {
    let scene = Scene::new("fgqueues").await?;
    let env = &scene.env;
    let mut wanted = manifest(env, "l2o", "v1");
    wanted["spec"]["rollout"] = json!({ "versioning": "TaskQueuePerVersion" });
    env.apply(&wanted).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let maps = env.api::<ConfigMap>();
    let map = maps.get("l2o-routing").await?;
    let data = map.data.clone().context("data")?;
    let queue = data["currentTaskQueue"].clone();
    env.temporal
        .start_waiting(&env.apps, &queue, "long")
        .await?;
    let guard = PodGuard::start(env, "l2o", &queue);
    delete(env, "foreground")?;
    says(env, "waiting for 1 running workflow").await?;
    collected(env).await?;
    let now = maps.get("l2o-routing").await?;
    ensure!(now.data.as_ref() == Some(&data), "{now:?}");
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaning_that_nobody_watched_leaves_workers_for_the_next_process() -> Result<()> {
    let (env, operator, process) = alone("orphaway").await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    let before = pods(&env).await?;
    operator.kill();
    delete(&env, "orphan")?;
    collected(&env).await?;
    let again = start(&env).await?;
    env.wait_gone("l2o").await?;
    env.temporal
        .wait_closed(&env.control, &lifecycle_id(&process), SOON)
        .await?;
    let deployments = env.deployments("l2o").await?;
    ensure!(
        deployments.len() == 1 && owners(&deployments[0]).is_empty(),
        "{deployments:?}"
    );
    let revisions = env.api::<ControllerRevision>();
    let revisions = revisions.list(&kube::api::ListParams::default()).await?;
    let left: Vec<_> = revisions
        .iter()
        .map(|it| (it.name_any(), owners(it)))
        .collect();
    ensure!(
        left.len() == 1 && left[0].0 == deployments[0].name_any() && left[0].1.is_empty(),
        "the version's and no other, without an owner: {left:?}"
    );
    is_open(&env, "long").await?;

    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let next = env.wait_settled("l2o", "v1").await?;
    ensure!(pods(&env).await? == before, "the same pods");
    env.temporal.finish_waiting(&env.apps, "long").await?;
    delete(&env, "background")?;
    env.gone_within("l2o", SOON).await?;
    env.nothing_is_left(&next).await?;
    drop(again);
    env.remove().await
}

async fn strip(env: &Env) -> Result<()> {
    env.delete("l2o").await?;
    env.patch("l2o", &json!({ "metadata": { "finalizers": null } }))
        .await?;
    env.wait_gone("l2o").await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_process_whose_finalizer_was_removed_by_hand() -> Result<()> {
    let (env, operator, process) = alone("stripped").await?;
    let at_once = json!({ "spec": { "deletion": { "timeoutSeconds": 3600 } } });
    env.patch("l2o", &at_once).await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    says(&env, "waiting for 1 running workflow").await?;
    env.patch("l2o", &json!({ "metadata": { "finalizers": null } }))
        .await?;
    env.wait_gone("l2o").await?;
    env.temporal.terminate(&env.apps, "long").await?;
    env.nothing_is_left(&process).await?;

    // And while no operator runs.
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    operator.kill();
    strip(&env).await?;
    let again = start(&env).await?;
    env.nothing_is_left(&process).await?;
    drop(again);
    env.remove().await
}

/// Makes an object look as the release before made it.
fn as_before(object: &mut Value) {
    let metadata = object["metadata"].as_object_mut();
    let Some(metadata) = metadata else { return };
    for key in [
        "managedFields",
        "resourceVersion",
        "creationTimestamp",
        "generation",
    ] {
        metadata.remove(key);
    }
    if let Some(owners) = metadata["ownerReferences"].as_array_mut() {
        owners.retain(|owner| owner["kind"] == "Process");
    }
    if let Some(labels) = metadata["labels"].as_object_mut() {
        labels.remove("ameide.io/process-uid");
    }
    if let Some(annotations) = metadata.get_mut("annotations") {
        annotations["ameide.io/applied"] = json!("before");
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_earlier_release_are_given_the_second_owner_and_keep_their_pods() -> Result<()>
{
    let (env, operator, _) = alone("before").await?;
    let invariants = process_operator_harness::Invariants::start(&env)?;
    let before = pods(&env).await?;
    operator.kill();
    let deployment = env.deployments("l2o").await?.remove(0);
    let name = deployment.name_any();
    let mut old = serde_json::to_value(&deployment)?;
    as_before(&mut old);
    old["apiVersion"] = json!("apps/v1");
    old["kind"] = json!("Deployment");
    env.kubectl(
        &[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=process-operator",
            "-f",
            "-",
        ],
        &old.to_string(),
    )?;
    let process = env.api::<Process>().get("l2o").await?;
    let owner = json!([{
        "apiVersion": "ameide.io/v1", "kind": "Process", "name": "l2o", "uid": process.uid(),
        "controller": true, "blockOwnerDeletion": false,
    }]);
    let plain = json!({ "metadata": {
        "ownerReferences": owner, "labels": { "ameide.io/process-uid": null },
    }});
    env.kubectl(
        &[
            "patch",
            "controllerrevision",
            &name,
            "--type=merge",
            "-p",
            &plain.to_string(),
        ],
        "",
    )?;
    env.kubectl(&["delete", "controllerrevision", "l2o-sentinel"], "")?;
    ensure!(
        owners(&env.deployments("l2o").await?[0]) == ["Process"],
        "as before"
    );

    let again = start(&env).await?;
    until("all have both owners", SOON, async || {
        let revisions = env.api::<ControllerRevision>();
        let mut found = BTreeMap::new();
        let deployment = env.deployments("l2o").await?.remove(0);
        found.insert("Deployment", owners(&deployment));
        found.insert("ControllerRevision", owners(&revisions.get(&name).await?));
        found.insert("sentinel", owners(&revisions.get("l2o-sentinel").await?));
        ensure!(
            found["Deployment"] == ["Process", "Namespace"]
                && found["ControllerRevision"] == ["Process", "Namespace"]
                && found["sentinel"] == ["Process"],
            "{found:?}"
        );
        Ok(())
    })
    .await?;
    env.wait_settled("l2o", "v1").await?;
    ensure!(pods(&env).await? == before, "the same pods");
    invariants.hold(&env, &[&again], QUIET).await?;
    ensure!(pods(&env).await? == before, "the same pods");
    env.leave("l2o").await?;
    drop(again);
    env.remove().await
}
