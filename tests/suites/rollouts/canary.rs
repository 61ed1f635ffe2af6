//! A canary on its way.

use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_harness::{Scene, Traffic, condition};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, now, rollout, routed, told};

#[tokio::test(flavor = "multi_thread")]
async fn three_steps_are_taken_by_timers_and_no_workflow_is_lost() -> Result<()> {
    let (scene, _) = Scene::settled("steps").await?;
    let env = &scene.env;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    let steps = json!([
        { "weight": 10, "pause": { "durationSeconds": 3 } },
        { "weight": 25, "pause": { "durationSeconds": 3 } },
        { "weight": 50, "pause": { "durationSeconds": 3 } },
    ]);
    env.patch("l2o", &change("v2", &[], &canary(&steps)))
        .await?;
    for (step, weight) in [(1, 10), (2, 25), (3, 50)] {
        let process = at_step(env, step).await?;
        let seen = rollout(&process);
        ensure!(seen.steps == 3 && seen.weight == weight, "{seen:?}");
        ensure!(seen.next_step_time.is_some(), "{seen:?}");
        ensure!(condition(&process, "Progressing").0 == "True");
        ensure!(condition(&process, "Ready").0 == "True");
        #[allow(clippy::cast_precision_loss, reason = "a percentage is exact")]
        routed(env, "v1", "v2", weight as f32).await?;
    }
    env.wait_process("l2o", "v2 is current", SOON, |process| {
        process_operator_harness::is_current(process, "v2")
    })
    .await?;
    let answers = traffic.stop().await?;
    answers.all_answered()?;
    ensure!(answers.of("v1") > 0 && answers.of("v2") > 0, "{answers:?}");
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(
        finished.completed_on.starts_with("v1-"),
        "it completes where it began: {finished:?}"
    );
    let settled = env.wait_settled("l2o", "v2").await?;
    let history = told(&settled);
    let weights = history
        .iter()
        .filter(|what| *what == "WeightChanged")
        .count();
    ensure!(weights == 3, "{history:?}");
    ensure!(
        rollout(&now(env).await?) == rollout(&settled),
        "the rollout is over"
    );
    ensure!(
        settled
            .status
            .is_some_and(|status| status.rollout.is_none())
    );
    scene.finish().await
}
