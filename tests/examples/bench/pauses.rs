//! How long a weight is held, as the task queue has it: what new workflows are routed by.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Env, until};
use serde_json::json;

use crate::rollout::{SOON, canary, known, remove, seconds, settled};

/// A weight is seen at most so late, and taken for held so much longer or shorter.
const BETWEEN: Duration = Duration::from_millis(20);

/// `BENCH_PAUSES`, in seconds and separated by commas, makes a run shorter.
fn pauses() -> Vec<i64> {
    let given = std::env::var("BENCH_PAUSES").unwrap_or_default();
    let given: Vec<i64> = given
        .split(',')
        .filter_map(|text| text.trim().parse().ok())
        .collect();
    if given.is_empty() {
        vec![30, 31, 35, 38]
    } else {
        given
    }
}

/// How much longer than asked for a weight is held, several Processes side by side.
pub(crate) async fn overshoots(env: &Env) -> Result<()> {
    let pauses = pauses();
    let mut processes = Vec::new();
    for pause in &pauses {
        processes.push(settled(env, &format!("pause{pause}")).await?);
    }
    let runs = pauses
        .iter()
        .zip(&processes)
        .map(|(pause, process)| overshoot(env, process, *pause));
    let found = futures::future::try_join_all(runs).await?;
    for (pause, overs) in pauses.iter().zip(found) {
        let told: Vec<String> = overs
            .iter()
            .map(|(over, told)| format!("{over:.2} s ({told:.2} s)"))
            .collect();
        println!(
            "overshoot of pauses of {pause} s (of it until the operator knew that the task queue has the weight): {}",
            told.join(", ")
        );
    }
    for process in processes {
        remove(env, &process.name_any()).await?;
    }
    Ok(())
}

/// Of two pauses: how much longer the weight was held, and the part of that before the pause counts.
async fn overshoot(env: &Env, process: &Process, pause: i64) -> Result<Vec<(f64, f64)>> {
    let name = process.name_any();
    let held = json!({ "durationSeconds": pause });
    let steps = json!([
        { "weight": 10, "pause": held }, { "weight": 20, "pause": held }, { "weight": 30, "pause": {} },
    ]);
    env.patch(&name, &canary(&steps)).await?;
    let mut set = Vec::new();
    for weight in [10.0, 20.0, 30.0] {
        set.push(routed(env, process, weight).await?);
    }
    let known = until("the last weight is known", SOON, async || {
        let known = known(env, process).await?;
        anyhow::ensure!(known.len() >= 3, "{} of 3", known.len());
        anyhow::Ok(known)
    })
    .await?;
    let asked = SignedDuration::from_secs(pause).as_secs_f64();
    let overs = set.windows(2).zip(known).map(|(pair, known)| match pair {
        [this, next] => (seconds(*this, *next) - asked, seconds(*this, known)),
        _ => (f64::NAN, f64::NAN),
    });
    Ok(overs.collect())
}

/// When the task queue of a Process began to route this share.
async fn routed(env: &Env, process: &Process, percent: f32) -> Result<Timestamp> {
    let queue = &process.spec.temporal.task_queue;
    let watched = async {
        loop {
            let found = env.temporal.ramping_percent(&env.apps, queue).await?;
            if found.is_some_and(|found| (found - percent).abs() < 0.01) {
                return anyhow::Ok(Timestamp::now());
            }
            tokio::time::sleep(BETWEEN).await;
        }
    };
    tokio::time::timeout(SOON, watched)
        .await
        .with_context(|| format!("{queue} never at {percent} %"))?
}
