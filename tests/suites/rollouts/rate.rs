//! How fast routing is changed: one limit holds for all replicas together.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_crds::names::queue;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, is_settled, manifest, until, written_at,
};
use serde_json::json;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::support::{SOON, change, rollout};

/// All of them are promoted at once, so that they ask for more than one limit lets through however slow the machine is.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// At one a second the promotions take this. The server lets one go, and at once as many as come in within a second; each
/// of the others waits for its own. Two replicas with a limit each would take 2 s.
const SECONDS: f64 = 4.0;
/// Between the moment at which the server lets one go and the one that it writes down.
const SLACK: f64 = 0.5;

/// A change of routing, by the server's clock.
#[derive(Debug)]
struct Handed {
    /// When the rollout has asked for it.
    asked: Timestamp,
    /// When it was handed out.
    at: Timestamp,
    /// To which replica.
    to: String,
}

fn changes(history: &[HistoryEvent]) -> Result<Vec<Handed>> {
    let (mut asked, mut handed) = (BTreeMap::new(), Vec::new());
    for event in history {
        let at = written_at(event).context("a time")?;
        match &event.attributes {
            Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) => {
                let on = scheduled.task_queue.as_ref();
                if on.is_some_and(|on| on.name == queue::ROUTING) {
                    asked.insert(event.event_id, at);
                }
            }
            Some(Attributes::ActivityTaskStartedEventAttributes(started)) => {
                if let Some(asked) = asked.get(&started.scheduled_event_id) {
                    handed.push(Handed {
                        asked: *asked,
                        at,
                        to: started.identity.clone(),
                    });
                }
            }
            _ => {}
        }
    }
    Ok(handed)
}

/// The changes of the one rollout to this tag.
async fn changes_of(env: &Env, process: &Process, tag: &str) -> Result<Vec<Handed>> {
    let (name, uid) = (process.name_any(), process.uid().unwrap_or_default());
    let rollouts = format!("rollout/{}/{name}/{uid}/{tag}-", env.namespace);
    let ids = env.workflows(&rollouts).await?;
    ensure!(ids.len() == 1, "one rollout of {name}: {ids:?}");
    changes(&env.temporal.history(&env.control, &ids[0]).await?)
}

/// The changes of all to this tag, in the order in which they were handed out. The server writes that down when they
/// have come to their end, which may be after the status knows.
async fn changes_to(env: &Env, processes: &[Process], tag: &str) -> Result<Vec<Handed>> {
    let mut handed = until(&format!("each has its change to {tag}"), SOON, async || {
        let mut handed = Vec::new();
        for process in processes {
            handed.extend(changes_of(env, process, tag).await?);
        }
        ensure!(handed.len() == NAMES.len(), "one of each: {handed:?}");
        Ok(handed)
    })
    .await?;
    handed.sort_by_key(|change| change.at);
    Ok(handed)
}

/// Waits until all of them are so.
async fn all(env: &Env, what: &str, met: impl Fn(&Process) -> bool + Copy) -> Result<Vec<Process>> {
    let each = NAMES.map(|name| env.wait_process(name, what, SOON, met));
    futures::future::try_join_all(each).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_together_change_routing_no_faster_than_the_limit() -> Result<()> {
    let env = Env::new("rate").await?;
    let invariants = Invariants::start(&env)?;
    let named = |name: &str| OperatorOptions {
        instance: Some(name.into()),
        args: vec!["--routing-changes-per-second".into(), "1".into()],
        ..OperatorOptions::default()
    };
    let one = Operator::start(&env, named("operator-0")).await?;
    let two = Operator::start(&env, named("operator-1")).await?;
    for name in NAMES {
        env.apply(&manifest(&env, name, "v1")).await?;
    }
    let settled = all(&env, "v1 has settled", |it| is_settled(it, "v1")).await?;
    let mut handed = changes_to(&env, &settled, "v1").await?;
    for name in NAMES {
        let manual = json!({ "strategy": "Manual" });
        env.patch(name, &change("v2", &[], &manual)).await?;
    }
    let waits = |process: &Process| rollout(process).stage == "WaitingForPromotion";
    let waiting = all(&env, "v2 waits to be promoted", waits).await?;
    let promoted = waiting.iter().map(|process| env.grant(process, "promote"));
    futures::future::try_join_all(promoted).await?;
    all(&env, "v2 has settled", |it| is_settled(it, "v2")).await?;
    let promotions = changes_to(&env, &settled, "v2").await?;
    let (first, last) = promotions
        .first()
        .zip(promotions.last())
        .context("changes")?;
    let took = last.at.duration_since(first.at).as_secs_f64();
    let waited = |change: &Handed| change.at.duration_since(change.asked).as_secs_f64();
    let held = promotions.iter().filter(|it| waited(it) > SLACK).count();
    println!(
        "{} changes in {took:.1} s, {held} of them waited in the queue",
        promotions.len()
    );
    ensure!(
        took > SECONDS - SLACK,
        "faster than one a second: {promotions:?}"
    );
    ensure!(held > 0, "it was the queue that held them: {promotions:?}");
    handed.extend(promotions);
    for replica in ["operator-0@", "operator-1@"] {
        let took_part = handed.iter().any(|change| change.to.starts_with(replica));
        ensure!(took_part, "{replica} made none: {handed:?}");
    }
    futures::future::try_join_all(NAMES.map(|name| env.leave(name))).await?;
    // Nothing is left that could happen.
    let brief = Duration::from_secs(1);
    invariants.hold(&env, &[&one, &two], brief).await?;
    env.remove().await
}
