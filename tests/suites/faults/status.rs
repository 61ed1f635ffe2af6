//! F43: others write into the status: a person or a tool into the operator's part of it, another controller
//! a condition of its own type. No generation changes by that.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use process_operator_crds::Process;
use process_operator_crds::status::ProcessStatus;
use process_operator_harness::{Env, condition, is_settled, lifecycle_id, manifest, until};
use serde_json::{Value, json};

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// Type of a condition that the operator does not know.
const FOREIGN: &str = "ImageScanned";

/// Between two sweeps of the operator under test.
const SWEEP: Duration = Duration::from_secs(5);

async fn settled(name: &str) -> Result<World> {
    let world = World::new(name).await?;
    world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    Ok(world)
}

/// A person with kubectl.
fn by_hand(env: &Env, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    let patch = patch.as_str();
    let args = [
        "patch",
        "process",
        NAME,
        "--subresource=status",
        "--type=json",
        "-p",
        patch,
    ];
    env.kubectl(&args, "").map(drop)
}

/// A controller with a condition of its own.
async fn scan(env: &Env, result: &str) -> Result<()> {
    let condition = json!({
        "type": FOREIGN, "status": "True", "reason": result, "message": "by the scanner",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({
        "apiVersion": "ameide.io/v1", "kind": "Process", "metadata": { "name": NAME }, "status": { "conditions": [condition] },
    });
    let params = PatchParams::apply("image-scanner");
    let api = env.api::<Process>();
    api.patch_status(NAME, &params, &Patch::Apply(&status))
        .await?;
    Ok(())
}

async fn read(env: &Env) -> Result<ProcessStatus> {
    let status = env.api::<Process>().get(NAME).await?.status;
    status.context("a status")
}

/// Where a condition is in the list.
async fn place(env: &Env, type_: &str) -> Result<String> {
    let at = read(env).await?.conditions;
    let at = at.iter().position(|it| it.type_ == type_);
    Ok(format!("/status/conditions/{}", at.context("it is there")?))
}

/// The status but for when conditions changed, which a restored one has done twice.
fn says(status: &ProcessStatus) -> Result<Value> {
    let mut value = serde_json::to_value(status)?;
    let conditions = value["conditions"].as_array_mut();
    for condition in conditions.into_iter().flatten() {
        condition["lastTransitionTime"] = Value::Null;
    }
    value["conditions"]
        .as_array_mut()
        .context("a list")?
        .sort_by_key(|condition| condition["type"].to_string());
    Ok(value)
}

async fn restored(world: &World, before: &ProcessStatus) -> Result<()> {
    let wanted = says(before)?;
    until("the status says again what is so", SOON, async || {
        let now = says(&read(&world.env).await?)?;
        ensure!(now == wanted, "{now} was {wanted}");
        Ok(())
    })
    .await?;
    let build = before.current_version.as_ref().map(|it| &it.build_id);
    let tag = build.and_then(|build| build.split('-').next());
    at_rest(world, tag.context("a version is current")?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_is_put_right_and_their_own_condition_is_kept() -> Result<()> {
    let world = settled("f43").await?;
    let env = &world.env;
    scan(env, "Clean").await?;
    let before = read(env).await?;
    ensure!(!before.history.is_empty());

    let ready = place(env, "Ready").await?;
    let flip = json!({ "op": "replace", "path": format!("{ready}/status"), "value": "False" });
    let words = json!({ "op": "replace", "path": format!("{ready}/message"), "value": "no" });
    let build = json!({
        "op": "replace", "path": "/status/currentVersion/buildId", "value": "v9-0123456789",
    });
    let empty = json!({ "op": "replace", "path": "/status/history", "value": [] });
    let lost = json!({ "op": "remove", "path": "/status/history" });
    let less = json!({ "op": "remove", "path": place(env, "Degraded").await? });
    // Each by itself is noticed, and all at once.
    for edit in [&flip, &words, &build, &empty, &lost, &less] {
        by_hand(env, &json!([edit]))?;
        restored(&world, &before)
            .await
            .with_context(|| format!("after {edit}"))?;
        ensure!(
            condition(&env.api::<Process>().get(NAME).await?, FOREIGN).1 == "Clean",
            "after {edit}: the other controller's condition is gone"
        );
    }
    let (ready, degraded) = (place(env, "Ready").await?, place(env, "Degraded").await?);
    by_hand(
        env,
        &json!([
            { "op": "replace", "path": format!("{ready}/status"), "value": "False" },
            { "op": "replace", "path": format!("{degraded}/status"), "value": "True" },
            build, empty,
        ]),
    )?;
    restored(&world, &before).await?;

    // While nobody watches.
    world.crew.kill();
    let ready = place(env, "Ready").await?;
    by_hand(
        env,
        &json!([{ "op": "replace", "path": format!("{ready}/status"), "value": "False" }]),
    )?;
    world.start(true).await?;
    restored(&world, &before).await?;

    // What is not the operator's part is nothing to look at.
    let mark = world.kube.mark();
    scan(env, "Dirty").await?;
    world.hold().await?;
    let written = world.kube.writes(mark..);
    let status = written
        .writes
        .iter()
        .filter(|write| write.kind.subresource == "status")
        .count();
    ensure!(status == 0, "{written}");
    let now = env.api::<Process>().get(NAME).await?;
    ensure!(condition(&now, FOREIGN).1 == "Dirty" && is_settled(&now, "v1"));
    world.finish().await
}

/// The definition puts a first condition in the place of a status that is not there; one that is empty stays so.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_removed_as_a_whole_is_written_anew_and_nothing_else_is() -> Result<()> {
    let world = settled("f43all").await?;
    let env = &world.env;
    env.set_tag(NAME, "v2").await?;
    at_rest(&world, "v2").await?;
    let before = read(env).await?;
    ensure!(before.version_count == Some(2), "v1 is kept: {before:?}");
    let rollouts = lifecycle_id(&env.api::<Process>().get(NAME).await?);
    let rollouts = rollouts.replacen("process/", "rollout/", 1);
    let begun = env.workflows(&rollouts).await?.len();
    let mark = world.kube.mark();
    for edit in [
        json!({ "op": "remove", "path": "/status" }),
        json!({ "op": "replace", "path": "/status", "value": {} }),
    ] {
        by_hand(env, &json!([edit]))?;
        restored(&world, &before)
            .await
            .with_context(|| format!("after {edit}"))?;
    }
    let mut others = world.kube.writes(mark..).writes;
    others.retain(|write| write.namespace == env.namespace && write.kind.subresource != "status");
    ensure!(others.is_empty(), "written too: {others:?}");
    let now = env.workflows(&rollouts).await?.len();
    ensure!(now == begun, "{now} rollouts, {begun} before");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_again_and_again_is_answered_once_a_sweep() -> Result<()> {
    const SWEEPS: u32 = 4;
    let world = settled("f43fight").await?;
    let env = &world.env;
    let api = env.api::<Process>();
    let before = read(env).await?;
    let mark = world.kube.mark();
    let since = Instant::now();
    let mut edits = 0;
    while since.elapsed() < SWEEP * SWEEPS {
        let now = api.get(NAME).await?;
        if condition(&now, "Ready").0 == "True" {
            let ready = place(env, "Ready").await?;
            let edit = json!([
                { "op": "replace", "path": format!("{ready}/status"), "value": "False" },
                { "op": "add", "path": "/metadata/resourceVersion", "value": now.metadata.resource_version },
            ]);
            let patch = Patch::<Process>::Json(serde_json::from_value(edit)?);
            let params = PatchParams {
                field_manager: Some("gitops".into()),
                ..PatchParams::default()
            };
            // A conflict is another turn.
            if api.patch_status(NAME, &params, &patch).await.is_ok() {
                edits += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let all = world.kube.writes(mark..);
    let answers = all.writes.iter();
    let answers = answers
        .filter(|write| write.kind.subresource == "status")
        .count();
    println!("{edits} edits, {answers} answers");
    ensure!(edits > 1, "it was answered at all");
    ensure!(
        answers <= usize::try_from(SWEEPS)? + 2,
        "{answers} answers to {edits} edits in {SWEEPS} sweeps"
    );
    restored(&world, &before).await?;
    world.finish().await
}
