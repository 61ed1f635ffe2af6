//! The operator as the chart installs it when no namespace is named: it looks after all of them. It takes the Processes of
//! other tests for its own too, so this is a suite with one test, which runs when no other does.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

#[allow(dead_code, reason = "the suite `install` needs the rest")]
mod support;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditFilter, AuditMark};
use process_operator_harness::{Env, SOON, manifest, until};
use serde_json::json;

use crate::support::{Release, own_values};

/// What the test before has deleted goes within that.
const GONE: Duration = Duration::from_secs(20);
/// What is watched from the beginning.
const WATCHED: [&str; 4] = ["processes", "deployments", "configmaps", "cronjobs"];

/// Nobody else has a Process.
async fn alone(env: &Env) -> Result<()> {
    let all: Api<Process> = Api::all(env.kube.clone());
    let what = "no other test has a Process (`cargo xtask down` takes what a failed one has left)";
    until(what, GONE, async || {
        let found = all.list_metadata(&ListParams::default()).await?;
        let names = found.iter().map(|process| {
            let namespace = process.namespace().unwrap_or_default();
            format!("{namespace}/{}", process.name_any())
        });
        let names: Vec<String> = names.collect();
        ensure!(names.is_empty(), "{}", names.join(", "));
        Ok(())
    })
    .await
}

/// With the scope that the chart has by default, and with the policies over requests.
fn release(env: &Env) -> Result<Release> {
    let mut values = own_values(env);
    let named = values.as_object_mut().context("values")?;
    named.remove("watchNamespaces");
    named.insert(
        "admission".to_owned(),
        json!({ "requests": { "enabled": true } }),
    );
    // What has no namespace is called by this name alone.
    let name = format!("all-{}", std::process::id());
    Release::with_values(env, &name, &values)
}

/// Asks by annotation as somebody, in the name of somebody else.
fn ask(env: &Env, process: &Process, user: &str) -> Result<String> {
    let request = json!({
        "id": user,
        "verb": "retry",
        "uid": process.metadata.uid,
        "expiresAt": (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(5)).to_string(),
        "actor": "mallory",
    });
    let request = format!("ameide.io/request={request}");
    let user = format!("--as={user}");
    env.kubectl(
        &["annotate", "process", "l2o", "--overwrite", &request, &user],
        "",
    )
}

/// The policies hold in this namespace, and a request in it is seen.
async fn only_admins_ask(env: &Env, process: &Process) -> Result<()> {
    for (user, role) in [("ada", "admin"), ("eve", "edit")] {
        let (role, subject) = (format!("--clusterrole={role}"), format!("--user={user}"));
        env.kubectl(&["create", "rolebinding", user, &role, &subject], "")?;
    }
    until("a request of an editor is refused", SOON, async || {
        let Err(error) = ask(env, process, "eve") else {
            bail!("it was taken");
        };
        let said = format!("{error:#}");
        ensure!(said.contains("processes/requests"), "{said}");
        Ok(())
    })
    .await?;
    until("a request of an admin is taken", SOON, async || {
        ask(env, process, "ada")
    })
    .await?;
    let answered = |process: &Process| {
        let status = process.status.as_ref();
        let last = status.and_then(|status| status.last_request.as_ref());
        last.is_some_and(|last| last.id == "ada")
    };
    let what = "the request is answered";
    let process = env.wait_process("l2o", what, SOON, answered).await?;
    let actor = process.annotations().get("ameide.io/request-actor");
    ensure!(actor.is_some_and(|actor| actor == "ada"), "{actor:?}");
    Ok(())
}

/// Two Processes from their beginning to their end, each in a namespace of its own.
async fn story(env: &Env, other: &Env, release: &Release) -> Result<()> {
    release.put("install", &[])?;
    let mut processes = Vec::new();
    for world in [env, other] {
        processes.push(world.apply(&manifest(world, "l2o", "v1")).await?);
    }
    for (world, process) in [env, other].into_iter().zip(&processes) {
        world.wait_settled("l2o", "v1").await?;
        let answer = world.temporal.quick(&world.apps, "l2o-tq", "one").await?;
        ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
        only_admins_ask(world, process).await?;
    }
    other.set_tag("l2o", "v2").await?;
    other.wait_settled("l2o", "v2").await?;
    env.wait_settled("l2o", "v1").await?;
    for world in [env, other] {
        world.delete("l2o").await?;
    }
    for world in [env, other] {
        world.gone_within("l2o", SOON).await?;
        until("no Deployment is left", SOON, async || {
            let left = world.deployments("l2o").await?.len();
            ensure!(left == 0, "{left}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// It has asked for all namespaces at once, and for nothing that it may not.
fn has_asked_for_all(env: &Env, release: &Release, mark: AuditMark) -> Result<()> {
    let account = AuditFilter::any().service_account(&release.namespace, &release.fullname());
    let asked = env.audit.select(mark, &account)?;
    if let Some(entry) = asked.iter().find(|entry| entry.code() == 403) {
        bail!("forbidden: {entry}");
    }
    for kind in WATCHED {
        let all = AuditFilter::any().verb("list").resource(kind).namespace("");
        let found = asked.iter().any(|entry| all.matches(entry));
        ensure!(found, "{kind} are listed somewhere else");
    }
    Ok(())
}

/// The last words of its replicas.
fn last_words(env: &Env, release: &Release) -> String {
    let replicas = "--selector=app.kubernetes.io/name=process-operator";
    let said = release.kubectl(env, &["logs", replicas, "--tail=100", "--prefix"]);
    said.unwrap_or_else(|error| format!("{error:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_namespace_is_named_a_release_looks_after_all_of_them() -> Result<()> {
    let env = Env::new("everywhere").await?;
    alone(&env).await?;
    let other = Env::new("elsewhere").await?;
    let release = release(&env)?;
    let mark = env.audit.mark()?;
    let told = story(&env, &other, &release).await;
    // Before it is removed: its rights go at once, and its replicas when they have finished.
    let told = told.and_then(|()| has_asked_for_all(&env, &release, mark));
    let said = told.is_err().then(|| last_words(&env, &release));
    // Also when it failed: left behind, it would look after the Processes of all tests to come.
    let removed = release.remove(&env);
    told.with_context(|| format!("the operator said: {}", said.unwrap_or_default()))?;
    removed?;
    let account = format!(
        "--as=system:serviceaccount:{}:{}",
        release.namespace,
        release.fullname()
    );
    let list = ["auth", "can-i", "list", "processes", "--all-namespaces"];
    let left = env.kubectl(&[&list[..], &[account.as_str()]].concat(), "");
    ensure!(left.is_err(), "rights are left behind");
    other.remove().await?;
    env.remove().await
}
