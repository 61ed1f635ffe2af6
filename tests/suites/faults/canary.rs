//! A canary among faults: the operator dies around each change of routing, is stopped politely again
//! and again, and is shown a Deployment that was ready once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, RequestMatch, RpcMatch, RuleHandle, Snapshot, WatchEnd};
use process_operator_harness::{
    Env, Traffic, complete, is_current, manifest, timers_fired, until, version,
};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentInfo;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// A change to v2 by these steps.
fn canary(steps: &Value) -> Value {
    let mut change = version("v2", &[]);
    change["spec"]["rollout"] = json!({ "strategy": "Canary", "steps": steps });
    change
}

/// Two steps that follow each other.
fn two_steps() -> Value {
    json!([{ "weight": 20, "pause": { "durationSeconds": 1 } }, { "weight": 60 }])
}

async fn settled(name: &str) -> Result<World> {
    let world = World::new(name).await?;
    world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    Ok(world)
}

fn count(process: &Process, what: &str) -> usize {
    let history = process.status.iter().flat_map(|status| &status.history);
    history.filter(|entry| entry.what == what).count()
}

/// One rollout, one Deployment, each step once.
async fn taken_once(world: &World) -> Result<()> {
    let env = &world.env;
    let process = env.api::<Process>().get(NAME).await?;
    let weights = count(&process, "WeightChanged");
    ensure!(weights == 2, "{weights} changes of weight are told");
    ensure!(count(&process, "RolloutStarted") == 2, "one rollout each");
    let uid = process.uid().unwrap_or_default();
    let prefix = format!("rollout/{}/{NAME}/{uid}/v2-", env.namespace);
    let rollouts = env.workflows(&prefix).await?;
    ensure!(rollouts.len() == 1, "{rollouts:?}");
    let deployments = env.deployments(NAME).await?;
    ensure!(deployments.len() == 1, "{} Deployments", deployments.len());
    Ok(())
}

/// Where the operator dies.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// At the n-th call of a method of Temporal.
    Rpc(&'static str, u64),
    /// At the n-th write to Kubernetes.
    Write(u64),
}

impl Point {
    fn arm(self, world: &World, after: bool) -> RuleHandle {
        match self {
            Self::Rpc(method, n) => {
                let calls = RpcMatch::method(method).nth(n);
                let action = if after {
                    Action::kill_after(world.killer())
                } else {
                    Action::kill_before(world.killer())
                };
                world.temporal.rule(calls, action)
            }
            Self::Write(n) => {
                let writes = world.writes().nth(n);
                let action = if after {
                    Action::kill_after(world.killer())
                } else {
                    Action::kill_before(world.killer())
                };
                world.kube.rule(writes, action)
            }
        }
    }
}

const RAMP: &str = "SetWorkerDeploymentRampingVersion";
const CURRENT: &str = "SetWorkerDeploymentCurrentVersion";

/// One run; whether the fault bit.
async fn killed(point: Point, after: bool) -> Result<bool> {
    let world = settled("f07").await?;
    let rule = point.arm(&world, after);
    world
        .env
        .patch(NAME, &canary(&two_steps()))
        .await
        .context("the change")?;
    let bitten = tokio::select! {
        done = at_rest(&world, "v2") => { done?; false }
        hit = rule.wait_done(1, SOON) => { hit?; true }
    };
    rule.remove();
    if bitten {
        world.start(true).await?;
        at_rest(&world, "v2").await?;
    }
    taken_once(&world).await?;
    world.finish().await?;
    Ok(bitten)
}

/// F07. All changes of routing, and of the writes to Kubernetes the first, and with `FAULTS=complete`
/// every one.
#[tokio::test(flavor = "multi_thread")]
async fn killed_around_a_change_of_routing_each_step_is_taken_once() -> Result<()> {
    let mut points = vec![
        (Point::Rpc(RAMP, 1), false),
        (Point::Rpc(RAMP, 1), true),
        (Point::Rpc(RAMP, 2), true),
        (Point::Rpc(CURRENT, 1), true),
        (Point::Write(1), true),
    ];
    if complete() {
        points.extend([
            (Point::Rpc(RAMP, 2), false),
            (Point::Rpc(CURRENT, 1), false),
        ]);
        points.extend((2..20).map(|n| (Point::Write(n), n % 2 == 0)));
    }
    let mut runs = futures::stream::iter(points)
        .map(|(point, after)| async move {
            let bitten = killed(point, after).await;
            (point, after, bitten)
        })
        .buffered(3);
    while let Some((point, after, bitten)) = runs.next().await {
        let about = format!("{point:?}, after: {after}");
        let bitten = bitten.with_context(|| about.clone())?;
        // How many writes there are is not the same in each run; changes of routing are.
        ensure!(
            bitten || matches!(point, Point::Write(2..)),
            "{about}: never came"
        );
    }
    Ok(())
}

/// F05: an operator that is told to stop again and again, as a drained node does, keeps the time of a
/// pause.
#[tokio::test(flavor = "multi_thread")]
async fn stopped_again_and_again_the_pause_keeps_its_time() -> Result<()> {
    let world = settled("f05").await?;
    let env = &world.env;
    let traffic = Traffic::start(env, &format!("{NAME}-tq"), Duration::from_millis(300));
    let steps = json!([{ "weight": 30, "pause": { "durationSeconds": 45 } }]);
    env.patch(NAME, &canary(&steps)).await?;
    let paused = |process: &Process| {
        let rollout = process.status.as_ref()?.rollout.as_ref()?;
        rollout.next_step_time.as_ref().map(|due| due.0)
    };
    let process = env
        .wait_process(NAME, "the pause", SOON, |process| paused(process).is_some())
        .await?;
    let due = paused(&process).context("a due time")?;
    while jiff::Timestamp::now() < due - jiff::SignedDuration::from_secs(20) {
        world.operator()?.stop().await?;
        world.start(true).await?;
        let process = env.api::<Process>().get(NAME).await?;
        if let Some(now) = paused(&process) {
            ensure!(now == due, "the pause was begun anew: {now} after {due}");
        }
    }
    let process = env
        .wait_process(NAME, "v2 is current", SOON, |process| {
            is_current(process, "v2")
        })
        .await?;
    // By the server's clock: how soon the step follows depends on how busy the machine is.
    let uid = process.uid().unwrap_or_default();
    let prefix = format!("rollout/{}/{NAME}/{uid}/v2-", env.namespace);
    let ids = env.workflows(&prefix).await?;
    let history = env
        .temporal
        .history(&env.control, ids.first().context("a rollout")?)
        .await?;
    let fired: Vec<f64> = timers_fired(&history)
        .iter()
        .map(|at| at.duration_since(due).as_secs_f64())
        .collect();
    ensure!(
        matches!(fired[..], [late] if (-0.5..2.0).contains(&late)),
        "the pause ended {fired:?} s after it was due"
    );
    traffic.stop().await?.all_answered()?;
    at_rest(&world, "v2").await?;
    world.finish().await
}

/// F07: the status tells of a weight as soon as it is set, and somebody promotes the version out of that step before
/// the rollout itself has heard that its weight is set.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_before_the_rollout_knows_of_its_weight_is_not_lost() -> Result<()> {
    let world = settled("early").await?;
    let env = &world.env;
    let in_step = |step: i32| {
        move |process: &Process| {
            let status = process.status.as_ref();
            let rollout = status.and_then(|status| status.rollout.as_ref());
            rollout.is_some_and(|it| it.step == step && it.stage == "Pausing")
        }
    };
    // Of the rollout's activities the second one sets the weight.
    let answers = RpcMatch::method("RespondActivityTaskCompleted").nth(2);
    let held_back = world.temporal.rule(answers, Action::Delay(SOON));
    let steps = json!([{ "weight": 20, "pause": {} }, { "weight": 60, "pause": {} }]);
    env.patch(NAME, &canary(&steps)).await?;
    let process = env
        .wait_process(NAME, "the first step", SOON, in_step(1))
        .await?;
    ensure!(held_back.hits() == 1, "the rollout knows of its weight");
    env.grant(&process, "promote").await?;
    held_back.remove();
    env.wait_process(NAME, "the second step, and no further", SOON, in_step(2))
        .await?;
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    at_rest(&world, "v2").await?;
    env.temporal.record_histories(&env.control, "early").await?;
    let weights = count(&env.api::<Process>().get(NAME).await?, "WeightChanged");
    ensure!(weights == 2, "{weights} changes of weight are told");
    world.finish().await
}

/// What Temporal knows of the versions.
async fn known(env: &Env) -> Result<WorkerDeploymentInfo> {
    let name = format!("{}/{NAME}", env.namespace);
    let info = env.temporal.worker_deployment(&env.apps, &name).await?;
    info.context("no record")
}

/// F10: the operator is shown a Deployment whose status says ready, but of a spec that is past. Its workers poll, so
/// that nothing else is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_an_earlier_spec_is_not_taken_for_ready_pods() -> Result<()> {
    let world = settled("f10").await?;
    let env = &world.env;
    let all = world.kube.snapshot("deployments").await?;
    let mut change = version("v2", &[]);
    change["spec"]["worker"]["readinessProbe"] = json!({ "exec": { "command": ["/none"] } });
    env.patch(NAME, &change).await?;
    let made = |found: &Deployment| found.labels()["ameide.io/build-id"].starts_with("v2-");
    until("v2 has a Deployment and polls", SOON, async || {
        ensure!(env.deployments(NAME).await?.iter().any(made), "not yet");
        let versions = known(env).await?.version_summaries;
        let mut versions = versions
            .iter()
            .filter_map(|it| it.deployment_version.as_ref());
        ensure!(
            versions.any(|it| it.build_id.starts_with("v2-")),
            "it does not poll"
        );
        Ok(())
    })
    .await?;
    let mut past = Snapshot::new("apps/v1", "Deployment", "deployments");
    for object in all.objects() {
        if object["metadata"]["namespace"] == *env.namespace {
            past = past.object(object.clone());
        }
    }
    let found = env.deployments(NAME).await?.into_iter().find(made);
    let mut lying = serde_json::to_value(found.context("made")?)?;
    lying["apiVersion"] = "apps/v1".into();
    lying["kind"] = "Deployment".into();
    lying["status"] = json!({
        "observedGeneration": 0, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1,
    });
    world.crew.kill();
    world.kube.freeze_at(past.clone().object(lying.clone()));
    let rpcs = world.temporal.mark();
    world.start(true).await?;
    // It has looked, and waits for pods: two heartbeats of the wait are after the look.
    let waits = |record: &process_operator_faultproxy::Record<_>| {
        let request: &process_operator_faultproxy::Rpc = &record.request;
        request.method == "RecordActivityTaskHeartbeat"
    };
    until("the wait for pods goes on", SOON, async || {
        let beats = world.temporal.count(rpcs.., waits);
        ensure!(beats >= 5, "{beats} heartbeats");
        Ok(())
    })
    .await?;
    let process = env.api::<Process>().get(NAME).await?;
    ensure!(!is_current(&process, "v2"), "{:?}", process.status);
    let set = world
        .temporal
        .count(rpcs.., |record| record.request.method == CURRENT);
    ensure!(set == 0, "v2 was made current");

    // The same status, of the present spec, is all that was waited for.
    lying["status"]["observedGeneration"] = lying["metadata"]["generation"].clone();
    world.kube.freeze_at(past.object(lying));
    let watches = RequestMatch::watches().resource("deployments");
    world.kube.end_watches(&watches, WatchEnd::Gone);
    until("v2 is current", SOON, async || {
        let routing = known(env).await?.routing_config.context("no routing")?;
        let current = routing.current_deployment_version.context("none")?;
        ensure!(current.build_id.starts_with("v2-"), "{current:?}");
        Ok(())
    })
    .await?;
    world.kube.thaw("deployments");
    let mut change = version("v3", &[]);
    change["spec"]["worker"]["readinessProbe"] = Value::Null;
    env.patch(NAME, &change).await?;
    at_rest(&world, "v3").await?;
    world.finish().await
}
