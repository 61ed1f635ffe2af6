//! How fast routing is changed: one limit holds for all replicas together.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_crds::names::queue;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, is_current, manifest, written_at,
};
use serde_json::json;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::support::{SOON, canary, change};

/// Side by side they ask for more than a limit of each replica would let through.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// Two steps and what makes the version Current.
const EACH: usize = 3;
/// At one a second all of them take this. The server lets one go, and at once as many as come in within a second; each of
/// the others waits for its own. Two replicas with a limit each would take 3 s.
const SECONDS: f64 = 7.0;
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

/// Waits until all have this version.
async fn current(env: &Env, tag: &str) -> Result<Vec<Process>> {
    let each = NAMES.map(|name| async move {
        let what = format!("{tag} is current");
        env.wait_process(name, &what, SOON, |process| is_current(process, tag))
            .await
    });
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
    current(&env, "v1").await?;
    let steps = canary(&json!([{ "weight": 20 }, { "weight": 60 }]));
    for name in NAMES {
        env.patch(name, &change("v2", &[], &steps)).await?;
    }
    let mut handed = Vec::new();
    for process in current(&env, "v2").await? {
        handed.extend(changes_of(&env, &process, "v2").await?);
    }
    handed.sort_by_key(|change| change.at);
    ensure!(handed.len() == NAMES.len() * EACH, "{handed:?}");
    let (first, last) = handed.first().zip(handed.last()).context("changes")?;
    let took = last.at.duration_since(first.at).as_secs_f64();
    let waited = |change: &Handed| change.at.duration_since(change.asked).as_secs_f64();
    let held = handed.iter().filter(|it| waited(it) > SLACK).count();
    println!(
        "{} changes in {took:.1} s, {held} of them waited in the queue",
        handed.len()
    );
    ensure!(
        took > SECONDS - SLACK,
        "faster than one a second: {handed:?}"
    );
    ensure!(held > 0, "it was the queue that held them: {handed:?}");
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
