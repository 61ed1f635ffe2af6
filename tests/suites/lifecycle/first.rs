//! What a new Process costs until it has its Deployment, and what keeps it from having one.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditFilter, Entry};
use process_operator_harness::{Env, condition, lifecycle_id, manifest, until};
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;

use crate::support::{SOON, Scene, deployment};

/// Verb and resource of what the operator has asked for, up to its apply of the first Deployment.
fn until_applied(env: &Env, entries: &[Entry]) -> Result<Vec<String>> {
    let mut asked = Vec::new();
    let mut ours: Vec<&Entry> = entries.iter().collect();
    ours.sort_by_key(|entry| entry.request_received_timestamp);
    for entry in ours {
        let object = entry.object_ref.clone().unwrap_or_default();
        if object.namespace == env.namespace && entry.verb != "watch" {
            asked.push(format!("{} {}", entry.verb, object.resource));
            if object.resource == "deployments" && entry.is_mutating() {
                return Ok(asked);
            }
        }
    }
    anyhow::bail!("no Deployment was applied: {asked:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_has_its_deployment_before_anything_is_asked_about_it() -> Result<()> {
    let scene = Scene::new("first").await?;
    let env = &scene.env;
    let mark = env.audit.mark()?;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let account = AuditFilter::any().service_account("process-operator", "process-operator");
    let mut asked = until_applied(env, &env.audit.select(mark, &account)?)?;
    // The namespace is looked at once for all that is made in it at the same time.
    asked.retain(|request| request != "get namespaces");
    asked.sort();
    ensure!(
        asked
            == [
                "create controllerrevisions",
                "create controllerrevisions",
                "patch deployments",
                "patch processes",
            ],
        "{asked:?}"
    );
    let id = lifecycle_id(&process);
    let history = env.temporal.history(&env.control, &id).await?;
    let kinds: Vec<EventType> = history
        .iter()
        .map(HistoryEvent::event_type)
        .take(4)
        .collect();
    ensure!(
        kinds
            == [
                EventType::WorkflowExecutionStarted,
                EventType::WorkflowTaskScheduled,
                EventType::WorkflowTaskStarted,
                EventType::WorkflowTaskCompleted,
            ],
        "started with its first task, and told nothing: {kinds:?}"
    );
    env.temporal.record_histories(&env.control, "first").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_worker_deployment_keeps_a_new_process_from_being_deployed() -> Result<()> {
    let scene = Scene::new("claimed").await?;
    let env = &scene.env;
    let name = format!("{}/l2o", env.namespace);
    env.temporal.create_deployment(&env.apps, &name).await?;
    env.temporal
        .set_manager(&env.apps, &name, Some("another-operator"))
        .await?;
    until("the server lists it", SOON, async || {
        let listed = env.temporal.worker_deployments(&env.apps).await?;
        ensure!(listed.contains(&name), "{listed:?}");
        Ok(())
    })
    .await?;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let stalled = |process: &Process| condition(process, "Stalled").1 == "DeploymentOwnedElsewhere";
    let process = env
        .wait_process("l2o", "the other manager is named", SOON, stalled)
        .await?;
    let (_, _, message) = condition(&process, "Stalled");
    ensure!(message.contains("another-operator"), "{message}");
    let made = env.deployments("l2o").await?;
    ensure!(made.is_empty(), "{} Deployments", made.len());
    env.temporal.set_manager(&env.apps, &name, None).await?;
    env.wait_settled("l2o", "v1").await?;
    scene.finish().await
}

/// The list of Worker Deployments is a little old by then.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_claimed_a_moment_ago_is_not_routed() -> Result<()> {
    let scene = Scene::new("justclaimed").await?;
    let env = &scene.env;
    env.apply(&manifest(env, "before", "v1")).await?;
    env.wait_settled("before", "v1").await?;
    let name = format!("{}/l2o", env.namespace);
    env.temporal.create_deployment(&env.apps, &name).await?;
    env.temporal
        .set_manager(&env.apps, &name, Some("another-operator"))
        .await?;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let stalled = |process: &Process| condition(process, "Stalled").1 == "DeploymentOwnedElsewhere";
    env.wait_process("l2o", "the other manager is named", SOON, stalled)
        .await?;
    let found = env.temporal.worker_deployment(&env.apps, &name).await?;
    let found = found.context("the record")?;
    let current = found
        .routing_config
        .and_then(|routing| routing.current_deployment_version);
    ensure!(current.is_none(), "{current:?}");
    env.temporal.set_manager(&env.apps, &name, None).await?;
    env.wait_settled("l2o", "v1").await?;
    ensure!(deployment(env, "v1").await?.is_some(), "it serves");
    scene.finish().await
}
