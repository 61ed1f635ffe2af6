//! What people do to owned Deployments by hand.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use process_operator_harness::{is_current, until};
use serde_json::{Value, json};

use crate::support::{SOON, Scene, available, deployment, wait_deployment};

/// What matters of a Deployment: all that the operator sets, without what the API server keeps.
fn essence(deployment: &Deployment) -> Result<Value> {
    Ok(json!({
        "labels": deployment.labels(),
        "owners": serde_json::to_value(deployment.owner_references())?,
        "spec": serde_json::to_value(&deployment.spec)?,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_deleted_by_hand_is_made_again() -> Result<()> {
    let (scene, _) = Scene::settled("deleted").await?;
    let env = &scene.env;
    let before = wait_deployment(env, "v1").await?;
    env.api::<Deployment>()
        .delete(&before.name_any(), &DeleteParams::background())
        .await?;
    until(
        "another Deployment of v1 with ready pods",
        SOON,
        async || {
            let now = deployment(env, "v1").await?.context("none")?;
            ensure!(now.uid() != before.uid() && available(&now), "not yet");
            ensure!(essence(&now)? == essence(&before)?, "it is another one");
            Ok(())
        },
    )
    .await?;
    env.wait_settled("l2o", "v1").await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_edited_by_hand_is_put_right() -> Result<()> {
    let (scene, _) = Scene::settled("edited").await?;
    let env = &scene.env;
    let api = env.api::<Deployment>();
    let before = wait_deployment(env, "v1").await?;
    let name = before.name_any();
    let edits = [
        (
            "image",
            json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost/process-example-worker:v2" }]),
        ),
        (
            "replicas",
            json!([{ "op": "replace", "path": "/spec/replicas", "value": 3 }]),
        ),
        (
            "an env variable removed",
            json!([{ "op": "remove", "path": "/spec/template/spec/containers/0/env/0" }]),
        ),
        (
            "our label removed",
            json!([{ "op": "remove", "path": "/metadata/labels/ameide.io~1process" }]),
        ),
        (
            "the label we watch by removed",
            json!([{ "op": "remove", "path": "/metadata/labels/app.kubernetes.io~1managed-by" }]),
        ),
        (
            "owner reference removed",
            json!([{ "op": "remove", "path": "/metadata/ownerReferences" }]),
        ),
    ];
    for (what, edit) in edits {
        let patch: Patch<Value> = Patch::Json(serde_json::from_value(edit)?);
        let edited = api.patch(&name, &PatchParams::default(), &patch).await?;
        ensure!(
            essence(&edited)? != essence(&before)?,
            "{what}: the edit changes something"
        );
        until(&format!("{what} is put right"), SOON, async || {
            let now = api.get(&name).await?;
            ensure!(
                essence(&now)? == essence(&before)?,
                "not yet: {}",
                essence(&now)?
            );
            Ok(())
        })
        .await?;
    }
    ensure!(
        api.get(&name).await?.uid() == before.uid(),
        "put right in place"
    );
    env.wait_settled("l2o", "v1").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_asked_for_with_kubectl_stays() -> Result<()> {
    let (scene, _) = Scene::settled("restarted").await?;
    let env = &scene.env;
    let name = wait_deployment(env, "v1").await?.name_any();
    let pods = |pods: Vec<k8s_openapi::api::core::v1::Pod>| -> Vec<_> {
        pods.iter().filter_map(kube::ResourceExt::uid).collect()
    };
    let before = pods(env.pods("l2o").await?);
    env.kubectl(&["rollout", "restart", &format!("deployment/{name}")], "")?;
    until("new pods have replaced the old ones", SOON, async || {
        let now = pods(env.pods("l2o").await?);
        ensure!(
            !now.is_empty() && now.iter().all(|uid| !before.contains(uid)),
            "not yet"
        );
        ensure!(
            available(&env.api::<Deployment>().get(&name).await?),
            "not ready"
        );
        Ok(())
    })
    .await?;
    env.wait_settled("l2o", "v1").await?;
    let api = env.api::<Deployment>();
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    scene
        .invariants
        .hold(env, &[&scene.operator], crate::support::QUIET)
        .await?;
    let template = api
        .get(&name)
        .await?
        .spec
        .context("spec")?
        .template
        .metadata
        .context("metadata")?;
    let kept = template
        .annotations
        .is_some_and(|all| all.contains_key("kubectl.kubernetes.io/restartedAt"));
    ensure!(kept, "the annotation stays, or the pods would roll back");
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_draining_version_is_made_again_and_its_workflow_finishes_on_it() -> Result<()> {
    let (scene, _) = Scene::settled("lost").await?;
    let env = &scene.env;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v1 drains", SOON, |process| {
        is_current(process, "v2")
            && process
                .status
                .as_ref()
                .is_some_and(|status| !status.draining.is_empty())
    })
    .await?;

    let before = wait_deployment(env, "v1").await?;
    ensure!(
        env.api::<ControllerRevision>()
            .get_opt(&before.name_any())
            .await?
            .is_some(),
        "its template is kept"
    );
    env.api::<Deployment>()
        .delete(&before.name_any(), &DeleteParams::background())
        .await?;
    until("v1 has its Deployment again", SOON, async || {
        let now = deployment(env, "v1").await?.context("none")?;
        ensure!(now.uid() != before.uid(), "not yet");
        ensure!(essence(&now)? == essence(&before)?, "it is another one");
        Ok(())
    })
    .await?;
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    env.wait_settled("l2o", "v2").await?;
    ensure!(env.deployments("l2o").await?.len() == 1, "v1 is gone");
    scene.finish().await
}
