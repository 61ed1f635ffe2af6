//! F21: the definition of the kind is not there, goes and comes back, or is an older one.
//!
//! The cluster is shared with other tests, so its definition stays. What the operator would be answered
//! without it comes from its proxy: the page `404 page not found`, which is no `Status` and has no reason,
//! for each path of the group. An older definition is a view of the objects that lacks fields, in answers
//! and in watches, as a server prunes what it reads from its store; generations do not change by that.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, Answer, RequestMatch, RuleHandle, WatchEnd};
use process_operator_harness::{Env, manifest};
use serde_json::{Value, json};

use crate::apiserver_away::lacks;
use crate::scenario::at_rest;
use crate::signals::signal;
use crate::world::{NAME, SOON, World};

/// The group is not served, and what is open of it ends.
fn remove_definition(world: &World) -> RuleHandle {
    let of_group = RequestMatch::any().when(|request| request.path.starts_with("/apis/ameide.io"));
    let page = Answer::raw(404, "text/plain; charset=utf-8", "404 page not found\n");
    let rule = world.kube.rule(of_group, Action::Answer(page));
    list_again(world);
    rule
}

/// Nothing that was seen before stays as it was seen.
fn list_again(world: &World) {
    let watches = RequestMatch::watches().resource("processes");
    world.kube.end_watches(&watches, WatchEnd::Gone);
}

/// Deployments and pods with what would change if anybody touched them.
async fn children(env: &Env) -> Result<Vec<(String, Option<String>, Option<i64>)>> {
    let deployments = env.deployments(NAME).await?;
    let pods = env.pods(NAME).await?;
    let of_deployments = deployments
        .iter()
        .map(|it| (it.name_any(), it.uid(), it.metadata.generation));
    let of_pods = pods.iter().map(|it| (it.name_any(), it.uid(), None));
    Ok(of_deployments.chain(of_pods).collect())
}

async fn crd_missing(world: &World) -> Result<bool> {
    let (_, text) = world.operator()?.get("/metrics").await?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("process_operator_crd_missing "));
    Ok(line.context("the metric is there")?.trim() == "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_definition_it_waits_and_touches_nothing() -> Result<()> {
    let world = World::new("f21").await?;
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    ensure!(!crd_missing(&world).await?);
    let before = children(env).await?;

    let away = remove_definition(&world);
    let told = lacks(&world, Some("crd")).await?;
    ensure!(
        told.contains("processes.ameide.io is not installed") && told.contains("[+]apiserver ok"),
        "{told}"
    );
    ensure!(crd_missing(&world).await?);
    ensure!(world.operator()?.get("/livez").await?.0 == 200);
    // A lifecycle that looks just now is answered that there is nothing, which is not that it is gone.
    let mark = world.kube.mark();
    signal(&world, &process, "by-hand", "look").await?;
    let looked = |record: &process_operator_faultproxy::Record<_>| {
        let request: &process_operator_faultproxy::KubeRequest = &record.request;
        request.name == NAME && record.rule == Some(away.id())
    };
    world.kube.wait_for_since(mark, looked, SOON).await?;
    env.set_tag(NAME, "v2").await?;
    ensure!(children(env).await? == before, "all is as it was");

    world.crew.kill();
    world.start(false).await?;
    lacks(&world, Some("crd")).await?;
    ensure!(children(env).await? == before, "all is as it was");

    away.remove();
    lacks(&world, None).await?;
    ensure!(!crd_missing(&world).await?);
    at_rest(&world, "v2").await?;

    // Once more, and back before anybody has started it again.
    let away = remove_definition(&world);
    lacks(&world, Some("crd")).await?;
    away.remove();
    lacks(&world, None).await?;
    env.set_tag(NAME, "v3").await?;
    at_rest(&world, "v3").await?;
    world.finish().await
}

/// Removes a field as a definition without it does.
fn prune(world: &World, part: &'static str, field: &'static str) {
    world.kube.rewrite("processes", move |object| {
        if let Some(part) = object.get_mut(part).and_then(Value::as_object_mut) {
            part.remove(field);
        }
    });
}

async fn build_id(env: &Env) -> Result<String> {
    let status = env.api::<Process>().get(NAME).await?.status;
    let current = status.and_then(|status| status.current_version);
    Ok(current.context("a current version")?.build_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_an_older_definition_lacks_harm_no_running_version() -> Result<()> {
    let world = World::new("f21prune").await?;
    let env = &world.env;
    let mut wanted = manifest(env, NAME, "v1");
    wanted["spec"]["drain"] = json!({ "timeoutSeconds": 3600 });
    wanted["spec"]["observability"] = json!({ "metricsTags": { "team": "orders" } });
    let process = env.apply(&wanted).await?;
    at_rest(&world, "v1").await?;
    let (before, first) = (children(env).await?, build_id(env).await?);

    // What makes no version: nothing is rolled out, and what is written again and again without being
    // stored is not written again and again.
    prune(&world, "spec", "drain");
    prune(&world, "status", "versionCount");
    list_again(&world);
    signal(&world, &process, "pruned", "look").await?;
    at_rest(&world, "v1").await?;
    ensure!(children(env).await? == before, "all is as it was");
    world.hold().await?;

    // What makes a version: the spec says something else now, and that is rolled out at the next look, as if
    // the user had written it.
    prune(&world, "spec", "observability");
    signal(&world, &process, "pruned more", "look").await?;
    current(env, |build_id| build_id != first).await?;
    at_rest(&world, "v1").await?;
    ensure!(
        env.deployments(NAME).await?.len() == 1,
        "the first version is retired in the usual way"
    );

    // And back: the first version is brought back as it was.
    world.kube.show_as_stored("processes");
    list_again(&world);
    signal(&world, &process, "as stored", "look").await?;
    current(env, |build_id| build_id == first).await?;
    at_rest(&world, "v1").await?;
    world.finish().await
}

/// A release adds fields with defaults; the objects were stored before.
#[tokio::test(flavor = "multi_thread")]
async fn defaults_that_a_newer_definition_adds_make_no_version() -> Result<()> {
    const DEFAULTED: [&str; 4] = ["replicas", "imagePullPolicy", "rollout", "deletion"];
    let world = World::empty("f29stored").await?;
    let env = &world.env;
    for field in DEFAULTED {
        prune(&world, "spec", field);
    }
    world.start(true).await?;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let (before, first) = (children(env).await?, build_id(env).await?);

    world.kube.show_as_stored("processes");
    list_again(&world);
    signal(&world, &process, "with defaults", "look").await?;
    at_rest(&world, "v1").await?;
    ensure!(children(env).await? == before, "all is as it was");
    ensure!(build_id(env).await? == first, "the same version");
    env.set_tag(NAME, "v2").await?;
    at_rest(&world, "v2").await?;
    world.finish().await
}

async fn current(env: &Env, wanted: impl Fn(&str) -> bool) -> Result<()> {
    env.wait_process(NAME, "another version", SOON, |process| {
        let status: Value = serde_json::to_value(&process.status).unwrap_or_default();
        status["currentVersion"]["buildId"]
            .as_str()
            .is_some_and(&wanted)
    })
    .await?;
    Ok(())
}
