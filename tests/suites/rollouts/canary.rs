//! A canary on its way.

use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_harness::{Scene, Traffic, condition, lifecycle_id};
use serde_json::json;
use temporalio_common::protos::coresdk::common::extract_local_activity_marker_data;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

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

/// What a lifecycle did after each word of its rollout, until the next signal: the local activities, in order.
fn after_each_word(history: &[HistoryEvent]) -> Vec<Vec<String>> {
    let mut done: Vec<Vec<String>> = Vec::new();
    let mut heard = false;
    for event in history {
        match &event.attributes {
            Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal)) => {
                heard = signal.signal_name == "progress";
                if heard {
                    done.push(Vec::new());
                }
            }
            Some(Attributes::MarkerRecordedEventAttributes(marker)) if heard => {
                let of = extract_local_activity_marker_data(&marker.details);
                let is_look = of.is_some_and(|of| of.activity_type == "observe");
                let what = if is_look { "look" } else { "tell" };
                done.last_mut()
                    .into_iter()
                    .for_each(|it| it.push(what.into()));
            }
            Some(Attributes::ChildWorkflowExecutionCompletedEventAttributes(_)) => heard = false,
            _ => {}
        }
    }
    done
}

/// What a weight changes is known: only what happens beside it makes the operator look at all objects again.
#[tokio::test(flavor = "multi_thread")]
async fn a_weight_is_told_without_a_look_unless_something_else_has_happened() -> Result<()> {
    let (scene, process) = Scene::settled("told").await?;
    let env = &scene.env;
    let pause = json!({ "durationSeconds": 4 });
    let steps: Vec<_> = [10, 20, 40, 60, 80]
        .map(|weight| json!({ "weight": weight, "pause": pause }))
        .into();
    env.patch("l2o", &change("v2", &[], &canary(&json!(steps))))
        .await?;
    at_step(env, 3).await?;
    // It has one more pod than what was seen last.
    env.patch("l2o", &json!({ "spec": { "replicas": 2 } }))
        .await?;
    let scaled = at_step(env, 4).await?;
    ensure!(scaled.metadata.generation == scaled.status.and_then(|it| it.observed_generation));
    at_step(env, 5).await?;
    let settled = env.wait_settled("l2o", "v2").await?;
    let history = told(&settled);
    let weights = history.iter().filter(|it| *it == "WeightChanged").count();
    ensure!(weights == steps.len(), "{history:?}");
    let done = env
        .temporal
        .history(&env.control, &lifecycle_id(&process))
        .await?;
    let done = after_each_word(&done);
    // Beside the weights it may tell of pods that are late; and the first one comes with ready pods.
    let told_only = done.iter().filter(|it| **it == ["tell"]).count();
    ensure!(done.len() >= steps.len() && told_only >= 2, "{done:?}");
    env.temporal
        .record_histories(&env.control, "canary-told")
        .await?;
    scene.finish().await
}
