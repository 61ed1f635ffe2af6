//! F31: as much as a Process may say, and servers that say more than anybody wants to read. Histories hold
//! references and short messages; nothing comes near Temporal's limits.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, Answer};
use process_operator_harness::{condition, is_settled, lifecycle_id, manifest};
use serde_json::{Value, json};

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// Bytes. Temporal warns from 256 KiB on and refuses from 2 MiB on.
const LARGEST: usize = 64 * 1024;

/// Variables with so many characters each.
fn variables(count: usize, length: usize) -> Value {
    let value = "x".repeat(length);
    let all = (0..count).map(|n| json!({ "name": format!("V{n}"), "value": value }));
    json!(all.collect::<Vec<_>>())
}

/// No event of a workflow about the Process is large.
async fn histories_are_small(world: &World, process: &Process) -> Result<()> {
    let env = &world.env;
    let mut ids = vec![lifecycle_id(process)];
    ids.extend(
        env.workflows(&format!("rollout/{}/", env.namespace))
            .await?,
    );
    for id in ids {
        let history = env.temporal.history(&env.control, &id).await?;
        let size = |event| serde_json::to_vec(event).map_or(0, |text| text.len());
        let largest = history.iter().map(size).max().unwrap_or_default();
        println!(
            "{id}: {} events, the largest {largest} bytes",
            history.len()
        );
        ensure!(largest <= LARGEST, "{id}: an event of {largest} bytes");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_of_more_than_a_megabyte_serves_and_one_beyond_all_bounds_is_refused() -> Result<()>
{
    let world = World::new("f31spec").await?;
    let env = &world.env;
    let mut wanted = manifest(env, NAME, "v1");
    wanted["spec"]["worker"]["env"] = variables(88, 16_000);
    let process = env.apply(&wanted).await?;
    at_rest(&world, "v1").await?;
    histories_are_small(&world, &process).await?;

    let mut more = wanted.clone();
    more["spec"]["worker"]["env"] = variables(5_000, 1);
    let refused = env.apply(&more).await.err().context("it was accepted")?;
    let refused = format!("{refused:#}");
    ensure!(
        refused.contains("spec.worker.env") && refused.contains("at most 100 items"),
        "{refused}"
    );
    // What is stored just so, and is too large with what is added to it.
    more["spec"]["worker"]["env"] = variables(98, 16_000);
    let stored = env.apply(&more).await;
    println!(
        "98 variables: {:?}",
        stored.as_ref().err().map(ToString::to_string)
    );
    if stored.is_ok() {
        let generation = stored?.metadata.generation;
        let said = env
            .wait_process(NAME, "it serves, or says why not", SOON, |process| {
                let seen = process
                    .status
                    .as_ref()
                    .and_then(|it| it.observed_generation);
                let why = condition(process, "Degraded");
                seen == generation && (is_settled(process, "v1") || why.0 == "True")
            })
            .await?;
        let (status, reason, message) = condition(&said, "Degraded");
        println!("{status} {reason} {message}");
        ensure!(condition(&said, "Ready").0 == "True", "what served serves");
        ensure!(
            status == "False" || message.contains("too large"),
            "{message}"
        );
    }
    env.patch(NAME, &json!({ "spec": { "worker": { "env": null } } }))
        .await?;
    at_rest(&world, "v1").await?;
    histories_are_small(&world, &process).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_many_words_is_told_in_some_of_them() -> Result<()> {
    let world = World::new("f31words").await?;
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    // In every language: a cut in the middle of a character would be no text.
    let words = format!("not before Monday {}", "ö€".repeat(60_000));
    let answer = Answer::status(403).reason("Forbidden").message(&words);
    let writes = world.writes().resource("deployments");
    let rule = world.kube.rule(writes, Action::Answer(answer));
    env.set_tag(NAME, "v2").await?;
    rule.wait_hits(4, SOON).await?;
    let told = env
        .wait_process(NAME, "the refusal is told", SOON, |process| {
            condition(process, "Degraded")
                .2
                .contains("not before Monday")
        })
        .await?;
    for condition in told.status.iter().flat_map(|status| &status.conditions) {
        let length = condition.message.len();
        ensure!(length <= 16 * 1024, "{}: {length} bytes", condition.type_);
    }
    let size = serde_json::to_vec(&told)?.len();
    ensure!(size <= LARGEST, "the Process has {size} bytes");
    for (reason, note) in env.events(&process).await? {
        ensure!(note.len() <= 1024, "{reason}: {} bytes", note.len());
    }
    histories_are_small(&world, &process).await?;
    rule.remove();
    at_rest(&world, "v2").await?;
    world.finish().await
}
