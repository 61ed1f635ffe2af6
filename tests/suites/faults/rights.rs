//! Rights in Kubernetes as an earlier release had them.

use anyhow::{Result, ensure};
use process_operator_faultproxy::{Action, Answer, RequestMatch};
use process_operator_harness::{condition, manifest};
use serde_json::json;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_to_cron_jobs_all_else_is_done_and_what_lacks_it_says_so() -> Result<()> {
    let world = World::empty("rights").await?;
    let refused = Answer::status(403)
        .reason("Forbidden")
        .message("cronjobs.batch is forbidden");
    let about = RequestMatch::any().resource("cronjobs");
    let rule = world.kube.rule(about, Action::Answer(refused));
    world.start(true).await?;
    let env = &world.env;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;

    let job =
        json!({ "name": "sla", "purpose": "SLACheck", "schedule": "0 3 * * *", "args": ["check"] });
    env.patch(NAME, &json!({ "spec": { "cronJobs": [job] } }))
        .await?;
    let told = env
        .wait_process(NAME, "the right is named", SOON, |process| {
            let (status, reason, message) = condition(process, "Degraded");
            status == "True" && reason == "Forbidden" && message.contains("cronjobs.batch")
        })
        .await?;
    ensure!(condition(&told, "Ready").0 == "True", "it serves");
    ensure!(rule.hits() > 1, "it was asked for");
    rule.remove();
    env.patch(NAME, &json!({ "spec": { "cronJobs": null } }))
        .await?;
    at_rest(&world, "v1").await?;
    world.finish().await
}
