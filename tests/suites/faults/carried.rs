//! F27: a lifecycle cannot look for so long that it hands over to its next run. What people have asked for
//! meanwhile, and what its drain has told, is not lost with the run.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use process_operator_faultproxy::{Action, Answer, RequestMatch, Verb};
use process_operator_harness::{Env, condition, json_payload, lifecycle_id, until};
use serde_json::json;

use crate::drains::{counted, drain_id, held, on_v1, tells};
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// More than the events after which a run hands over.
const MANY: usize = 2100;
/// Signals at once: far from the hundred that may wait for the end of a workflow task, beyond which the server gives
/// the task up.
const AT_ONCE: usize = 30;
/// A back-off, beside the signals.
const HANDOVER: Duration = Duration::from_secs(180);

/// Runs of the lifecycle.
async fn runs(env: &Env, id: &str) -> Result<usize> {
    let query = format!("WorkflowId = '{id}'");
    Ok(env.temporal.list(&env.control, &query).await?.len())
}

/// Waits until no signal waits for the end of a workflow task.
async fn taken_in(env: &Env, id: &str) -> Result<()> {
    until("signals are taken in", SOON, async || {
        let latest = env.temporal.describe(&env.control, id).await?;
        ensure!(
            latest.pending_workflow_task.is_none(),
            "a task is under way"
        );
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_nothing_can_be_looked_at_outlasts_the_run() -> Result<()> {
    let world = World::new("f27l").await?;
    let env = &world.env;
    let policy = json!({ "timeoutSeconds": 3600, "onTimeout": "Cancel" });
    let process = on_v1(&world, &policy, 3).await?;
    env.set_tag(NAME, "v2").await?;
    held(env, 3).await?;
    let drain = drain_id(env, &process).await?;
    let id = lifecycle_id(&process);

    let looks = RequestMatch::any()
        .verb(Verb::List)
        .resource("controllerrevisions");
    let refusal = Answer::status(500).reason("InternalError");
    let rule = world.kube.rule(looks, Action::Answer(refusal));
    let order = json!({ "action": "Terminate", "actor": "ada", "reason": "before the handover" });
    env.temporal
        .signal(
            &env.control,
            &id,
            "forceCancelDrain",
            vec![json_payload(&order)],
        )
        .await?;
    rule.wait_hits(2, SOON).await?;
    // By update somebody waits for an answer, and gets it.
    let nothing = json!({});
    let update = env.ask(&process, "restart", &nothing);
    let signals = async {
        for _ in 0..MANY.div_ceil(AT_ONCE) {
            let some = (0..AT_ONCE).map(|_| {
                // A rollout that is not known: the history grows, and nothing else.
                let payloads = vec![json_payload(&json!({ "id": "another" }))];
                env.temporal.signal(&env.control, &id, "progress", payloads)
            });
            futures::future::try_join_all(some).await?;
            taken_in(env, &id).await?;
        }
        until("the next run", HANDOVER, async || {
            let runs = runs(env, &id).await?;
            ensure!(runs == 2, "{runs} runs");
            Ok::<_, anyhow::Error>(())
        })
        .await
    };
    let (answer, handed_over) = tokio::join!(tokio::time::timeout(HANDOVER, update), signals);
    handed_over?;
    let refused = answer.context("no answer")??;
    let why = refused.err().context("it cannot have been carried out")?;
    ensure!(why.contains("ask again"), "{why}");
    ensure!(
        env.count_crowd("old", "Running").await? == 3,
        "nobody has looked"
    );
    rule.remove();

    counted(env, "old", "Terminated", 3).await?;
    let reasons = tells(env, "DrainForced").await?;
    ensure!(
        reasons.len() == 1 && reasons[0].contains("before the handover"),
        "{drain}: {reasons:?}"
    );
    at_rest(&world, "v2").await?;
    let events = env.events(&process).await?;
    let restarts = events
        .iter()
        .filter(|(reason, _)| reason == "RestartRequested");
    ensure!(restarts.count() == 0, "what was refused is not done later");
    let now = env
        .api::<process_operator_crds::Process>()
        .get(NAME)
        .await?;
    ensure!(condition(&now, "Ready").0 == "True", "{now:?}");
    world.leave().await
}
