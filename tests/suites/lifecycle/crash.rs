//! The operator dies, or there are two of it.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use process_operator_crds::Process;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, is_current, is_settled, lifecycle_id, manifest,
    until,
};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::support::{
    QUIET, SOON, Scene, available, deployment, events_are_single, rollouts, version,
    wait_deployment, written,
};

/// v2 takes this long before it polls, so that "ready but not current" lasts.
const LATE: (&str, &str) = ("START_DELAY_MS", "3000");

/// Kills the operator in the middle of a roll from v1 to v2, starts it again, and looks at the end.
async fn killed(name: &str, reached: impl AsyncFn(&Env) -> Result<()>) -> Result<()> {
    let (scene, _) = Scene::settled(name).await?;
    let env = &scene.env;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;

    env.patch("l2o", &version("v2", &[LATE])).await?;
    reached(env).await?;
    scene.operator.kill();
    let again = Operator::start(env, OperatorOptions::default()).await?;

    env.wait_process("l2o", "v2 is current", SOON, |process| {
        is_current(process, "v2")
    })
    .await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v2-"), "{answer:?}");
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    let process = env.wait_settled("l2o", "v2").await?;

    ensure!(env.deployments("l2o").await?.len() == 1, "v1 is gone");
    let created = written(&scene.invariants, env, "deployments", 201)?;
    ensure!(
        created.len() == 2 && created.values().all(|count| *count == 1),
        "created: {created:?}"
    );
    let tried = rollouts(env, &process, "v2").await?;
    ensure!(tried.len() == 1, "one rollout for one change: {tried:?}");
    events_are_single(env, &process).await?;
    scene
        .invariants
        .hold(env, &[&scene.operator, &again], QUIET)
        .await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_right_after_the_change_the_roll_completes() -> Result<()> {
    killed("kill-change", async |_| Ok(())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_the_new_deployment_exists_the_roll_completes() -> Result<()> {
    killed("kill-made", async |env| {
        wait_deployment(env, "v2").await.map(|_| ())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_ready_and_current_the_roll_completes() -> Result<()> {
    killed("kill-ready", async |env| {
        until("v2 has ready pods", SOON, async || {
            ensure!(
                deployment(env, "v2").await?.as_ref().is_some_and(available),
                "not yet"
            );
            Ok(())
        })
        .await?;
        let process = env.api::<Process>().get("l2o").await?;
        ensure!(
            !is_current(&process, "v2"),
            "the pods poll too early for this test"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_old_version_drains_the_roll_completes() -> Result<()> {
    killed("kill-drain", async |env| {
        env.wait_process("l2o", "v1 drains", SOON, |process| {
            is_current(process, "v2")
                && process
                    .status
                    .as_ref()
                    .is_some_and(|status| !status.draining.is_empty())
        })
        .await
        .map(|_| ())
    })
    .await
}

async fn replica(env: &Env, n: u8) -> Result<Operator> {
    let options = OperatorOptions {
        instance: Some(format!("operator-{n}")),
        ..OperatorOptions::default()
    };
    Operator::start(env, options).await
}

/// A signal of the watcher that the Process was made.
fn is_told_of_creation(event: &HistoryEvent) -> bool {
    let Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal)) = &event.attributes
    else {
        return false;
    };
    let payloads = signal.input.iter().flat_map(|input| &input.payloads);
    let mut texts = payloads.map(|payload| String::from_utf8_lossy(&payload.data).into_owned());
    texts.any(|text| text.contains("generation 1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_one_lifecycle_and_write_each_thing_once() -> Result<()> {
    let env = Env::new("replicas").await?;
    let invariants = Invariants::start(&env)?;
    let replicas = [replica(&env, 0).await?, replica(&env, 1).await?];
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let id = lifecycle_id(&process);
    let history = env.temporal.history(&env.control, &id).await?;
    // The other replica has seen it too, and that it was started for it.
    let told = history.iter().filter(|event| is_told_of_creation(event));
    ensure!(told.count() == 0, "told of its own creation");
    env.set_tag("l2o", "v2").await?;
    let process = env.wait_settled("l2o", "v2").await?;

    let lifecycles = env
        .workflows(&format!("process/{}/", env.namespace))
        .await?;
    ensure!(lifecycles == [lifecycle_id(&process)], "{lifecycles:?}");
    // The sentinel is a ControllerRevision too.
    for (resource, count) in [("deployments", 2), ("controllerrevisions", 3)] {
        let created = written(&invariants, &env, resource, 201)?;
        ensure!(
            created.len() == count && created.values().all(|count| *count == 1),
            "{resource}: {created:?}"
        );
    }
    let applied = written(&invariants, &env, "deployments", 200)?;
    ensure!(
        applied.values().all(|count| *count == 2),
        "only the stop of v1 and its deletion follow: {applied:?}"
    );
    ensure!(applied.len() == 1, "{applied:?}");
    let refused = written(&invariants, &env, "events", 409)?;
    ensure!(refused.is_empty(), "Events recorded again: {refused:?}");
    events_are_single(&env, &process).await?;
    for tag in ["v1", "v2"] {
        let tried = rollouts(&env, &process, tag).await?;
        ensure!(tried.len() == 1, "{tried:?}");
    }
    invariants
        .hold(&env, &[&replicas[0], &replicas[1]], QUIET)
        .await?;
    env.remove().await
}

/// Which replica did the latest workflow task of a lifecycle.
async fn at_work(env: &Env, process: &Process) -> Result<usize> {
    let history = env
        .temporal
        .history(&env.control, &lifecycle_id(process))
        .await?;
    let identity = history
        .iter()
        .rev()
        .find_map(|event| match event.attributes.as_ref()? {
            Attributes::WorkflowTaskStartedEventAttributes(started) => {
                Some(started.identity.clone())
            }
            _ => None,
        });
    Ok(usize::from(
        identity
            .context("no workflow task yet")?
            .starts_with("operator-1"),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replica_neither_holds_the_roll_up_nor_disturbs_it_afterwards() -> Result<()> {
    let env = Env::new("paused").await?;
    let invariants = Invariants::start(&env)?;
    let replicas = [replica(&env, 0).await?, replica(&env, 1).await?];
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;

    env.patch("l2o", &version("v2", &[LATE])).await?;
    wait_deployment(&env, "v2").await?;
    let paused = &replicas[at_work(&env, &process).await?];
    paused.signal(Signal::SIGSTOP)?;
    env.wait_process(
        "l2o",
        "v2 is current without the paused replica",
        SOON,
        |process| is_current(process, "v2"),
    )
    .await?;
    paused.signal(Signal::SIGCONT)?;
    env.wait_process("l2o", "settled on v2", SOON, |process| {
        is_settled(process, "v2")
    })
    .await?;

    let created = written(&invariants, &env, "deployments", 201)?;
    ensure!(
        created.len() == 2 && created.values().all(|count| *count == 1),
        "{created:?}"
    );
    let tried = rollouts(&env, &process, "v2").await?;
    ensure!(tried.len() == 1, "{tried:?}");
    let left = env.deployments("l2o").await?;
    ensure!(left.len() == 1, "{} Deployments", left.len());
    invariants
        .hold(&env, &[&replicas[0], &replicas[1]], QUIET)
        .await?;
    env.remove().await
}
