//! Cron jobs beside the workers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use process_operator_harness::{Env, Scene, condition, is_current, manifest, until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
/// A schedule of every minute, and a pod.
const A_RUN: Duration = Duration::from_secs(150);
/// A rollout and a drain.
const A_CHANGE: Duration = Duration::from_secs(150);

fn sla(schedule: &str) -> Value {
    json!({
        "name": "sla", "purpose": "SLACheck", "schedule": schedule, "timeZone": "Etc/UTC", "args": ["check"],
        "activeDeadlineSeconds": 60,
    })
}

fn jobs(jobs: &[Value]) -> Value {
    json!({ "spec": { "cronJobs": jobs } })
}

fn image(found: &CronJob) -> Option<String> {
    let spec = found.spec.as_ref()?.job_template.spec.as_ref()?;
    spec.template.spec.as_ref()?.containers[0].image.clone()
}

/// Waits until the CronJob is as wanted.
async fn wait_job(
    env: &Env,
    name: &str,
    what: &str,
    wanted: impl Fn(&CronJob) -> bool,
) -> Result<CronJob> {
    until(&format!("CronJob {name} {what}"), SOON, async || {
        let found = env.api::<CronJob>().get_opt(name).await?;
        let found = found.with_context(|| format!("no CronJob {name}"))?;
        ensure!(wanted(&found), "{:?}", found.spec);
        Ok(found)
    })
    .await
}

fn scheduled(found: &CronJob, schedule: &str) -> bool {
    found
        .spec
        .as_ref()
        .is_some_and(|spec| spec.schedule == schedule)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_runs_as_the_workers_do_and_follows_the_current_version() -> Result<()> {
    let scene = Scene::new("cron").await?;
    let env = &scene.env;
    let mut process = manifest(env, "l2o", "v1");
    let cleanup = json!({
        "name": "cleanup", "purpose": "Cleanup", "schedule": "0 3 * * *", "args": ["check"], "suspend": true,
    });
    process["spec"]["cronJobs"] = json!([sla("* * * * *"), cleanup]);
    env.apply(&process).await?;
    env.wait_settled("l2o", "v1").await?;
    let is = |tag: &'static str| {
        move |found: &CronJob| image(found).is_some_and(|image| image.ends_with(tag))
    };
    wait_job(env, "l2o-sla", "is there", is(":v1")).await?;
    let suspended = wait_job(env, "l2o-cleanup", "is there", is(":v1")).await?;
    let spec = suspended.spec.context("a spec")?;
    ensure!(spec.suspend == Some(true), "{spec:?}");

    let ran = ListParams::default().labels("ameide.io/cron-job=sla");
    let pod = until("a run that succeeded", A_RUN, async || {
        let runs = env.api::<Job>().list(&ran).await?;
        let done = runs.iter().any(|run| {
            let status = run.status.as_ref();
            status.and_then(|status| status.succeeded).unwrap_or(0) > 0
        });
        ensure!(done, "{} runs, none has succeeded", runs.items.len());
        let pods = env.api::<Pod>().list(&ran).await?;
        let name = pods.items.first().context("its pod")?.name_any();
        Ok(name)
    })
    .await?;
    let log = env.api::<Pod>().logs(&pod, &LogParams::default()).await?;
    for part in [
        "\"checked\"",
        "\"job\":\"sla\"",
        "\"purpose\":\"SLACheck\"",
        "l2o-tq",
    ] {
        ensure!(log.contains(part), "{part} is not in {log}");
    }
    let workers = ListParams::default().labels("ameide.io/build-id");
    let workers = env.api::<Pod>().list(&workers).await?;
    let taken = workers.iter().any(|worker| worker.name_any() == pod);
    ensure!(!taken, "no version counts it among its workers");

    // Drift is put right, a change is carried over, and nothing else is touched.
    let by_hand = json!({ "spec": { "schedule": "0 0 1 1 *" } });
    let api = env.api::<CronJob>();
    api.patch("l2o-sla", &PatchParams::default(), &Patch::Merge(&by_hand))
        .await?;
    wait_job(env, "l2o-sla", "is as before", |it| {
        scheduled(it, "* * * * *")
    })
    .await?;
    let lost = api.get("l2o-cleanup").await?.uid();
    api.delete("l2o-cleanup", &DeleteParams::default()).await?;
    wait_job(env, "l2o-cleanup", "is made again", |it| it.uid() != lost).await?;
    env.patch("l2o", &jobs(&[sla("*/7 * * * *")])).await?;
    wait_job(env, "l2o-sla", "is changed", |it| {
        scheduled(it, "*/7 * * * *")
    })
    .await?;
    until("the other one is gone", SOON, async || {
        ensure!(api.get_opt("l2o-cleanup").await?.is_none(), "still there");
        Ok(())
    })
    .await?;

    env.set_tag("l2o", "v2").await?;
    env.wait_settled("l2o", "v2").await?;
    wait_job(env, "l2o-sla", "follows", is(":v2")).await?;
    scene
        .invariants
        .hold(env, &[&scene.operator], Duration::from_secs(5))
        .await?;

    env.delete("l2o").await?;
    env.wait_gone("l2o").await?;
    until("its CronJob goes with it", SOON, async || {
        ensure!(api.get_opt("l2o-sla").await?.is_none(), "still there");
        Ok(())
    })
    .await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubernetes_refuses_or_is_taken_is_named_and_harms_no_worker() -> Result<()> {
    let (scene, _) = Scene::settled("cron-bad").await?;
    let env = &scene.env;
    let refused = |part: &'static str| {
        move |process: &process_operator_crds::Process| {
            let (status, _, message) = condition(process, "Degraded");
            status == "True" && message.contains("spec.cronJobs[sla]") && message.contains(part)
        }
    };
    env.patch("l2o", &jobs(&[sla("61 * * * *")])).await?;
    let told = env
        .wait_process("l2o", "refused", SOON, refused("schedule"))
        .await?;
    ensure!(condition(&told, "Ready").0 == "True", "it serves");
    ensure!(
        condition(&told, "Stalled").0 == "True",
        "somebody has to act"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");

    // An urgent change of the image does not wait for that.
    env.set_tag("l2o", "v2").await?;
    let moved = env
        .wait_process("l2o", "v2 serves, and v1 is retired", A_CHANGE, |process| {
            let retired = process.status.iter().flat_map(|status| &status.history);
            let retired = retired
                .filter(|entry| entry.what == "VersionRetired")
                .any(|entry| {
                    entry
                        .build_id
                        .as_deref()
                        .is_some_and(|it| it.starts_with("v1-"))
                });
            is_current(process, "v2") && retired && refused("schedule")(process)
        })
        .await?;
    ensure!(condition(&moved, "Ready").0 == "True", "it serves");
    ensure!(condition(&moved, "Stalled").0 == "True", "as before");
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "moved").await?;
    ensure!(answer.build_id.starts_with("v2-"), "{answer:?}");

    let mut zone = sla("0 3 * * *");
    zone["timeZone"] = "Mars/Olympus".into();
    env.patch("l2o", &jobs(&[zone])).await?;
    env.wait_process("l2o", "refused again", SOON, refused("timeZone"))
        .await?;

    // Corrected, but the name is taken.
    let theirs: CronJob = serde_json::from_value(json!({
        "metadata": { "name": "l2o-sla" },
        "spec": { "schedule": "0 0 * * *", "jobTemplate": { "spec": { "template": { "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "c", "image": "localhost/process-example-worker:v1" }],
        } } } } },
    }))?;
    let api = env.api::<CronJob>();
    let theirs = api.create(&PostParams::default(), &theirs).await?;
    env.patch("l2o", &jobs(&[sla("0 3 * * *")])).await?;
    env.wait_process("l2o", "taken", SOON, |process| {
        let (status, _, message) = condition(process, "Degraded");
        status == "True" && message.contains("CronJob l2o-sla exists and belongs to something else")
    })
    .await?;
    let untouched = api.get("l2o-sla").await?;
    ensure!(
        untouched.resource_version() == theirs.resource_version(),
        "theirs is left"
    );
    api.delete("l2o-sla", &DeleteParams::default()).await?;
    wait_job(env, "l2o-sla", "is made", |it| scheduled(it, "0 3 * * *")).await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}
