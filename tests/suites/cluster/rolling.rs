//! Workflows go to pods of the right version, before, during and after a change.

use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_harness::{Env, Invariants, Operator, OperatorOptions, condition, manifest};

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_answered_by_the_right_version_and_open_ones_finish_on_their_own()
-> Result<()> {
    let env = Env::new("rolling").await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    let (resolved, reason, message) = condition(&settled, "DefinitionResolved");
    ensure!(
        resolved == "True" && reason == "OpaqueReference",
        "{resolved} {reason} {message}"
    );

    let before = env.temporal.quick(&env.apps, "l2o-tq", "before").await?;
    ensure!(before.build_id.starts_with("v1-"), "{before:?}");
    ensure!(
        before.definition_id == "L2O_v3" && before.tenant_id == "t123",
        "{before:?}"
    );
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;

    env.set_tag("l2o", "v2").await?;
    env.wait_process(
        "l2o",
        "v2 current while v1 drains",
        Duration::from_secs(60),
        |process| {
            let draining = process.status.as_ref().is_some_and(|status| {
                status
                    .draining
                    .iter()
                    .any(|version| version.build_id.starts_with("v1-"))
            });
            process_operator_harness::is_current(process, "v2") && draining
        },
    )
    .await?;
    let after = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(after.build_id.starts_with("v2-"), "{after:?}");
    ensure!(
        env.deployments("l2o").await?.len() == 2,
        "v1 keeps its pods while a workflow is pinned to it"
    );

    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.started_on == before.build_id, "{finished:?}");
    ensure!(
        finished.completed_on == before.build_id,
        "it completes on its own version: {finished:?}"
    );
    env.wait_settled("l2o", "v2").await?;
    let left = env.deployments("l2o").await?;
    ensure!(
        left.len() == 1,
        "the superseded version is gone: {}",
        left.len()
    );
    invariants
        .hold(&env, &[&operator], Duration::from_secs(10))
        .await?;
    env.remove().await
}
