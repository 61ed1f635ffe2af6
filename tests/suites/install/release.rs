//! The operator as pods, installed, upgraded and uninstalled by Helm.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use process_operator_crds::Process;
use process_operator_harness::{
    Env, Invariants, QUIET, SOON, Traffic, condition, is_current, manifest, until, version,
};
use process_operator_tests::testbed::Enforcer;
use serde_json::json;

use crate::network::policed;
use crate::support::Release;
use crate::{argocd, rights};

/// Long enough for an upgrade in the middle, short enough for a test.
const PAUSE: i64 = 20;

/// Pods in the operator's namespace: its replicas, and for a moment that of `helm test`.
pub(crate) fn operators(env: &Env, release: &Release) -> Api<Pod> {
    Api::namespaced(env.kube.clone(), &release.namespace)
}

/// Images of the operator's pods that are not on their way out.
async fn images(env: &Env, release: &Release) -> Result<Vec<String>> {
    let params = ListParams::default().labels("app.kubernetes.io/name=process-operator");
    let pods = operators(env, release).list(&params).await?;
    Ok(pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| pod.spec?.containers.into_iter().next()?.image)
        .collect())
}

/// Waits until all pods of the operator are of the release with this tag.
async fn runs(env: &Env, release: &Release, tag: &str) -> Result<()> {
    let end = format!(":{tag}");
    until(&format!("all pods are of {tag}"), SOON, async || {
        let images = images(env, release).await?;
        let all = images.iter().all(|image| image.ends_with(&end));
        ensure!(images.len() == 2 && all, "{images:?}");
        Ok(())
    })
    .await
}

/// Evicts all pods of the operator at once, as the drain of a node does: one at a time may go.
async fn evict_all(env: &Env, release: &Release) -> Result<()> {
    let params = ListParams::default().labels("app.kubernetes.io/name=process-operator");
    let mut refused = 0;
    for pod in operators(env, release).list(&params).await? {
        let name = pod.name_any();
        let path = format!(
            "/api/v1/namespaces/{}/pods/{name}/eviction",
            release.namespace
        );
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": { "name": name, "namespace": release.namespace },
        });
        // The client of the tests would wait and try again.
        let answer = env.kubectl(
            &["create", "--raw", &path, "-f", "-"],
            &eviction.to_string(),
        );
        if let Err(error) = answer {
            ensure!(
                format!("{error:#}").contains("disruption budget"),
                "{error:#}"
            );
            refused += 1;
        }
    }
    ensure!(refused == 1, "{refused} of two evictions were refused");
    let deployment = format!("deployment/{}", release.fullname());
    release.kubectl(env, &["rollout", "status", &deployment, "--timeout=90s"])?;
    Ok(())
}

/// Deletes all pods of the operator without warning, and waits until others are ready.
async fn kill_all(env: &Env, release: &Release) -> Result<()> {
    let now = DeleteParams::default().grace_period(0);
    let params = ListParams::default().labels("app.kubernetes.io/name=process-operator");
    operators(env, release)
        .delete_collection(&now, &params)
        .await?;
    let deployment = format!("deployment/{}", release.fullname());
    release.kubectl(env, &["rollout", "status", &deployment, "--timeout=90s"])?;
    Ok(())
}

pub(crate) async fn at_weight(env: &Env, weight: i32) -> Result<Process> {
    let what = format!("the new version takes {weight} %");
    env.wait_process("l2o", &what, SOON, |process| {
        let rollout = process.status.as_ref().and_then(|it| it.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.weight == weight)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_upgraded_and_killed_in_mid_rollout_and_loses_nothing() -> Result<()> {
    let env = Env::new("install").await?;
    let mark = env.audit.mark()?;
    // It gets by with what its policy lets through.
    let _policies = Enforcer::get()?;
    let release = Release::with_values(&env, "op", &policed(&env)?)?;
    release.put("install", &[])?;
    let invariants = Invariants::start(&env)?;
    let said = release.helm("test", &["--logs", "--timeout=90s"])?;
    ensure!(
        said.contains("[+]temporal ok") && said.contains("Succeeded"),
        "{said}"
    );

    env.apply(&manifest(&env, "l2o", "v1")).await?;
    evict_all(&env, &release).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    argocd::says(&settled, "Healthy")?;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    let traffic = Traffic::start(&env, "l2o-tq", Duration::from_millis(200));
    let mut change = version("v2", &[]);
    let pause = json!({ "durationSeconds": PAUSE });
    change["spec"]["rollout"] = json!({
        "strategy": "Canary",
        "steps": [{ "weight": 20, "pause": pause }, { "weight": 50, "pause": pause }],
    });
    env.patch("l2o", &change).await?;
    argocd::says(&at_weight(&env, 20).await?, "Progressing")?;

    // The next release, while v2 has a share.
    let next = format!("{}-next", env!("CARGO_PKG_VERSION"));
    release.put("upgrade", &["--set", &format!("image.tag={next}")])?;
    runs(&env, &release, &next).await?;
    at_weight(&env, 50).await?;
    kill_all(&env, &release).await?;
    env.wait_process("l2o", "v2 is current while v1 drains", SOON, |process| {
        is_current(process, "v2") && condition(process, "Draining").0 == "True"
    })
    .await?;
    // And the release before, while v1 drains.
    release.helm("rollback", &["--wait", "--timeout=150s"])?;
    runs(&env, &release, env!("CARGO_PKG_VERSION")).await?;
    let answers = traffic.stop().await?;
    answers.all_answered()?;
    ensure!(answers.of("v1") > 0 && answers.of("v2") > 0, "{answers:?}");
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    env.wait_settled("l2o", "v2").await?;
    invariants.hold(&env, &[], QUIET).await?;

    env.kubectl(&["delete", "process", "l2o", "--timeout=90s"], "")?;
    rights::are_what_was_used(&env, &release, mark)?;
    release.remove(&env)?;
    let account = format!(
        "--as=system:serviceaccount:{}:op-process-operator",
        release.namespace
    );
    let left = env.kubectl(&["auth", "can-i", "list", "processes", &account], "");
    ensure!(left.is_err(), "rights are left behind");
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_edit_a_namespace_may_edit_its_processes_and_viewers_look() -> Result<()> {
    let env = Env::new("users").await?;
    let release = Release::new(&env, "roles")?;
    // Nothing has to run for this.
    release.put("install", &["--set", "replicaCount=0"])?;
    for (user, role) in [("ada", "edit"), ("bob", "view")] {
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={user}"));
        env.kubectl(&["create", "rolebinding", &user[7..], &role, &user], "")?;
    }
    let may = |user: &str, verb: &str, part: &str| {
        let (user, part) = (format!("--as={user}"), format!("--subresource={part}"));
        let asked = ["auth", "can-i", verb, "processes.ameide.io", &part, &user];
        env.kubectl(&asked, "").is_ok()
    };
    until("the roles are aggregated", SOON, async || {
        ensure!(may("ada", "patch", ""), "not yet");
        ensure!(may("bob", "watch", ""), "not yet");
        Ok(())
    })
    .await?;
    ensure!(may("ada", "delete", ""));
    ensure!(may("ada", "update", "scale"));
    ensure!(may("bob", "get", "status"));
    ensure!(!may("ada", "patch", "status"));
    ensure!(!may("bob", "patch", ""));
    release.remove(&env)?;
    env.remove().await
}
