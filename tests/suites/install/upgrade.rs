//! From an earlier revision of the operator to this one: `cargo xtask test --upgrade-from <revision>`. Without that
//! the earlier one is this one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, QUIET, SOON, Traffic, condition, is_current,
    manifest, until, version,
};
use serde_json::json;

use crate::release::at_weight;
use crate::support::root;

/// Long enough for a replica to be replaced, with time to spare.
const PAUSE: i64 = 30;

/// What `cargo xtask` has made of the earlier revision.
fn earlier(what: &str) -> Option<PathBuf> {
    std::env::var_os(format!("PROCESS_OPERATOR_EARLIER_{what}")).map(PathBuf::from)
}

fn define(env: &Env, definition: &Path) -> Result<()> {
    let file = definition.to_string_lossy();
    env.kubectl(
        &["apply", "--server-side", "--force-conflicts", "-f", &file],
        "",
    )?;
    Ok(())
}

async fn start(env: &Env, instance: &str, program: Option<PathBuf>) -> Result<Operator> {
    let options = OperatorOptions {
        instance: Some(instance.to_owned()),
        program,
        ..OperatorOptions::default()
    };
    Operator::start(env, options).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "cargo xtask test --upgrade-from names the earlier revision"]
async fn an_earlier_revision_is_replaced_in_mid_rollout_and_loses_nothing() -> Result<()> {
    let env = Env::new("upgrade").await?;
    // The definition is there once for all tests: nothing may run beside this one.
    if let Some(definition) = earlier("DEFINITION") {
        define(&env, &definition)?;
    }
    let invariants = Invariants::start(&env)?;
    let leaving = [
        start(&env, "earlier-0", earlier("BINARY")).await?,
        start(&env, "earlier-1", earlier("BINARY")).await?,
    ];
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;

    // A drain that stays open.
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    let traffic = Traffic::start(&env, "l2o-tq", Duration::from_millis(200));
    env.patch("l2o", &version("v2", &[])).await?;
    env.wait_process("l2o", "v2 is current while v1 drains", SOON, |process| {
        is_current(process, "v2") && condition(process, "Draining").0 == "True"
    })
    .await?;

    // And a rollout in the middle.
    let mut change = version("v3", &[]);
    let pause = json!({ "durationSeconds": PAUSE });
    change["spec"]["rollout"] = json!({
        "strategy": "Canary",
        "steps": [{ "weight": 20, "pause": pause }, { "weight": 50, "pause": pause }],
    });
    env.patch("l2o", &change).await?;
    at_weight(&env, 20).await?;

    // The definition first, as the documentation says, then one replica after the other.
    define(&env, &root().join("crds/processes.ameide.io.yaml"))?;
    let first = start(&env, "present-0", None).await?;
    leaving[0].stop().await?;
    at_weight(&env, 50).await?;
    let second = start(&env, "present-1", None).await?;
    leaving[1].kill();

    env.wait_process("l2o", "v3 is current while v1 drains", SOON, |process| {
        is_current(process, "v3") && condition(process, "Draining").0 == "True"
    })
    .await?;
    let answers = traffic.stop().await?;
    answers.all_answered()?;
    for tag in ["v1", "v2", "v3"] {
        anyhow::ensure!(answers.of(tag) > 0, "{tag}: {answers:?}");
    }
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    anyhow::ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    env.wait_settled("l2o", "v3").await?;
    // No workflow task failed: what the earlier revision wrote replays.
    invariants.hold(&env, &[&first, &second], QUIET).await?;

    env.kubectl(&["delete", "process", "l2o", "--timeout=90s"], "")?;
    until("all lifecycles are closed", SOON, async || {
        let open = env
            .temporal
            .list(&env.control, "ExecutionStatus = 'Running'")
            .await?;
        anyhow::ensure!(open.is_empty(), "{} are open", open.len());
        Ok(())
    })
    .await?;
    env.remove().await
}
