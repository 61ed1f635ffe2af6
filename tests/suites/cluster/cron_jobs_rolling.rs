//! Cron jobs while versions roll, and beside workers that are kept apart.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Pod, PodSpec, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{ListParams, ObjectMeta, PostParams};
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, condition, manifest, until, version};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(90);
const JOB: &str = "l2o-sla";

/// With a cron job that does not run by itself while the test does.
fn with_a_job(env: &Env, worker: &Value) -> Value {
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["cronJobs"] = json!([{
        "name": "sla", "purpose": "SLACheck", "schedule": "0 0 29 2 *", "args": ["check"],
    }]);
    process["spec"]["worker"] = worker.clone();
    process
}

fn pods_of(found: &CronJob) -> Result<&PodSpec> {
    let job = found
        .spec
        .as_ref()
        .and_then(|it| it.job_template.spec.as_ref());
    let pods = job.and_then(|job| job.template.spec.as_ref());
    pods.context("a pod template")
}

async fn cron_job(env: &Env, tag: &str) -> Result<CronJob> {
    until(&format!("{JOB} runs {tag}"), SOON, async || {
        let found = env.api::<CronJob>().get_opt(JOB).await?;
        let found = found.context("not yet")?;
        let image = pods_of(&found)?.containers[0].image.clone();
        ensure!(image.is_some_and(|it| it.ends_with(tag)), "{found:?}");
        Ok(found)
    })
    .await
}

async fn at_step(env: &Env, step: i32) -> Result<Process> {
    env.wait_process("l2o", &format!("step {step}"), SOON, |process| {
        let rollout = process.status.as_ref().and_then(|it| it.rollout.as_ref());
        rollout.is_some_and(|it| it.step == step && it.stage == "Pausing")
    })
    .await
}

/// What decides as whom a pod runs, and with which rights.
fn runs_as(pod: &PodSpec) -> Value {
    json!({
        "account": pod.service_account_name,
        "token": pod.automount_service_account_token,
        "pod": pod.security_context,
        "container": pod.containers[0].security_context,
        "pull": pod.image_pull_secrets,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_and_its_abort_leave_it_alone_and_a_promotion_does_not() -> Result<()> {
    let scene = Scene::new("cronroll").await?;
    let env = &scene.env;
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some("sales".into()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    env.api::<ServiceAccount>()
        .create(&PostParams::default(), &account)
        .await?;
    let worker = json!({
        "terminationGracePeriodSeconds": 5,
        "serviceAccountName": "sales",
        "securityContext": { "runAsUser": 4711, "runAsGroup": 4712, "fsGroup": 4713 },
    });
    env.apply(&with_a_job(env, &worker)).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let before = cron_job(env, ":v1").await?;
    let deployments = env.deployments("l2o").await?;
    let workers = deployments[0].spec.as_ref();
    let workers = workers.and_then(|it| it.template.spec.as_ref());
    let (job, workers) = (
        runs_as(pods_of(&before)?),
        runs_as(workers.context("pods")?),
    );
    ensure!(job == workers, "{job}, workers {workers}");
    ensure!(job["account"] == "sales", "{job}");
    ensure!(job["pod"]["runAsUser"] == 4711, "{job}");

    let untouched = async |when: &str| -> Result<()> {
        let now = env.api::<CronJob>().get(JOB).await?;
        ensure!(
            now.resource_version() == before.resource_version(),
            "{when}: {now:?}"
        );
        Ok(())
    };
    let mut change = version("v2", &[]);
    change["spec"]["rollout"] =
        json!({ "strategy": "Canary", "steps": [{ "weight": 50, "pause": {} }] });
    env.patch("l2o", &change).await?;
    at_step(env, 1).await?;
    untouched("in mid-canary").await?;
    env.grant(&process, "abort").await?;
    env.wait_process("l2o", "aborted", SOON, |process| {
        condition(process, "Stalled").1 == "RolloutAborted"
    })
    .await?;
    until("the pods of v2 are gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    untouched("after an abort").await?;

    env.grant(&process, "retry").await?;
    at_step(env, 1).await?;
    untouched("in another canary").await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    let after = cron_job(env, ":v2").await?;
    ensure!(after.uid() == before.uid(), "the same CronJob");
    ensure!(runs_as(pods_of(&after)?) == workers, "{after:?}");
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_finds_a_node_beside_workers_that_are_kept_apart() -> Result<()> {
    let scene = Scene::new("cronapart").await?;
    let env = &scene.env;
    // One worker on each node, and there is a worker on the only one.
    let worker = json!({
        "terminationGracePeriodSeconds": 5,
        "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": { "matchLabels": { "ameide.io/process": "l2o" } },
        }] } },
    });
    env.apply(&with_a_job(env, &worker)).await?;
    env.wait_settled("l2o", "v1").await?;
    cron_job(env, ":v1").await?;
    let run = ["create", "job", "now", "--from=cronjob/l2o-sla"];
    env.kubectl(&run, "")?;
    let of_runs = ListParams::default().labels("ameide.io/cron-job=sla");
    until("the run succeeds", SOON, async || {
        let pods = env.api::<Pod>().list(&of_runs).await?;
        let pod = pods.items.first().context("no pod yet")?;
        let status = pod.status.clone().unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Succeeded"), "{status:?}");
        Ok(())
    })
    .await?;
    let workers = env.pods("l2o").await?;
    ensure!(workers.len() == 1, "the label is that of workers");
    // It really keeps pods apart: a second worker finds no node.
    env.patch("l2o", &json!({ "spec": { "replicas": 2 } }))
        .await?;
    until("a second worker waits", SOON, async || {
        let pods = env.pods("l2o").await?;
        let waits = pods.iter().filter(|pod| {
            let status = pod.status.as_ref();
            status.and_then(|it| it.phase.as_deref()) == Some("Pending")
        });
        ensure!(waits.count() == 1, "not yet");
        Ok(())
    })
    .await?;
    env.patch("l2o", &json!({ "spec": { "replicas": 1 } }))
        .await?;
    env.wait_settled("l2o", "v1").await?;
    scene.finish().await
}
