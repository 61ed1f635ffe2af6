//! F22: a right is taken away while the operator runs. What lacks it says so, it is asked for seldom, the
//! version that serves is not harmed, and when the right is back all is done without anybody's help.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use process_operator_crds::Process;
use process_operator_faultproxy::{RequestMatch, WatchEnd};
use process_operator_harness::{Env, OperatorOptions, complete, is_settled, manifest, until};
use serde_json::{Value, json};

use crate::credentials::answered;
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// Account of the operator.
const ACCOUNT: &str = "limited";
/// An Event comes after the fourth failure, with growing pauses between.
const BETTER: Duration = Duration::from_secs(20);
/// Refused requests in a time without an end would be a storm.
const A_WHILE: Duration = Duration::from_secs(6);

/// The rights of `deploy/rbac.yaml`, one by one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

/// All of them, with whether they are given beyond a namespace.
fn rights() -> Result<Vec<Right>> {
    let text = include_str!("../../../deploy/rbac.yaml");
    let mut rights = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let object = <Value as serde::Deserialize>::deserialize(document)?;
        let rules = object["rules"].as_array().cloned().unwrap_or_default();
        for rule in rules {
            let texts = |field: &str| -> Result<Vec<String>> {
                let list = rule[field].as_array().context("a list")?;
                Ok(list
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect())
            };
            let group = texts("apiGroups")?.pop().context("a group")?;
            for resource in texts("resources")? {
                for verb in texts("verbs")? {
                    rights.push(Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb,
                    });
                }
            }
        }
    }
    Ok(rights)
}

impl Right {
    /// The kind, and what of it.
    fn subject(&self) -> (&str, &str) {
        let whole = (self.resource.as_str(), "");
        self.resource.split_once('/').unwrap_or(whole)
    }

    fn as_rule(&self) -> Value {
        json!({ "apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb] })
    }

    /// Namespaces have no namespace.
    fn is_wide(&self) -> bool {
        self.resource == "namespaces"
    }
}

/// Gives the account all rights but one.
fn give(env: &Env, without: Option<&Right>) -> Result<()> {
    let all = rights()?;
    let left: Vec<&Right> = all.iter().filter(|right| Some(*right) != without).collect();
    let rules = |wide: bool| -> Vec<Value> {
        let rights = left.iter().filter(|right| right.is_wide() == wide);
        rights.map(|right| right.as_rule()).collect()
    };
    let subjects =
        json!([{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": env.namespace }]);
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let wide = format!("{}-{ACCOUNT}", env.namespace);
    let role = |kind: &str, name: &str| json!({ "apiGroup": group, "kind": kind, "name": name });
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT } },
        {
            "apiVersion": version, "kind": "Role", "metadata": { "name": ACCOUNT },
            "rules": rules(false),
        },
        {
            "apiVersion": version, "kind": "RoleBinding", "metadata": { "name": ACCOUNT },
            "roleRef": role("Role", ACCOUNT), "subjects": subjects,
        },
        {
            "apiVersion": version, "kind": "ClusterRole", "metadata": { "name": wide },
            "rules": rules(true),
        },
        {
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": { "name": wide },
            "roleRef": role("ClusterRole", &wide), "subjects": subjects,
        },
    ] });
    env.kubectl(&["apply", "-f", "-"], &objects.to_string())?;
    Ok(())
}

/// Waits until the API server judges so. It does for kinds that are not defined, too.
async fn may(env: &Env, right: &Right, wanted: bool) -> Result<()> {
    let (resource, part) = right.subject();
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", env.namespace);
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "metadata": {},
        "spec": { "user": user, "resourceAttributes": {
            "group": right.group, "resource": resource, "subresource": part, "verb": right.verb,
            "namespace": if right.is_wide() { "" } else { &env.namespace },
        } },
    }))?;
    let reviews: Api<SubjectAccessReview> = Api::all(env.kube.clone());
    until("the change of rights is in force", SOON, async || {
        let judged = reviews.create(&PostParams::default(), &review).await?;
        let may = judged.status.is_some_and(|status| status.allowed);
        ensure!(may == wanted, "{right:?}: {may}");
        Ok(())
    })
    .await
}

/// Where the missing right is named, if it is.
async fn told(world: &World, process: &Process, right: &Right) -> Result<Option<&'static str>> {
    let (resource, verb) = (&right.resource, &right.verb);
    let words = format!("cannot {verb} resource \"{resource}\"");
    let status = process.status.as_ref();
    let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
    if conditions.any(|condition| condition.message.contains(&words)) {
        return Ok(Some("condition"));
    }
    let events = world.env.events(process).await?;
    if events.iter().any(|(_, note)| note.contains(&words)) {
        return Ok(Some("Event"));
    }
    let operator = world.operator()?;
    if operator.get("/readyz").await?.1.contains(&words) {
        return Ok(Some("/readyz"));
    }
    Ok(operator
        .log_text()
        .contains(&words.replace('"', "\\\""))
        .then_some("log"))
}

/// A change that needs most rights: another version, and another cron job.
fn change(n: usize) -> Value {
    let tag = tag(n);
    let job = json!({ "name": format!("sla{n}"), "purpose": "SLACheck", "schedule": "0 3 * * *", "args": ["check"] });
    json!({ "spec": {
        "image": format!("localhost/process-example-worker:{tag}"),
        "cronJobs": [job],
    } })
}

fn tag(n: usize) -> &'static str {
    if n.is_multiple_of(2) { "v2" } else { "v1" }
}

/// Takes a right, makes a change, and gives it back.
async fn without(world: &World, n: usize, right: &Right) -> Result<&'static str> {
    let env = &world.env;
    give(env, Some(right))?;
    may(env, right, false).await?;
    if matches!(right.verb.as_str(), "watch" | "list") {
        // Only what is opened anew is asked for again.
        let how = if right.verb == "list" {
            WatchEnd::Gone
        } else {
            WatchEnd::Close
        };
        let about = RequestMatch::watches().resource(&right.resource);
        world.kube.end_watches(&about, how);
    }
    let before = answered(world, 403);
    env.patch(NAME, &change(n)).await?;
    let mut logged = None;
    let found = until("it is told, or not needed", SOON, async || {
        let process = env.api::<Process>().get(NAME).await?;
        let settled = is_settled(&process, tag(n));
        match told(world, &process, right).await? {
            // A better place may follow.
            Some("log")
                if !settled && logged.get_or_insert_with(Instant::now).elapsed() < BETTER =>
            {
                anyhow::bail!("only logged")
            }
            Some(found) => Ok(found),
            None if settled => Ok("not needed"),
            None => anyhow::bail!("{:?}", process.status.map(|status| status.conditions)),
        }
    })
    .await?;
    let harmed = env.deployments(NAME).await?.is_empty();
    ensure!(!harmed, "workers are left");
    if found != "not needed" {
        // Time has to pass for what must not happen in it.
        let before = answered(world, 403);
        tokio::time::sleep(A_WHILE).await;
        let refused = answered(world, 403) - before;
        ensure!(refused <= 20, "{refused} refused requests in {A_WHILE:?}");
    }
    let asked = answered(world, 403) - before;
    give(env, None)?;
    may(env, right, true).await?;
    let what = format!("settled with {} {}", right.verb, right.resource);
    env.wait_process(NAME, &what, SOON, |process| is_settled(process, tag(n)))
        .await?;
    println!(
        "{} {}: {found}, {asked} refused",
        right.verb, right.resource
    );
    Ok(found)
}

/// Each right; by default a few of those that a change needs.
#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_taken_away_is_named_and_its_return_heals() -> Result<()> {
    const SOME: [(&str, &str, &str); 4] = [
        ("patch", "processes/status", "Event"),
        ("patch", "deployments", "condition"),
        ("delete", "deployments", "Event"),
        ("watch", "processes", "/readyz"),
    ];
    let complete = complete();
    let world = World::empty("f22right").await?;
    let env = &world.env;
    give(env, None)?;
    let options = OperatorOptions {
        account: Some((env.namespace.clone(), ACCOUNT.to_owned())),
        args: vec!["--namespace".into(), env.namespace.clone()],
        ..OperatorOptions::default()
    };
    let operator = world.start_as(options).await?;
    env.apply(&manifest(env, NAME, "v1")).await?;
    env.patch(NAME, &change(1)).await?;
    at_rest(&world, "v1").await?;

    let mut silent = Vec::new();
    let mut n = 1;
    for right in rights()? {
        let known = SOME
            .iter()
            .find(|(verb, resource, _)| *verb == right.verb && *resource == right.resource);
        if known.is_none() && !complete {
            continue;
        }
        n += 1;
        let found = without(&world, n, &right)
            .await
            .with_context(|| format!("without {} {}", right.verb, right.resource))?;
        if let Some((_, _, place)) = known
            && *place != found
        {
            silent.push(format!("{right:?}: {found} instead of {place}"));
        }
    }
    ensure!(silent.is_empty(), "{silent:#?}");
    ensure!(!operator.ended(), "one process from beginning to end");
    at_rest(&world, tag(n)).await?;
    let wide = format!("{}-{ACCOUNT}", env.namespace);
    for kind in ["clusterrolebinding", "clusterrole"] {
        env.kubectl(&["delete", kind, &wide], "")?;
    }
    world.finish().await
}
