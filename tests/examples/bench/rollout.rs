//! How rollouts keep their time, and what they cost. Times are the server's own where it tells them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::Process;
use process_operator_harness::{Env, Operator, counts, is_settled, lifecycle_id, manifest, until};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::deployment::v1::RoutingConfig;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::gauge::percentile;
use crate::idle::temporal_requests;
use crate::{number, options, pauses, wanted};

pub(crate) const SOON: Duration = Duration::from_secs(180);

/// All of it, or the parts that are asked for. The operator is killed and started again on the way.
pub(crate) async fn run(env: &Env, operator: Operator) -> Result<()> {
    let asked = |part: &str| wanted("rollout") || wanted(part);
    if asked("first") {
        to_first_weight(env, 5).await?;
    }
    if asked("steps") {
        cost(env).await?;
    }
    if asked("pauses") {
        pauses::overshoots(env).await?;
    }
    if asked("shares") {
        shares(env, number("BENCH_STARTS", 1_000)).await?;
    }
    env.clear().await?;
    if asked("kills") {
        kills(env, operator, number("BENCH_KILLS", 3)).await?;
    }
    Ok(())
}

pub(crate) fn canary(steps: &Value) -> Value {
    json!({ "spec": {
        "image": "localhost/process-example-worker:v2",
        "rollout": { "strategy": "Canary", "steps": steps },
    } })
}

pub(crate) async fn settled(env: &Env, name: &str) -> Result<Process> {
    env.apply(&manifest(env, name, "v1")).await?;
    env.wait_settled(name, "v1").await
}

pub(crate) async fn remove(env: &Env, name: &str) -> Result<()> {
    env.api::<Process>()
        .delete(name, &DeleteParams::default())
        .await?;
    env.wait_gone(name).await
}

async fn routing(env: &Env, name: &str) -> Result<RoutingConfig> {
    let deployment = format!("{}/{name}", env.namespace);
    let info = env
        .temporal
        .worker_deployment(&env.apps, &deployment)
        .await?;
    info.and_then(|info| info.routing_config)
        .context("no routing")
}

fn time(time: Option<(i64, i32)>) -> Result<Timestamp> {
    let (seconds, nanos) = time.context("no time")?;
    Ok(Timestamp::new(seconds, nanos)?)
}

pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// When the server set this weight. Asked seldom: the time is the server's, whenever it is read.
async fn weighted(env: &Env, name: &str, percent: f32) -> Result<Timestamp> {
    let what = format!("{name} at {percent} %");
    until(&what, SOON, async || {
        let routing = routing(env, name).await?;
        if (routing.ramping_version_percentage - percent).abs() < 0.01 {
            let at = routing.ramping_version_percentage_changed_time;
            return time(at.map(|at| (at.seconds, at.nanos)));
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        anyhow::bail!("{} %", routing.ramping_version_percentage)
    })
    .await
}

/// When the server made a version with this tag Current.
async fn current(env: &Env, name: &str, tag: &str) -> Result<Timestamp> {
    until(&format!("{name} on {tag}"), SOON, async || {
        let routing = routing(env, name).await?;
        let build_id = routing
            .current_deployment_version
            .map(|version| version.build_id)
            .unwrap_or_default();
        if build_id.starts_with(&format!("{tag}-")) {
            let at = routing.current_version_changed_time;
            return time(at.map(|at| (at.seconds, at.nanos)));
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        anyhow::bail!("{build_id}")
    })
    .await
}

/// When a Deployment of a version with this tag is seen to be available.
async fn available(env: &Env, name: &str, tag: &str) -> Result<Timestamp> {
    let config = watcher::Config::default().labels(&format!("ameide.io/process={name}"));
    let changes = watcher(env.api::<Deployment>(), config)
        .default_backoff()
        .applied_objects();
    let mut changes = std::pin::pin!(changes);
    while let Some(deployment) = changes.try_next().await? {
        let ours = deployment
            .labels()
            .get("ameide.io/build-id")
            .is_some_and(|build_id| build_id.starts_with(&format!("{tag}-")));
        let pods = deployment
            .status
            .and_then(|status| status.available_replicas);
        if ours && pods.unwrap_or_default() > 0 {
            return Ok(Timestamp::now());
        }
    }
    anyhow::bail!("the watch ended")
}

/// From a new image to the first weight, and from the end of the last pause to Current.
async fn to_first_weight(env: &Env, count: usize) -> Result<()> {
    const PAUSE: i64 = 3;
    let pause = SignedDuration::from_secs(PAUSE).as_secs_f64();
    let (mut first, mut starting, mut after, mut promoted) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..count {
        let name = format!("first{n}");
        settled(env, &name).await?;
        let steps = json!([{ "weight": 50, "pause": { "durationSeconds": PAUSE } }]);
        let sent = Timestamp::now();
        env.patch(&name, &canary(&steps)).await?;
        let (ready, at) =
            tokio::try_join!(available(env, &name, "v2"), weighted(env, &name, 50.0))?;
        first.push(seconds(sent, at));
        starting.push(seconds(sent, ready));
        after.push(seconds(ready, at));
        promoted.push(seconds(at, current(env, &name, "v2").await?) - pause);
        remove(env, &name).await?;
    }
    println!(
        "new image -> first weight, n={count}: p50 {:.2} s, max {:.2} s; of it until the Deployment is \
         available: p50 {:.2} s, after that: p50 {:.2} s, max {:.2} s",
        percentile(&mut first, 0.5),
        percentile(&mut first, 1.0),
        percentile(&mut starting, 0.5),
        percentile(&mut after, 0.5),
        percentile(&mut after, 1.0),
    );
    println!(
        "end of the last pause ({PAUSE} s) -> Current, n={count}: p50 {:.2} s, max {:.2} s",
        percentile(&mut promoted, 0.5),
        percentile(&mut promoted, 1.0),
    );
    Ok(())
}

/// History events and calls of Temporal of one canary of five steps.
async fn cost(env: &Env) -> Result<()> {
    let name = "steps";
    let process = settled(env, name).await?;
    let id = lifecycle_id(&process);
    // What has just happened is to fade first.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = env.temporal.history(&env.control, &id).await?.len();
    let calls = [
        ("the operator's namespace", env.control.as_str()),
        ("the workers' namespace", env.apps.as_str()),
    ];
    let mut requests = Vec::new();
    for (_, namespace) in calls {
        requests.push(temporal_requests(env, &[namespace]).await?);
    }
    let pause = json!({ "durationSeconds": 1 });
    let steps: Vec<Value> = [10, 20, 40, 60, 80]
        .map(|weight| json!({ "weight": weight, "pause": pause }))
        .into();
    let started = Instant::now();
    env.patch(name, &canary(&json!(steps))).await?;
    env.wait_process(name, "settled on v2", SOON, |process| {
        is_settled(process, "v2")
    })
    .await?;
    let took = started.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut grown = Vec::new();
    for ((_, namespace), before) in calls.iter().zip(requests) {
        let mut now = temporal_requests(env, &[namespace]).await?;
        for (operation, before) in before {
            now.entry(operation).and_modify(|after| *after -= before);
        }
        now.retain(|operation, count| *count > 0.0 && !operation.starts_with("Poll"));
        grown.push(now);
    }
    let lifecycle = env.temporal.history(&env.control, &id).await?;
    let (_, since) = lifecycle.split_at(before);
    println!(
        "a canary of 5 steps with pauses of 1 s, image change -> settled in {:.1} s: history events: \
         {}",
        took.as_secs_f64(),
        of_change(env, name, since).await?,
    );
    println!("  lifecycle by type: {:?}", counts(since));
    for ((what, _), grown) in calls.iter().zip(grown) {
        let sum: f64 = grown.values().sum();
        println!("  Temporal calls in {what}, polls aside: {sum:.0}: {grown:?}");
    }
    remove(env, name).await
}

/// What a change from v1 to v2 has made of history events: in the lifecycle, which are these, and in its children.
pub(crate) async fn of_change(env: &Env, name: &str, since: &[HistoryEvent]) -> Result<String> {
    let until_drain = since.iter().take_while(|event| !starts_drain(event));
    Ok(format!(
        "{} in the lifecycle, {} of them until it turns to the drain of the old version, {:?}",
        since.len(),
        until_drain.count(),
        children(env, name, &[("rollout", "v2"), ("drain", "v1")]).await?,
    ))
}

/// Whether a lifecycle has turned to a version that retires.
fn starts_drain(event: &HistoryEvent) -> bool {
    let Some(Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(started)) =
        &event.attributes
    else {
        return false;
    };
    let kind = started.workflow_type.as_ref();
    kind.is_some_and(|kind| kind.name == "ProcessDrain")
}

/// Events of these children of a Process: kind, and tag of the image that it is about.
pub(crate) async fn children(
    env: &Env,
    name: &str,
    which: &[(&str, &str)],
) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for (kind, tag) in which {
        for id in env
            .workflows(&format!("{kind}/{}/{name}/", env.namespace))
            .await?
        {
            if id.contains(&format!("/{tag}-")) {
                let events = env.temporal.history(&env.control, &id).await?.len();
                found.insert(format!("{kind} of {tag}"), events);
            }
        }
    }
    Ok(found)
}

/// When all task queues knew each weight of the rollout of v2, by its own word: a pause counts from then.
pub(crate) async fn known(env: &Env, process: &Process) -> Result<Vec<Timestamp>> {
    let id = lifecycle_id(process).replacen("process/", "rollout/", 1);
    let rollouts = env.workflows(&format!("{id}/v2-")).await?;
    let rollout = rollouts.first().context("no rollout")?;
    let mut found = Vec::new();
    for event in env.temporal.history(&env.control, rollout).await? {
        let Some(Attributes::ActivityTaskCompletedEventAttributes(done)) = event.attributes else {
            continue;
        };
        let payloads = done
            .result
            .map(|result| result.payloads)
            .unwrap_or_default();
        for payload in payloads {
            let result: Value = serde_json::from_slice(&payload.data).unwrap_or_default();
            if let Some(at) = result["at"].as_str() {
                found.push(at.parse()?);
            }
        }
    }
    Ok(found)
}

/// The share of new workflows that the new version really answers.
async fn shares(env: &Env, starts: u64) -> Result<()> {
    let name = "share";
    let process = settled(env, name).await?;
    let steps = json!([
        { "weight": 10, "pause": {} }, { "weight": 25, "pause": {} }, { "weight": 50, "pause": {} },
    ]);
    env.patch(name, &canary(&steps)).await?;
    for weight in [10, 25, 50] {
        // Waits for a person: the weight is set, and all task queues know it.
        env.wait_process(name, "the step is known", SOON, |process| {
            let rollout = process.status.as_ref().and_then(|it| it.rollout.clone());
            rollout.is_some_and(|it| it.stage == "Pausing" && it.weight == weight)
        })
        .await?;
        let started = Instant::now();
        let answers = env
            .temporal
            .starts(&env.apps, &format!("{name}-tq"), starts)
            .await?;
        answers.all_answered()?;
        println!(
            "weight {weight} %: {} of {starts} new workflows answered by the new version, in {:.0} s",
            answers.of("v2"),
            started.elapsed().as_secs_f64(),
        );
        env.grant(&process, "promote").await?;
    }
    env.wait_settled(name, "v2").await?;
    Ok(())
}

/// How late the next step is when the operator is killed before it and started again at once.
async fn kills(env: &Env, operator: Operator, rounds: u64) -> Result<()> {
    const PAUSE: i64 = 15;
    let mut operator = operator;
    for before in [None, Some(8.0), Some(4.0), Some(2.0), Some(1.0), Some(0.2)] {
        let (mut late, mut ready) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // A name of its own: what a predecessor leaves behind would be cleaned meanwhile.
            let moment = before.map_or_else(|| "none".to_owned(), |it| format!("{:.0}", it * 10.0));
            let name = format!("kill{moment}-{round}");
            let process = settled(env, &name).await?;
            let steps = json!([
                { "weight": 20, "pause": { "durationSeconds": PAUSE } }, { "weight": 60, "pause": {} },
            ]);
            env.patch(&name, &canary(&steps)).await?;
            let known = until("the pause has begun", SOON, async || {
                known(env, &process)
                    .await?
                    .first()
                    .copied()
                    .context("not yet")
            })
            .await?;
            let due = known.checked_add(SignedDuration::from_secs(PAUSE))?;
            if let Some(before) = before {
                let left = seconds(Timestamp::now(), due) - before;
                ensure!(left > 0.0, "seen too late");
                tokio::time::sleep(Duration::from_secs_f64(left)).await;
                operator.kill();
                let started = Instant::now();
                operator = Operator::start(env, options()).await?;
                ready.push(started.elapsed().as_secs_f64());
            }
            late.push(seconds(due, weighted(env, &name, 60.0).await?));
            remove(env, &name).await?;
        }
        let told: Vec<String> = late.iter().map(|late| format!("{late:.2}")).collect();
        let told = told.join(", ");
        match before {
            None => println!("a step after a pause of {PAUSE} s, undisturbed: late by {told} s"),
            Some(before) => println!(
                "killed {before} s before a step was due, started at once (ready after {:.1} s): late by {told} s",
                percentile(&mut ready, 0.5),
            ),
        }
    }
    Ok(())
}
