//! F41: a Process changes while the operator looks at it, or while it writes down what it saw. It then acts on what is
//! there, not on what was.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use process_operator_crds::{Process, names};
use process_operator_faultproxy::{Action, RequestMatch, Verb};
use process_operator_harness::{manifest, until};
use serde_json::json;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// For so long a look is held up: longer than its result is trusted, shorter than it may take.
const SLOW: Duration = Duration::from_secs(4);
/// Until the test lets it go.
const HELD: Duration = Duration::from_secs(600);

/// A look that has read the Process waits for the rest of what it asked for, and by then another version is wanted: the
/// first one is not begun with.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_takes_long_is_not_acted_on_without_asking() -> Result<()> {
    let world = World::empty("f41look").await?;
    let env = &world.env;
    let replica = world.replica(0, |_, _| ()).await?;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;

    let reads = |verb, resource| {
        RequestMatch::any()
            .verb(verb)
            .namespace(&env.namespace)
            .resource(resource)
            .first(1)
    };
    let (list, get) = (
        reads(Verb::List, "controllerrevisions"),
        reads(Verb::Get, "processes"),
    );
    let slow = replica.kube.rule(list, Action::DelayAnswer(SLOW));
    let read = replica.kube.rule(get, Action::Pass);
    env.set_tag(NAME, "v2").await?;
    slow.wait_hits(1, SOON).await?;
    read.wait_done(1, SOON).await?;
    env.set_tag(NAME, "v3").await?;
    let over = slow.wait_done(1, Duration::ZERO).await;
    ensure!(over.is_err(), "the look was over before the change");
    at_rest(&world, "v3").await?;

    let report = replica.kube.writes(..);
    let applied = report
        .writes
        .iter()
        .filter(|write| write.kind.resource == "deployments.apps");
    let names: BTreeSet<_> = applied.map(|write| write.name.as_str()).collect();
    ensure!(names.len() == 2, "v2 was begun with: {names:?}");
    world.finish().await
}

/// Another replica has published what it did for a later change, when this one's write is refused for being late: this
/// one does not write it once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_a_later_change_is_not_taken_back() -> Result<()> {
    let world = World::empty("f41told").await?;
    let env = &world.env;
    let replica = world.replica(0, |_, _| ()).await?;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;

    let writes = RequestMatch::any()
        .verb(Verb::Apply)
        .namespace(&env.namespace)
        .resource("processes")
        .subresource("status")
        .first(1);
    let late = replica.kube.rule(writes, Action::Delay(HELD));
    env.set_tag(NAME, "v2").await?;
    late.wait_hits(1, SOON).await?;
    env.set_tag(NAME, "v3").await?;
    // In the way of another replica.
    let process = env.api::<Process>().get(NAME).await?;
    let generation = process.metadata.generation;
    let mut status = process.status.clone().context("a status")?;
    status.observed_generation = generation;
    let told = json!({
        "apiVersion": "ameide.io/v1", "kind": "Process", "metadata": { "name": NAME }, "status": status,
    });
    let params = PatchParams::apply(names::manager::OPERATOR).force();
    env.api::<Process>()
        .patch_status(NAME, &params, &Patch::Apply(&told))
        .await?;
    until("it is seen", SOON, async || {
        let seen = world.observer.states();
        let told = seen.iter().any(|it| {
            it.status
                .as_ref()
                .is_some_and(|it| it.observed_generation == generation)
        });
        ensure!(told, "{} states", seen.len());
        Ok(())
    })
    .await?;
    late.remove();
    at_rest(&world, "v3").await?;
    world.finish().await
}
