//! What follows when nothing holds a version any more.

use anyhow::{Result, ensure};
use process_operator_harness::{Scene, condition, until};
use serde_json::json;

use crate::support::{QUEUE, SOON, on_v1, open, replicas, retired, set_drain, tells, to_v2};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_pods_gets_them_back_with_its_work() -> Result<()> {
    let scene = Scene::new("again").await?;
    let env = &scene.env;
    let delays = json!({ "scaleDownDelaySeconds": 0, "deleteDelaySeconds": 600 });
    on_v1(env, &delays, &[]).await?;
    open(env, "old", 1, false).await?;
    let (_, version) = to_v2(env, 1).await?;
    let build_id = version.build_id.as_str();
    ensure!(replicas(env, build_id).await? == Some(1));
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    let gone = async || {
        until("v1 has no pods", SOON, async || {
            ensure!(replicas(env, build_id).await? == Some(0));
            Ok(())
        })
        .await?;
        env.wait_process("l2o", "nothing drains", SOON, |process| {
            condition(process, "Draining").0 == "False"
        })
        .await
    };
    gone().await?;
    let deployment = format!("{}/l2o", env.namespace);
    // It completes its first task: there is a worker again.
    env.temporal
        .start_waiting_as(
            &env.apps,
            QUEUE,
            "late-0",
            false,
            Some((&deployment, build_id)),
        )
        .await?;
    ensure!(
        replicas(env, build_id).await? == Some(1),
        "its pods are back"
    );
    tells(env, "DrainResumed").await?;
    let output = env.temporal.finish_waiting(&env.apps, "late-0").await?;
    ensure!(output.completed_on == build_id, "{output:?}");
    gone().await?;
    // Told while it is kept, it does not wait for the ten minutes.
    set_drain(env, &json!({ "deleteDelaySeconds": 0 })).await?;
    retired(env).await?;
    let info = env
        .temporal
        .worker_deployment(&env.apps, &deployment)
        .await?;
    let versions = info.map(|info| info.version_summaries).unwrap_or_default();
    ensure!(versions.len() == 1, "the record of v1 is gone");
    scene.finish().await
}
