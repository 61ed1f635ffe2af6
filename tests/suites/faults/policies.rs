//! F35: what a cluster's administrators put in the way: quotas, limits, admission policies and webhooks.
//! What they say is told, it is tried again ever more rarely, and it goes on when they let it.
//!
//! Pods of the operator's making always fit PodSecurity `restricted`, which every namespace of these tests
//! demands; a policy of the namespace stands for whatever else may refuse a pod.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use process_operator_faultproxy::audit::Entry;
use process_operator_harness::{Env, condition, manifest, until};
use serde_json::{Value, json};

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

fn make(env: &Env, object: &Value) -> Result<()> {
    env.kubectl(&["apply", "-f", "-"], &object.to_string())?;
    Ok(())
}

/// A quota, once the API server counts by it.
async fn quota(env: &Env, what: &str, most: u32) -> Result<()> {
    make(
        env,
        &json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" },
            "spec": { "hard": { what: most.to_string() } },
        }),
    )?;
    until("the quota counts", SOON, async || {
        let text = env.kubectl(&["get", "resourcequota", "few", "-o", "json"], "")?;
        let found: Value = serde_json::from_str(&text)?;
        let counted = &found["status"]["used"][what];
        ensure!(*counted == json!(most.to_string()), "{counted}");
        Ok(())
    })
    .await
}

/// A policy that refuses a resource of this namespace, once it is in force; `forget` takes it away.
async fn forbid(env: &Env, group: &str, resource: &str) -> Result<()> {
    let name = format!("{}-no-{resource}", env.namespace);
    let selector = json!({ "matchLabels": { "kubernetes.io/metadata.name": env.namespace } });
    let rule = json!({
        "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE", "UPDATE"],
    });
    make(
        env,
        &json!({
            "apiVersion": "v1", "kind": "List", "items": [
                {
                    "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                    "metadata": { "name": name },
                    "spec": {
                        "matchConstraints": { "namespaceSelector": selector, "resourceRules": [rule] },
                        "validations": [{ "expression": "false", "message": "not before Monday" }],
                    },
                },
                {
                    "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                    "metadata": { "name": name },
                    "spec": { "policyName": name, "validationActions": ["Deny"] },
                },
            ],
        }),
    )?;
    until("the policy is in force", SOON, async || {
        match refused(env, group, resource) {
            Some(why) if why.contains("not before Monday") => Ok(()),
            other => anyhow::bail!("{other:?}"),
        }
    })
    .await
}

/// What the API server says against another object of the kind.
fn refused(env: &Env, group: &str, resource: &str) -> Option<String> {
    let pod = json!({
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{
            "name": "c", "image": "localhost/none:v1",
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
        }],
    });
    let labels = json!({ "app": "probe" });
    let object = if resource == "pods" {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "probe" }, "spec": pod })
    } else {
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "Deployment", "metadata": { "name": "probe" },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": pod },
            },
        })
    };
    let tried = env.kubectl(
        &["create", "--dry-run=server", "-f", "-"],
        &object.to_string(),
    );
    tried.err().map(|why| why.to_string())
}

fn forget(env: &Env, kinds: &[&str], name: &str) -> Result<()> {
    for kind in kinds {
        env.kubectl(&["delete", kind, name, "--ignore-not-found"], "")?;
    }
    Ok(())
}

const POLICY: [&str; 2] = [
    "validatingadmissionpolicybinding",
    "validatingadmissionpolicy",
];

/// The operator's applies of Deployments that were answered with this code.
fn answered(world: &World, code: u16) -> Result<Vec<Entry>> {
    let mut writes = world.invariants.writes(&world.env)?;
    writes.retain(|entry| {
        let object = entry.object_ref.as_ref();
        entry.code() == code && object.is_some_and(|object| object.resource == "deployments")
    });
    Ok(writes)
}

/// Tries become rarer and rarer.
async fn backs_off(world: &World, code: u16) -> Result<()> {
    let tries = until("it is tried again", SOON, async || {
        let tries = answered(world, code)?;
        ensure!(tries.len() >= 5, "{} tries", tries.len());
        Ok::<_, anyhow::Error>(tries)
    })
    .await?;
    let at: Vec<_> = tries
        .iter()
        .map(|entry| entry.request_received_timestamp)
        .collect();
    let gaps: Vec<f64> = at
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).as_secs_f64())
        .collect();
    let (first, last) = (gaps[0], gaps[3]);
    ensure!(first > 0.3 && last > 2.0 * first, "no back-off: {gaps:?}");
    Ok(())
}

/// Rolls to v2, which a refusal of its Deployment keeps from beginning.
async fn told(world: &World, reason: &str, words: &str) -> Result<()> {
    let env = &world.env;
    env.set_tag(NAME, "v2").await?;
    let told = env
        .wait_process(NAME, "the refusal is told", SOON, |process| {
            let (status, why, message) = condition(process, "Degraded");
            status == "True" && why == reason && message.contains(words)
        })
        .await?;
    for (kind, status) in [
        ("Ready", "True"),
        ("Reconciling", "True"),
        ("Stalled", "False"),
    ] {
        let (found, why, _) = condition(&told, kind);
        ensure!(found == status, "{kind} is {found}, {why}");
    }
    let message = condition(&told, "Progressing").2;
    ensure!(message.contains("applying Deployment l2o-"), "{message}");
    Ok(())
}

async fn on_v1(name: &str) -> Result<World> {
    let world = World::empty(name).await?;
    // A sweep asks for what is not done; here it is seen what happens without.
    world.start_with(true, &["--sweep-seconds", "600"]).await?;
    world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_on_deployments_is_told_and_a_larger_one_is_enough() -> Result<()> {
    let world = on_v1("f35q").await?;
    quota(&world.env, "count/deployments.apps", 1).await?;
    told(&world, "QuotaExceeded", "exceeded quota: few").await?;
    backs_off(&world, 403).await?;
    forget(&world.env, &["resourcequota"], "few")?;
    at_rest(&world, "v2").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_denies_deployments_is_told_in_its_words() -> Result<()> {
    let world = on_v1("f35p").await?;
    let env = &world.env;
    forbid(env, "apps", "deployments").await?;
    told(&world, "Forbidden", "not before Monday").await?;
    backs_off(&world, 422).await?;
    forget(env, &POLICY, &format!("{}-no-deployments", env.namespace))?;
    at_rest(&world, "v2").await?;
    world.finish().await
}

/// A webhook that is reached and says nothing, for as long as webhooks have by default.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_does_not_answer_is_told_by_its_name() -> Result<()> {
    let world = on_v1("f35w").await?;
    let env = &world.env;
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let name = format!("{}-silent", env.namespace);
    make(
        env,
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [{
                "name": "silent.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Fail", "timeoutSeconds": 10,
                "clientConfig": { "url": format!("https://{}/", silent.local_addr()?) },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": env.namespace } },
                "rules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
                    "operations": ["CREATE"],
                }],
            }],
        }),
    )?;
    until("the webhook is asked", SOON, async || {
        let why = refused(env, "apps", "deployments").context("nothing was said")?;
        ensure!(why.contains("silent.example.com"), "{why}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    told(
        &world,
        "Forbidden",
        "failed calling webhook \"silent.example.com\"",
    )
    .await?;
    forget(env, &["validatingwebhookconfiguration"], &name)?;
    at_rest(&world, "v2").await?;
    world.finish().await
}

/// The refusal meets the pods: it is told while they are waited for.
async fn waits(world: &World, words: &str) -> Result<()> {
    let told = world
        .env
        .wait_process(NAME, words, SOON, |process| {
            let (status, reason, message) = condition(process, "Progressing");
            status == "True" && reason == "WaitingForWorkers" && message.contains(words)
        })
        .await?;
    for (kind, status) in [
        ("Ready", "True"),
        ("Degraded", "False"),
        ("Stalled", "False"),
        ("Reconciling", "True"),
    ] {
        let (found, why, message) = condition(&told, kind);
        ensure!(found == status, "{kind} is {found}, {why} {message}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_may_not_be_made_are_told_while_they_are_waited_for() -> Result<()> {
    let world = on_v1("f35n").await?;
    let env = &world.env;
    quota(env, "pods", 1).await?;
    env.set_tag(NAME, "v2").await?;
    waits(
        &world,
        "no pod can be made: it is forbidden: exceeded quota: few",
    )
    .await?;
    forget(env, &["resourcequota"], "few")?;
    at_rest(&world, "v2").await?;

    make(
        env,
        &json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "small" },
            "spec": { "limits": [{ "type": "Container", "max": { "memory": "16Mi" } }] },
        }),
    )?;
    let memory = json!({ "limits": { "memory": "256Mi" } });
    env.patch(
        NAME,
        &json!({ "spec": { "worker": { "resources": memory } } }),
    )
    .await?;
    waits(&world, "maximum memory usage per Container is 16Mi").await?;
    forget(env, &["limitrange"], "small")?;
    at_rest(&world, "v2").await?;

    forbid(env, "", "pods").await?;
    env.set_tag(NAME, "v3").await?;
    waits(&world, "not before Monday").await?;
    forget(env, &POLICY, &format!("{}-no-pods", env.namespace))?;
    at_rest(&world, "v3").await?;
    world.finish().await
}

/// When the time is up it is said why, and that is not the end: the pods are made all the same.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_come_after_the_deadline_are_enough() -> Result<()> {
    let world = on_v1("f35d").await?;
    let env = &world.env;
    quota(env, "pods", 1).await?;
    let change = json!({ "spec": {
        "image": "localhost/process-example-worker:v2", "rollout": { "progressDeadlineSeconds": 8 },
    } });
    env.patch(NAME, &change).await?;
    env.wait_process(NAME, "the deadline", SOON, |process| {
        let (status, reason, message) = condition(process, "Stalled");
        status == "True"
            && reason == "ProgressDeadlineExceeded"
            && message.contains("exceeded quota: few")
    })
    .await?;
    forget(env, &["resourcequota"], "few")?;
    tokio::time::timeout(Duration::from_mins(3), at_rest(&world, "v2")).await??;
    world.finish().await
}
