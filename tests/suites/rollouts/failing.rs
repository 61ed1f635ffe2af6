//! Versions that fail while they take a share of the workflows.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use process_operator_harness::{Env, Scene, Traffic, condition, json_payload, manifest, until};
use serde_json::{Value, json};

use crate::support::{SOON, canary, change, now, reason, rollout, routed};

/// A canary that is looked at every second.
fn watched(analysis: &Value) -> Value {
    let mut rollout = canary(&json!([
        { "weight": 50, "pause": { "durationSeconds": 60 } },
    ]));
    rollout["analysis"] = analysis.clone();
    rollout["analysis"]["intervalSeconds"] = 1.into();
    rollout
}

/// Runs that this version answers, by trying ids until it does.
async fn pinned_to(env: &Env, tag: &str) -> Result<String> {
    for n in 0..60 {
        let id = format!("long-{n}");
        env.temporal.start_waiting(&env.apps, "l2o-tq", &id).await?;
        let query = format!(
            "WorkflowId = '{id}' AND TemporalWorkerDeploymentVersion STARTS_WITH '{}/l2o:{tag}-'",
            env.namespace
        );
        if !env.temporal.list(&env.apps, &query).await?.is_empty() {
            return Ok(id);
        }
    }
    anyhow::bail!("none of 60 went to {tag}")
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_executions_abort_and_open_ones_complete_where_they_began() -> Result<()> {
    let (scene, process) = Scene::settled("failing").await?;
    let env = &scene.env;
    let policy = watched(&json!({ "minWorkflows": 20, "maxFailurePercent": 10 }));
    env.patch("l2o", &change("v2", &[("FAIL_PERCENT", "50")], &policy))
        .await?;
    crate::support::at_step(env, 1).await?;
    let long = pinned_to(env, "v2").await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    let aborted = reason(env, "Stalled", "AnalysisFailed").await?;
    let (degraded, _, message) = condition(&aborted, "Degraded");
    ensure!(
        degraded == "True" && message.contains("closed executions failed"),
        "{message}"
    );
    ensure!(condition(&aborted, "Progressing").1 == "RolloutAborted");
    ensure!(condition(&aborted, "Ready").0 == "True");
    routed(env, "v1", "", 0.0).await?;
    traffic.stop().await?.no_task_failed()?;
    // The run that v2 has begun holds its pods, and ends there.
    ensure!(
        env.deployments("l2o").await?.len() == 2,
        "v2 keeps its pods"
    );
    let draining = now(env)
        .await?
        .status
        .map(|status| status.draining)
        .unwrap_or_default();
    ensure!(
        draining
            .iter()
            .any(|version| version.build_id.starts_with("v2-")),
        "{draining:?}"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    let finished = env.temporal.finish_waiting(&env.apps, &long).await?;
    ensure!(finished.completed_on.starts_with("v2-"), "{finished:?}");
    until("the pods of v2 are gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    let events = env.events(&process).await?;
    ensure!(
        events
            .iter()
            .any(|(reason, note)| reason == "RolloutFailed" && note.contains("failed"))
    );
    for n in 0..60 {
        // What v1 has begun of the tries above.
        let _ = env
            .temporal
            .terminate(&env.apps, &format!("long-{n}"))
            .await;
    }
    env.patch(
        "l2o",
        &change(
            "v3",
            &[],
            &json!({ "strategy": "RollingUpdate", "steps": null, "analysis": null }),
        ),
    )
    .await?;
    env.wait_settled("l2o", "v3").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_failure_pause_holds_until_somebody_decides() -> Result<()> {
    let (scene, process) = Scene::settled("hold").await?;
    let env = &scene.env;
    let mut policy = watched(&json!({ "minWorkflows": 5, "maxFailurePercent": 10 }));
    policy["onFailure"] = "Pause".into();
    env.patch("l2o", &change("v2", &[("FAIL_PERCENT", "60")], &policy))
        .await?;
    crate::support::at_step(env, 1).await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    let held = reason(env, "Degraded", "AnalysisFailed").await?;
    traffic.stop().await?.no_task_failed()?;
    ensure!(condition(&held, "Progressing").0 == "True");
    ensure!(condition(&held, "Stalled").0 == "False");
    routed(env, "v1", "v2", 50.0).await?;
    // What has failed stays failed: it is judged by what comes from now on.
    env.grant(&process, "retry").await?;
    let judged = env
        .wait_process("l2o", "it goes on", SOON, |process| {
            condition(process, "Degraded").0 == "False" && rollout(process).stage == "Pausing"
        })
        .await?;
    ensure!(rollout(&judged).step == 1, "{:?}", rollout(&judged));
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    until("it is held a second time", SOON, async || {
        let held = env.events(&process).await?;
        let count = held
            .iter()
            .filter(|(reason, _)| reason == "RolloutHeld")
            .count();
        ensure!(count == 2, "{count}");
        Ok(())
    })
    .await?;
    traffic.stop().await?.no_task_failed()?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_executions_are_inconclusive() -> Result<()> {
    let (scene, _) = Scene::settled("few").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([{ "weight": 90 }]));
    policy["analysis"] = json!({ "minWorkflows": 20, "intervalSeconds": 1 });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    let waiting = env
        .wait_process("l2o", "inconclusive", SOON, |process| {
            let (_, reason, message) = condition(process, "Progressing");
            reason == "Inconclusive"
                && message.contains(": 0 executions have closed, 20 are needed")
        })
        .await?;
    ensure!(
        rollout(&waiting).stage == "Analyzing",
        "{:?}",
        rollout(&waiting)
    );
    env.temporal
        .starts(&env.apps, "l2o-tq", 10)
        .await?
        .all_answered()?;
    env.wait_process("l2o", "how many there are now", SOON, |process| {
        let (_, reason, message) = condition(process, "Progressing");
        reason == "Inconclusive"
            && message.contains("20 are needed")
            && !message.contains(": 0 executions")
    })
    .await?;
    env.temporal
        .starts(&env.apps, "l2o-tq", 40)
        .await?
        .all_answered()?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

/// Workflow tasks that fail again and again.
async fn stuck(name: &str, fault: (&str, &str), moves: bool) -> Result<()> {
    let scene = Scene::new(name).await?;
    let env = &scene.env;
    let behaviour = if moves { "AutoUpgrade" } else { "Pinned" };
    let mut first = manifest(env, "l2o", "v1");
    first["spec"]["worker"]["env"] = json!([{ "name": "VERSIONING_BEHAVIOR", "value": behaviour }]);
    env.apply(&first).await?;
    env.wait_settled("l2o", "v1").await?;
    for n in 0..8 {
        env.temporal
            .start_waiting(&env.apps, "l2o-tq", &format!("open-{n}"))
            .await?;
    }
    // One may be stuck, where several are.
    let most = i32::from(!moves);
    let policy = watched(&json!({
        "minWorkflows": 0, "maxFailurePercent": 100, "maxTaskFailures": most,
    }));
    let variables = [fault, ("VERSIONING_BEHAVIOR", behaviour)];
    env.patch("l2o", &change("v2", &variables, &policy)).await?;
    crate::support::at_step(env, 1).await?;
    let mut quick = Vec::new();
    for n in 0..8 {
        if moves {
            // Each gets a task, on the version that its id is routed to.
            env.temporal
                .signal(
                    &env.apps,
                    &format!("open-{n}"),
                    "nothing",
                    vec![json_payload(&json!({}))],
                )
                .await?;
        } else {
            let (temporal, apps) = (env.temporal.clone(), env.apps.clone());
            let start = async move { temporal.quick(&apps, "l2o-tq", &format!("q-{n}")).await };
            quick.push(tokio::spawn(start));
        }
    }
    let aborted = reason(env, "Stalled", "AnalysisFailed").await?;
    let message = condition(&aborted, "Degraded").2;
    ensure!(message.contains("workflow tasks of"), "{message}");
    ensure!(
        message.contains(&format!("at most {most} may")),
        "{message}"
    );
    routed(env, "v1", "", 0.0).await?;
    // Back on v1 every one of them goes on.
    for start in quick {
        let answer = start.await??;
        ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    }
    for n in 0..8 {
        let finished = env
            .temporal
            .finish_waiting(&env.apps, &format!("open-{n}"))
            .await?;
        ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    }
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_determinism_aborts_and_no_run_is_harmed() -> Result<()> {
    stuck("nondet", ("BREAK_DETERMINISM", "1"), true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_workflow_tasks_abort_and_new_runs_go_on_elsewhere() -> Result<()> {
    stuck("tasks", ("FAIL_TASK_PERCENT", "100"), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_end_again_and_again_in_the_middle_of_a_canary_abort_it() -> Result<()> {
    let (scene, _) = Scene::settled("pods-fail").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([{ "weight": 50, "pause": {} }]));
    // How executions end is not looked at.
    policy["analysis"] =
        json!({ "minWorkflows": 0, "maxFailurePercent": 100, "intervalSeconds": 1 });
    // Long after they are ready, and long before anybody promotes it.
    let crashes = [("CRASH_AFTER_MS", "15000")];
    env.patch("l2o", &change("v2", &crashes, &policy)).await?;
    crate::support::at_step(env, 1).await?;
    routed(env, "v1", "v2", 50.0).await?;
    let aborted = reason(env, "Stalled", "AnalysisFailed").await?;
    let message = condition(&aborted, "Degraded").2;
    ensure!(
        message.contains("its pods fail: pod ") && message.contains("restarted 2 times"),
        "{message}"
    );
    ensure!(message.contains("exit code 1 (Error)"), "{message}");
    ensure!(condition(&aborted, "Ready").0 == "True");
    routed(env, "v1", "", 0.0).await?;
    until("the pods of v2 are gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    scene.finish().await
}

/// A worker that takes more and more memory, some time after it has begun to poll.
const LEAKS: &str = "
import runpy, threading, time

def leak():
    time.sleep(8)
    held = []
    while True:
        held.append(b'x' * 2**20)

threading.Thread(target=leak, daemon=True).start()
runpy.run_path('/worker.py', run_name='__main__')
";

/// Deployment and pods of v1, in words.
async fn stable(env: &Env) -> Result<Vec<String>> {
    let is_v1 = |of: &str| of.starts_with("v1-");
    let mut all = Vec::new();
    for found in env.deployments("l2o").await? {
        if is_v1(&found.labels()["ameide.io/build-id"]) {
            let generation = found.metadata.generation;
            all.push(format!("Deployment {:?} {generation:?}", found.uid()));
        }
    }
    for pod in env.pods("l2o").await? {
        if is_v1(&pod.labels()["ameide.io/build-id"]) {
            let containers = pod.status.iter();
            let containers = containers.flat_map(|it| it.container_statuses.iter().flatten());
            let restarts: i32 = containers.map(|it| it.restart_count).sum();
            all.push(format!("pod {:?} {restarts}", pod.uid()));
        }
    }
    Ok(all)
}

/// F33: the kernel ends the worker, and the kubelet says why.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_run_out_of_memory_in_the_middle_of_a_canary_abort_it() -> Result<()> {
    let scene = Scene::new("oom").await?;
    let env = &scene.env;
    let image = |tag: &str| json!(format!("localhost/process-example-worker-python:{tag}"));
    let mut first = manifest(env, "l2o", "v1");
    first["spec"]["image"] = image("v1");
    env.apply(&first).await?;
    env.wait_settled("l2o", "v1").await?;
    let before = stable(env).await?;
    let mut policy = canary(&json!([{ "weight": 50, "pause": {} }]));
    policy["analysis"] =
        json!({ "minWorkflows": 0, "maxFailurePercent": 100, "intervalSeconds": 1 });
    let mut leaking = change("v2", &[], &policy);
    leaking["spec"]["image"] = image("v2");
    leaking["spec"]["worker"]["command"] = json!(["/usr/bin/python3.11", "-c", LEAKS]);
    // Enough for the worker as it is.
    leaking["spec"]["worker"]["resources"] = json!({ "limits": { "memory": "256Mi" } });
    env.patch("l2o", &leaking).await?;
    let aborted = reason(env, "Stalled", "AnalysisFailed").await?;
    let message = condition(&aborted, "Degraded").2;
    ensure!(
        message.contains("its pods fail: pod ") && message.contains("exit code 137 (OOMKilled)"),
        "{message}"
    );
    ensure!(condition(&aborted, "Ready").0 == "True");
    routed(env, "v1", "", 0.0).await?;
    let after = stable(env).await?;
    ensure!(after == before, "v1 is untouched: {before:?} {after:?}");
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    until("the pods of v2 are gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_never_starts_fails_by_its_deadline() -> Result<()> {
    let (scene, _) = Scene::settled("crash").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([{ "weight": 50 }]));
    policy["progressDeadlineSeconds"] = 5.into();
    env.patch("l2o", &change("v2", &[("CRASH_AT_START", "1")], &policy))
        .await?;
    let failed = reason(env, "Stalled", "ProgressDeadlineExceeded").await?;
    ensure!(condition(&failed, "Ready").0 == "True");
    routed(env, "v1", "", 0.0).await?;
    env.patch(
        "l2o",
        &change("v3", &[], &json!({ "progressDeadlineSeconds": 60 })),
    )
    .await?;
    env.wait_settled("l2o", "v3").await?;
    scene.finish().await
}
