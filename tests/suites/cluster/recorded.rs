//! Scenarios whose histories are kept: all later code must replay them.

use std::time::Duration;

use anyhow::Result;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, is_current, json_payload, manifest,
};

/// Create, roll with an open workflow on the old version, roll back while it drains, suspend,
/// resume, a refused signal, a new version that never serves, its correction, deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_through_everything_it_can_meet() -> Result<()> {
    let env = Env::new("recorded").await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    let soon = Duration::from_secs(60);
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let created = env.wait_settled("l2o", "v1").await?;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v2 current", soon, |process| {
        is_current(process, "v2")
    })
    .await?;
    env.temporal
        .record_histories(&env.control, "draining")
        .await?;

    env.set_tag("l2o", "v1").await?;
    env.wait_settled("l2o", "v1").await?;
    env.temporal.finish_waiting(&env.apps, "long").await?;

    let suspend = serde_json::json!({ "spec": { "suspend": true } });
    env.patch("l2o", &suspend).await?;
    env.set_tag("l2o", "v3").await?;
    env.wait_process("l2o", "suspended", soon, |process| {
        process_operator_harness::condition(process, "Progressing").1 == "Suspended"
    })
    .await?;
    env.patch("l2o", &serde_json::json!({ "spec": { "suspend": false } }))
        .await?;
    env.wait_settled("l2o", "v3").await?;

    let id = format!(
        "process/{}/l2o/{}",
        env.namespace,
        created.metadata.uid.unwrap_or_default()
    );
    let nonsense = json_payload(&serde_json::json!("not an object"));
    env.temporal
        .signal(&env.control, &id, "changed", vec![nonsense])
        .await?;

    let broken = serde_json::json!({ "spec": {
        "rollout": { "progressDeadlineSeconds": 5 },
        "worker": { "env": [{ "name": "CRASH_AT_START", "value": "1" }] },
    } });
    env.patch("l2o", &broken).await?;
    env.wait_process("l2o", "stalled", soon, |process| {
        process_operator_harness::condition(process, "Stalled").1 == "ProgressDeadlineExceeded"
    })
    .await?;
    env.temporal
        .record_histories(&env.control, "stalled")
        .await?;
    env.patch(
        "l2o",
        &serde_json::json!({ "spec": { "worker": { "env": null } } }),
    )
    .await?;
    env.wait_settled("l2o", "v3").await?;
    invariants
        .hold(&env, &[&operator], Duration::from_secs(3))
        .await?;

    env.kubectl(
        &["delete", "process", "l2o", "--wait=true", "--timeout=60s"],
        "",
    )?;
    env.temporal
        .wait_closed(&env.control, &id, Duration::from_secs(120))
        .await?;
    env.temporal
        .record_histories(&env.control, "deleted")
        .await?;
    env.remove().await
}
