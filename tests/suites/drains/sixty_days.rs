//! Sixty days of a drain in little time. Only the clock by which it rests between two counts runs faster
//! (`--drain-clock-speed`): the drain, its deadline, the server and what is written down there are what they always are.

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use process_operator_crds::status::DrainingVersion;
use process_operator_harness::{
    Env, Operator, OperatorOptions, Scene, json_payload, until, written_at,
};
use process_operator_workflows::contract::DrainPolicy;
use process_operator_workflows::drain::HISTORY_LIMIT;
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::histories::{begun_with, nothing_is_added, since};
use crate::support::{QUEUE, SOON, counted, drain_id, held, on_v1, open, retired, tells, to_v2};

/// A day of waiting passes in a second.
const SPEED: u32 = 24 * 3600;
/// How long v1 may take to end.
const DAYS: u32 = 60;
/// Workflows that hold v1 all the while.
const OPEN: usize = 4;
/// How often another one comes, and goes. One run of a drain does not tell so many changes.
const VISITS: usize = 80;
/// Events of a run at most: it finishes what it has begun before another one follows.
const LONGEST: usize = HISTORY_LIMIT as usize + 100;
/// What all of it comes to at most. The server ends a run at 51200.
const IN_ALL: usize = 3 * LONGEST;

fn fast() -> OperatorOptions {
    OperatorOptions {
        args: vec![format!("--drain-clock-speed={SPEED}")],
        ..OperatorOptions::default()
    }
}

/// Days that have passed by the clock of the drain.
fn days(since: Timestamp) -> f64 {
    let passed = Timestamp::now().duration_since(since).as_secs_f64();
    passed * f64::from(SPEED) / (24.0 * 3600.0)
}

/// Workflows come to v1 and go again, one after the other. What holds it is told each time.
async fn visits(env: &Env, version: &DrainingVersion) -> Result<DrainingVersion> {
    let deployment = format!("{}/l2o", env.namespace);
    let pinned = (deployment.as_str(), version.build_id.as_str());
    let open = i64::try_from(OPEN)?;
    let mut last = version.clone();
    for n in 0..VISITS {
        let id = format!("visit-{n}");
        env.temporal
            .start_pinned(&env.apps, QUEUE, &id, pinned)
            .await?;
        held(env, open + 1).await?;
        env.temporal.finish_waiting(&env.apps, &id).await?;
        (_, last) = held(env, open).await?;
    }
    Ok(last)
}

/// Makes the present run of a drain so long that the next look ends it: of signals that it does not understand. How many.
async fn fill(env: &Env, drain: &str) -> Result<usize> {
    let length = env.temporal.history(&env.control, drain).await?.len();
    let missing = usize::try_from(HISTORY_LIMIT)?.saturating_sub(length) + 1;
    futures::stream::iter(0..missing)
        .map(|_| {
            let payloads = vec![json_payload(&json!("no policy"))];
            env.temporal.signal(&env.control, drain, "policy", payloads)
        })
        .buffer_unordered(8)
        .try_collect::<()>()
        .await?;
    Ok(missing)
}

/// Histories of all runs of a drain, the first one first.
async fn runs(env: &Env, drain: &str) -> Result<Vec<Vec<HistoryEvent>>> {
    let query = format!("WorkflowId = '{drain}'");
    let mut runs = env.temporal.list(&env.control, &query).await?;
    runs.sort_by_key(|run| run.start_time.map(|at| (at.seconds, at.nanos)));
    let mut histories = Vec::new();
    for run in runs {
        let run = run.execution.context("no id")?;
        histories.push(env.temporal.history_of(&env.control, run).await?);
    }
    Ok(histories)
}

/// The deadline, by what a run was given.
fn due(input: &Value) -> Result<Timestamp> {
    let policy: DrainPolicy = serde_json::from_value(input["policy"].clone())?;
    let carried = &input["memory"]["since"];
    let since = if carried.is_null() {
        &input["since"]
    } else {
        carried
    };
    let since = serde_json::from_value(since.clone())?;
    policy.deadline(since).context("no deadline")
}

/// When the timers of a run go off that last for days.
fn alarms(history: &[HistoryEvent]) -> Vec<Timestamp> {
    let timers = history.iter().filter_map(|event| match &event.attributes {
        Some(Attributes::TimerStartedEventAttributes(timer)) => {
            let lasts = timer.start_to_fire_timeout?;
            let lasts = SignedDuration::new(lasts.seconds, lasts.nanos);
            Some((written_at(event)?, lasts))
        }
        _ => None,
    });
    timers
        .filter(|(_, lasts)| lasts.as_hours() > 24)
        .map(|(at, lasts)| at + lasts)
        .collect()
}

/// Each run knows the same deadline, and has set an alarm for it: the last one when the order was carried out.
fn the_deadline_stays(runs: &[Vec<HistoryEvent>], deadline: Timestamp) -> Result<()> {
    for (n, history) in runs.iter().enumerate() {
        let input = begun_with(history)?;
        ensure!(due(&input)? == deadline, "run {n}: {input}");
        let alarms = alarms(history);
        ensure!(alarms.len() == 1, "run {n}: {alarms:?}");
        let off = alarms[0].duration_since(deadline).as_secs_f64();
        // A timer runs from when the task that set it was done.
        ensure!((-1.0..5.0).contains(&off), "run {n}: {off} s");
    }
    Ok(())
}

/// F27. It has 60 days and waits for all of them. In the first ones nothing changes, then what holds it does several
/// times a day, until its run has to be followed by another one. On the last day somebody gives an order, of which one
/// run hears and which the next one carries out.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_sixty_days_stays_small() -> Result<()> {
    let scene = Scene::of(Env::new("sixty").await?, fast()).await?;
    let env = &scene.env;
    let seconds = i64::from(DAYS) * 24 * 3600;
    let policy = json!({ "timeoutSeconds": seconds, "onTimeout": "Terminate" });
    on_v1(env, &policy, &[]).await?;
    open(env, "old", OPEN, false).await?;
    let (process, version) = to_v2(env, i64::try_from(OPEN)?).await?;
    let drain = drain_id(env, &process).await?;
    let since = since(env, &process).await?;
    let deadline = since + SignedDuration::from_secs(seconds);

    nothing_is_added(env, &process).await?;
    let quiet = days(since);
    let last = visits(env, &version).await?;
    ensure!(
        last.since == version.since && last.deadline == version.deadline,
        "{version:?} {last:?}"
    );
    until("all its days have passed", SOON, async || {
        let passed = days(since);
        ensure!(passed >= f64::from(DAYS), "{passed:.0}");
        Ok(())
    })
    .await?;
    let waited = days(since);
    let so_far = runs(env, &drain).await?;
    ensure!(so_far.len() == 2, "{} runs", so_far.len());
    let told: usize = so_far.iter().map(Vec::len).sum();

    // Nobody looks while it comes, so that one task takes in all of it.
    scene.operator.stop().await?;
    let signals = fill(env, &drain).await?;
    env.temporal
        .force_drain(&env.control, &drain, "the last day")
        .await?;
    let operator = Operator::start(env, fast()).await?;
    counted(env, "old", "Terminated", OPEN).await?;
    let (reason, actor) = tells(env, "DrainForced").await?;
    ensure!(
        reason.starts_with(&format!("Terminate: {OPEN} running workflows"))
            && reason.contains("the last day")
            && actor == "ada",
        "{reason} by {actor:?}"
    );
    retired(env).await?;
    until("only v2 has a pod", SOON, async || {
        let pods = env.pods("l2o").await?.len();
        ensure!(pods == 1, "{pods} pods");
        Ok(())
    })
    .await?;

    let runs = runs(env, &drain).await?;
    ensure!(runs.len() == 3, "{} runs", runs.len());
    let input = begun_with(&runs[2])?;
    let ending = &input["memory"]["ending"];
    ensure!(
        ending["forced"] == true && ending["reason"] == "the last day",
        "the last run was given the order: {ending}"
    );
    the_deadline_stays(&runs, deadline)?;
    let lengths: Vec<usize> = runs.iter().map(Vec::len).collect();
    let all: usize = lengths.iter().sum();
    println!(
        "{waited:.0} days, the first {quiet:.0} without a change: {told} events for {} changes told; with {signals} \
         signals that end a run, and the end of the drain, {all} events in runs of {lengths:?}",
        2 * VISITS
    );
    ensure!(
        all <= IN_ALL && lengths.iter().all(|length| *length <= LONGEST),
        "{lengths:?}"
    );
    scene.invariants.leave(env, &[&operator], "l2o").await?;
    scene.env.remove().await
}
