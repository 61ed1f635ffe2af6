//! F24: Temporal refuses changes of routing only, as it does when many are asked for at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, GrpcCode, GrpcError, RpcMatch, RuleHandle};
use process_operator_harness::{condition, counts, manifest, timers_fired, until, version};
use serde_json::json;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// What the server would say; no other message has it.
const WORDS: &str = "not so many at once";

async fn settled(name: &str) -> Result<World> {
    let world = World::new(name).await?;
    world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    Ok(world)
}

fn refuse(world: &World) -> RuleHandle {
    let changes = RpcMatch::any().when(|rpc| rpc.method.starts_with("SetWorkerDeployment"));
    let error = GrpcError::new(GrpcCode::ResourceExhausted, WORDS);
    world.temporal.rule(changes, Action::Answer(error))
}

/// Waits until it says what it waits for, and that v1 serves meanwhile.
async fn waits(world: &World) -> Result<Process> {
    let env = &world.env;
    let process = env
        .wait_process(NAME, "it waits for its turn", SOON, |process| {
            let (status, reason, message) = condition(process, "Progressing");
            status == "True"
                && reason == "RateLimited"
                && message.contains("waits for its turn")
                && message.contains(WORDS)
        })
        .await?;
    ensure!(condition(&process, "Ready").0 == "True");
    ensure!(condition(&process, "Stalled").0 == "False");
    Ok(process)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_routing_that_waits_for_its_turn_says_so() -> Result<()> {
    let world = settled("f24turn").await?;
    let env = &world.env;
    let refused = refuse(&world);
    let mut change = version("v2", &[]);
    change["spec"]["rollout"] =
        json!({ "strategy": "Canary", "steps": [{ "weight": 50, "pause": {} }] });
    env.patch(NAME, &change).await?;
    waits(&world).await?;
    refused.remove();
    let held = env
        .wait_process(NAME, "the step is taken", SOON, |process| {
            condition(process, "Progressing").1 == "WaitingForPromotion"
        })
        .await?;
    let refused = refuse(&world);
    env.grant(&held, "promote").await?;
    waits(&world).await?;
    refused.remove();
    at_rest(&world, "v2").await?;
    world.finish().await
}

/// It would be made Current whenever the server lets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_waits_for_its_turn_is_aborted() -> Result<()> {
    let world = settled("f24abort").await?;
    let env = &world.env;
    let refused = refuse(&world);
    env.set_tag(NAME, "v2").await?;
    let process = waits(&world).await?;
    env.grant(&process, "abort").await?;
    let aborted = env
        .wait_process(NAME, "aborted", SOON, |process| {
            condition(process, "Stalled").1 == "RolloutAborted"
        })
        .await?;
    ensure!(condition(&aborted, "Ready").0 == "True");
    refused.remove();
    // Nothing of it is left to be carried out now.
    let mark = world.temporal.mark();
    env.set_tag(NAME, "v3").await?;
    at_rest(&world, "v3").await?;
    let late = world.temporal.count(mark.., |record| {
        record.request.method.starts_with("SetWorkerDeployment") && record.request.mentions("v2-")
    });
    ensure!(late == 0, "v2 was routed to {late} times");
    world.finish().await
}

/// The server has done it, and its answer comes late: by then somebody has said no.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_got_through_is_taken_back() -> Result<()> {
    let world = settled("f24back").await?;
    let env = &world.env;
    // Without anything on it v1 may be retired before somebody says no.
    let queue = format!("{NAME}-tq");
    env.temporal.start_waiting(&env.apps, &queue, "old").await?;
    let current = RpcMatch::method("SetWorkerDeploymentCurrentVersion").nth(1);
    let late = world
        .temporal
        .rule(current, Action::DelayAnswer(Duration::from_secs(5)));
    env.set_tag(NAME, "v2").await?;
    late.wait_hits(1, SOON).await?;
    let process = env.api::<Process>().get(NAME).await?;
    env.grant(&process, "abort").await?;
    env.wait_process(NAME, "aborted", SOON, |process| {
        condition(process, "Stalled").1 == "RolloutAborted"
    })
    .await?;
    let name = format!("{}/{NAME}", env.namespace);
    let info = env.temporal.worker_deployment(&env.apps, &name).await?;
    let routing = info.and_then(|info| info.routing_config);
    let current = routing.and_then(|routing| routing.current_deployment_version);
    ensure!(
        current
            .as_ref()
            .is_some_and(|it| it.build_id.starts_with("v1-")),
        "{current:?}"
    );
    let answer = env.temporal.quick(&env.apps, &queue, "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    env.temporal.finish_waiting(&env.apps, "old").await?;
    env.set_tag(NAME, "v3").await?;
    at_rest(&world, "v3").await?;
    world.finish().await
}

/// The task queues have not heard of the weight yet: the time of the step does not run.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_begins_when_all_task_queues_know_the_weight() -> Result<()> {
    let world = settled("f24spread").await?;
    let env = &world.env;
    // What is asked after the change is held back, so its answer has to wait until that is arranged.
    let ramp = RpcMatch::method("SetWorkerDeploymentRampingVersion").nth(1);
    let ramp = world.temporal.rule(ramp, Action::DelayAnswer(SOON));
    let mut change = version("v2", &[]);
    let steps = json!([{ "weight": 50, "pause": { "durationSeconds": 5 } }]);
    change["spec"]["rollout"] = json!({ "strategy": "Canary", "steps": steps });
    env.patch(NAME, &change).await?;
    ramp.wait_hits(1, SOON).await?;
    let asked = RpcMatch::any().when(|rpc| {
        let about = ["DescribeWorkerDeployment", "DescribeTaskQueue"];
        about.contains(&rpc.method.as_str())
    });
    let unknown = world.temporal.rule(asked, Action::Delay(SOON));
    ramp.remove();
    unknown.wait_hits(4, SOON).await?;
    let name = format!("{}/{NAME}", env.namespace);
    until("the server has the weight", SOON, async || {
        let info = env.temporal.worker_deployment(&env.apps, &name).await?;
        let routing = info
            .and_then(|info| info.routing_config)
            .unwrap_or_default();
        let percent = routing.ramping_version_percentage;
        ensure!((percent - 50.0).abs() < f32::EPSILON, "{percent}");
        Ok(())
    })
    .await?;
    let process = env.api::<Process>().get(NAME).await?;
    let uid = process.uid().unwrap_or_default();
    let prefix = format!("rollout/{}/{NAME}/{uid}/v2-", env.namespace);
    let ids = env.workflows(&prefix).await?;
    let id = ids.first().context("a rollout")?;
    let timers = async || {
        let history = env.temporal.history(&env.control, id).await?;
        let all = counts(&history);
        anyhow::Ok(
            all.get("EVENT_TYPE_TIMER_STARTED")
                .copied()
                .unwrap_or_default(),
        )
    };
    // Longer than the pause, and than any question may take.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(12) {
        let process = env.api::<Process>().get(NAME).await?;
        let stage = process
            .status
            .and_then(|status| status.rollout)
            .unwrap_or_default()
            .stage;
        ensure!(stage != "Pausing", "the pause has begun");
        ensure!(timers().await? == 0, "a timer runs");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let lifted = jiff::Timestamp::now();
    unknown.remove();
    until("the pause has begun", SOON, async || {
        ensure!(timers().await? == 1, "not yet");
        anyhow::Ok(())
    })
    .await?;
    at_rest(&world, "v2").await?;
    let history = env.temporal.history(&env.control, id).await?;
    let fired = timers_fired(&history);
    let paused = fired.first().context("a pause")?.duration_since(lifted);
    ensure!(paused.as_secs_f64() > 4.5, "{paused} after it was known");
    world.finish().await
}
