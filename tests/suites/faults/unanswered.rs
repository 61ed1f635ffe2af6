//! F23: Temporal is there and answers pings, and one kind of read is not answered.

use anyhow::{Result, ensure};
use process_operator_faultproxy::{Action, RpcMatch};
use process_operator_harness::{condition, counts, lifecycle_id, manifest, until};

use crate::scenario::{at_rest, idle};
use crate::world::{NAME, SOON, World};

/// The lifecycle is told that Temporal answers, looks again, and finds silence once more: it says the same as before, and
/// goes on all the same when it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_not_answered_twice_is_made_once_more() -> Result<()> {
    let world = World::new("f23read").await?;
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let reads = RpcMatch::method("DescribeWorkerDeployment");
    let silence = world.temporal.rule(reads, Action::Hang(None));
    env.set_tag(NAME, "v2").await?;
    env.wait_process(NAME, "it is not answered", SOON, |process| {
        condition(process, "TemporalReachable").1 == "TemporalUnavailable"
    })
    .await?;
    let id = lifecycle_id(&process);
    let signals = async || {
        let history = env.temporal.history(&env.control, &id).await?;
        let signals = counts(&history)
            .get("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")
            .copied();
        anyhow::Ok(signals.unwrap_or_default())
    };
    let told = signals().await?;
    until("it has looked once more", SOON, async || {
        let now = signals().await?;
        ensure!(now > told, "{now} signals");
        idle(&world).await
    })
    .await?;
    silence.remove();
    at_rest(&world, "v2").await?;
    world.finish().await
}
