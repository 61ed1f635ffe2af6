//! Domains and Agents of other operators.

mod kinds;

use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_crds::Process;
use process_operator_faultproxy::audit::AuditFilter;
use process_operator_harness::{Env, Foreign, Scene, condition, is_current, manifest, until};
use serde_json::json;

const SOON: Duration = Duration::from_secs(90);

/// Waits until the condition says so, with these words.
async fn told(env: &Env, status: &str, words: &[&str]) -> Result<Process> {
    env.wait_process("l2o", &format!("{status} {words:?}"), SOON, |process| {
        let (found, _, message) = condition(process, "DependenciesReady");
        found == status && words.iter().all(|word| message.contains(word))
    })
    .await
}

/// Waits until so many Events tell that it was blocked, and as many that it is not any more.
pub(crate) async fn blocked(
    env: &Env,
    process: &Process,
    reason: &str,
    times: usize,
) -> Result<()> {
    until(&format!("blocked {times} times"), SOON, async || {
        let events = env.events(process).await?;
        let notes = |kind: &str| -> Vec<String> {
            let told = events.iter().filter(|(reason, _)| reason == kind);
            told.map(|(_, note)| note.clone()).collect()
        };
        let (blocked, over) = (notes("Blocked"), notes("Unblocked"));
        let counts = (blocked.len(), over.len());
        ensure!(counts == (times, times), "{blocked:?} {over:?}");
        let about = blocked.iter().chain(&over);
        ensure!(
            about.clone().all(|note| note.contains(reason)),
            "{blocked:?} {over:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_version_waits_for_what_it_depends_on_and_a_running_one_does_not() -> Result<()> {
    let scene = Scene::new("dependencies").await?;
    let env = &scene.env;
    let kinds = ["Domain", "Agent"].map(|kind| Foreign::new(env, "ameide.io", kind));
    let [domains, agents] = &kinds;
    // As before the other operators are installed.
    for kind in &kinds {
        kind.remove().await?;
    }
    let mark = env.audit.mark()?;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["dependencies"] = json!({
        "domains": [{ "name": "sales" }, { "name": "billing" }],
        "agents": [{ "name": "coach" }],
    });
    let process = env.apply(&process).await?;
    let missing = [
        "spec.dependencies.domains[sales]: Domain sales does not exist",
        "spec.dependencies.domains[billing]: Domain billing does not exist",
        "spec.dependencies.agents[coach]: Agent coach does not exist",
    ];
    let waits = told(env, "False", &missing).await?;
    let (ready, reason, _) = condition(&waits, "Ready");
    ensure!(
        ready == "False" && reason == "DependencyNotReady",
        "{reason}"
    );
    ensure!(condition(&waits, "Reconciling").0 == "True", "it waits");
    ensure!(condition(&waits, "Stalled").0 == "False", "it is not stuck");
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );

    for kind in &kinds {
        kind.install().await?;
    }
    domains.ready("sales").await?;
    domains.unready("billing", "Provisioning").await?;
    agents.ready("coach").await?;
    // Both others are made, and then said to be Ready.
    env.wait_process("l2o", "billing alone is waited for", SOON, |process| {
        let (_, _, message) = condition(process, "DependenciesReady");
        let names = |name: &str| message.contains(name);
        names("Domain billing is not Ready (Provisioning)") && !names("sales") && !names("coach")
    })
    .await?;
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );
    domains.ready("billing").await?;
    env.wait_settled("l2o", "v1").await?;
    told(env, "True", &["3 of 3 are ready"]).await?;
    blocked(env, &process, "DependencyNotReady", 1).await?;

    // Later on it is told and no more: workers answer, and a new version is rolled out.
    agents.delete("coach").await?;
    let lost = told(env, "False", &["Agent coach does not exist"]).await?;
    ensure!(condition(&lost, "Ready").0 == "True", "it serves");
    ensure!(condition(&lost, "Stalled").0 == "False", "nothing is stuck");
    ensure!(
        condition(&lost, "Degraded").1 == "DependencyNotReady",
        "it is told"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v2 is current", SOON, |process| {
        is_current(process, "v2")
    })
    .await?;
    agents.ready("coach").await?;
    let whole = told(env, "True", &["3 of 3 are ready"]).await?;
    ensure!(condition(&whole, "Degraded").0 == "False", "well again");
    env.wait_settled("l2o", "v2").await?;
    blocked(env, &process, "DependencyNotReady", 2).await?;

    scene
        .invariants
        .hold(env, &[&scene.operator], Duration::from_secs(5))
        .await?;
    for resource in ["domains", "agents"] {
        let writes = AuditFilter::mutating().resource(resource);
        let writes = env.audit.select(mark, &writes)?;
        let ours = |user: &str| user.ends_with(":process-operator");
        ensure!(
            !writes.iter().any(|entry| ours(entry.user())),
            "the operator wrote {resource}"
        );
    }
    for kind in &kinds {
        kind.remove().await?;
    }
    scene.env.remove().await
}
