//! A drain among faults where each version has a task queue of its own.

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use process_operator_crds::{Process, names};
use process_operator_faultproxy::{Action, RequestMatch};
use process_operator_harness::manifest;
use serde_json::json;

use crate::drains::{count, counted, passed, tells};
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// F06: the operator dies with the change of routing, so that nobody has begun a drain when its deadline
/// passes. The routing says when its version was current last: nothing begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_nobody_saw_ends_by_its_policy_at_once() -> Result<()> {
    let world = World::new("f06queue").await?;
    let env = &world.env;
    let mut wanted = manifest(env, NAME, "v1");
    wanted["spec"]["rollout"] = json!({ "versioning": "TaskQueuePerVersion" });
    wanted["spec"]["drain"] = json!({ "timeoutSeconds": 10, "onTimeout": "Terminate" });
    env.apply(&wanted).await?;
    at_rest(&world, "v1").await?;
    env.guard_versions(NAME);
    let process = env.api::<Process>().get(NAME).await?;
    let status = process.status.context("status")?;
    let queue = status.task_queue.context("a queue")?;
    let old = status.current_version.context("current")?.build_id;
    env.open_crowd(&queue, "old", 3, false).await?;

    let routing = names::routing_name(NAME);
    let written = RequestMatch::writes()
        .resource("configmaps")
        .name(&routing)
        .first(1);
    let written = world.kube.rule(written, Action::kill_after(world.killer()));
    env.set_tag(NAME, "v2").await?;
    written.wait_done(1, SOON).await?;
    let map = env.api::<ConfigMap>().get(&routing).await?;
    let served = map.annotations().get(names::annotation::SERVED);
    let served: std::collections::BTreeMap<String, Timestamp> =
        serde_json::from_str(served.context("what served")?)?;
    let left = served.get(&old).context("v1 has served")?;
    let due = *left + SignedDuration::from_secs(10);
    passed(due).await?;
    ensure!(
        count(env, "old", "Running").await? == 3,
        "nobody is there to end them"
    );

    let begun = Timestamp::now();
    world.start(true).await?;
    counted(env, "old", "Terminated", 3).await?;
    let took = Timestamp::now().duration_since(begun).as_secs();
    ensure!(took < 10, "the time was not waited for again: {took} s");
    let reasons = tells(env, "DrainTimedOut").await?;
    ensure!(
        reasons.len() == 1 && reasons[0].starts_with("Terminate: 3 running workflows"),
        "{reasons:?}"
    );
    tells(env, "VersionRetired").await?;
    world.leave().await
}
