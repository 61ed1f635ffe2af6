//! Many at once, and namespaces on their way out.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use process_operator_crds::Process;
use process_operator_harness::{Scene, manifest, until};
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;

use crate::support::{SOON, ended, is_open};

/// As many as run quickly on two cores; those without pods are made current by a poller.
const COUNT: usize = 20;

/// F36, with many at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_not_held_up_by_its_processes() -> Result<()> {
    let scene = Scene::new("namespace").await?;
    let env = &scene.env;
    let names: Vec<String> = (0..COUNT).map(|n| format!("p{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let mut wanted = manifest(env, name, "v1");
        // Three with workers and open workflows, one of each policy; the others wait for pods that
        // never come.
        let policy = ["Abandon", "Cancel", "Terminate"]
            .get(n)
            .copied()
            .unwrap_or("Terminate");
        wanted["spec"]["deletion"] = json!({ "timeoutSeconds": 3600, "onTimeout": policy });
        if n >= 3 {
            wanted["spec"]["worker"]["nodeSelector"] = json!({ "no": "such-node" });
        }
        env.apply(&wanted).await?;
    }
    for name in names.iter().take(3) {
        env.wait_settled(name, "v1").await?;
        env.temporal
            .start_waiting(&env.apps, &format!("{name}-tq"), &format!("{name}-long"))
            .await?;
    }
    until("all have a Deployment", SOON, async || {
        let made = env
            .api::<k8s_openapi::api::apps::v1::Deployment>()
            .list(&ListParams::default())
            .await?
            .items
            .len();
        ensure!(made == COUNT, "{made}");
        Ok(())
    })
    .await?;
    let processes = env
        .api::<Process>()
        .list(&ListParams::default())
        .await?
        .items;
    let started = Instant::now();
    let api: Api<Namespace> = Api::all(env.kube.clone());
    api.delete(&env.namespace, &DeleteParams::default()).await?;
    until("the namespace is gone", SOON, async || {
        let left = api.get_opt(&env.namespace).await?;
        ensure!(left.is_none(), "{:?}", left.and_then(|it| it.status));
        Ok(())
    })
    .await?;
    println!(
        "namespace with {COUNT} Processes gone after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    is_open(env, "p0-long").await?;
    ended(env, "p1-long", WorkflowExecutionStatus::Terminated).await?;
    ended(env, "p2-long", WorkflowExecutionStatus::Terminated).await?;
    env.temporal.terminate(&env.apps, "p0-long").await?;
    for process in &processes {
        env.no_workflow_about(process).await?;
    }
    let left = env.temporal.worker_deployments(&env.apps).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// What waits for weeks does not hold up a namespace that goes in the meantime.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_ends_a_wait() -> Result<()> {
    let policy = json!({ "timeoutSeconds": 3600, "onTimeout": "Terminate" });
    let (scene, process) = crate::support::settled("goes", &policy).await?;
    let env = &scene.env;
    env.temporal
        .start_waiting(&env.apps, crate::support::QUEUE, "long")
        .await?;
    env.delete("l2o").await?;
    crate::support::says(env, "waiting for 1 running workflow").await?;
    // Its pods go whatever the operator does.
    env.unguard_versions();
    let api: Api<Namespace> = Api::all(env.kube.clone());
    api.delete(&env.namespace, &DeleteParams::default()).await?;
    until(
        "the namespace is gone",
        Duration::from_secs(60),
        async || {
            let left = api.get_opt(&env.namespace).await?;
            ensure!(left.is_none(), "{:?}", left.and_then(|it| it.status));
            Ok(())
        },
    )
    .await?;
    ended(env, "long", WorkflowExecutionStatus::Terminated).await?;
    env.nothing_is_left(&process).await
}
