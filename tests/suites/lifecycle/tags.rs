//! Tags that are expected to move.

use anyhow::{Result, ensure};
use process_operator_harness::condition;
use serde_json::json;

use crate::support::{SOON, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_may_move_is_told_and_no_longer_when_it_is_held() -> Result<()> {
    let (scene, settled) = Scene::settled("tags").await?;
    let env = &scene.env;
    let (status, reason, _) = condition(&settled, "MutableTag");
    ensure!(
        status == "False" && reason == "AsExpected",
        "{status} {reason}"
    );

    let policy = |policy: &str| json!({ "spec": { "imagePullPolicy": policy } });
    env.patch("l2o", &policy("Always")).await?;
    let told = env
        .wait_process("l2o", "told", SOON, |process| {
            condition(process, "MutableTag").0 == "True"
        })
        .await?;
    let (_, reason, message) = condition(&told, "MutableTag");
    ensure!(reason == "TagMayMove", "{reason}");
    for part in [
        "process-example-worker:v1",
        "spec.image by digest",
        "IfNotPresent",
    ] {
        ensure!(message.contains(part), "{message}");
    }
    ensure!(condition(&told, "Ready").0 == "True", "v1 serves");

    env.patch("l2o", &policy("IfNotPresent")).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    ensure!(condition(&settled, "MutableTag").0 == "False", "held again");
    scene.finish().await
}
