//! Definitions fetched from a registry: a real HTTP server in this process, which the operator reaches on
//! loopback.

mod server;
mod slow;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditFilter, AuditMark};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, condition, is_settled, manifest, until,
};
use serde_json::{Value, json};

use self::server::{Mood, Registry};
use crate::definition::{current, read, version};

const SOON: Duration = Duration::from_secs(90);
const TOKEN: &str = "s3cret-of-the-registry";

/// A world with a registry that may be asked.
struct World {
    env: Env,
    operator: Operator,
    invariants: Invariants,
    registry: Registry,
    token: PathBuf,
}

fn options(registry: &Registry, token: &std::path::Path, instance: &str) -> OperatorOptions {
    OperatorOptions {
        instance: Some(instance.to_owned()),
        args: vec![
            "--definition-registry".into(),
            registry.host(),
            "--definition-registry-token-file".into(),
            token.display().to_string(),
        ],
        ..OperatorOptions::default()
    }
}

impl World {
    async fn new(name: &str) -> Result<Self> {
        let env = Env::new(name).await?;
        let registry = Registry::start().await?;
        let token = std::env::temp_dir().join(format!("{}-token", env.namespace));
        std::fs::write(&token, format!("{TOKEN}\n"))?;
        let operator = Operator::start(&env, options(&registry, &token, "operator-0")).await?;
        let invariants = Invariants::start(&env)?;
        Ok(Self {
            env,
            operator,
            invariants,
            registry,
            token,
        })
    }

    /// The condition `DefinitionResolved` has these words.
    async fn told(&self, words: &str) -> Result<Process> {
        self.env
            .wait_process("l2o", words, SOON, |process| {
                condition(process, "DefinitionResolved").2.contains(words)
            })
            .await
    }

    fn process(&self, url: &str) -> Value {
        let mut process = manifest(&self.env, "l2o", "v1");
        process["spec"]["definitionRef"]["registry"] = json!({ "url": url, "refreshSeconds": 10 });
        process
    }

    async fn resolved(&self, reason: &str) -> Result<Process> {
        let what = format!("DefinitionResolved {reason}");
        self.env
            .wait_process("l2o", &what, SOON, |process| {
                condition(process, "DefinitionResolved").1 == reason
            })
            .await
    }

    /// Writes of the ConfigMap with what was fetched.
    fn writes(&self, since: AuditMark) -> Result<usize> {
        let filter = AuditFilter::mutating()
            .namespace(&self.env.namespace)
            .resource("configmaps");
        let found = self.env.audit.select(since, &filter)?;
        let of_it = found.iter().filter(|entry| {
            let name = entry.object_ref.as_ref().map(|object| object.name.as_str());
            name == Some("l2o-definition") && (200..300).contains(&entry.code())
        });
        Ok(of_it.count())
    }

    /// The token is nowhere but in the requests.
    async fn keeps_its_secret(&self) -> Result<()> {
        let env = &self.env;
        ensure!(!self.operator.log_text().contains(TOKEN), "in the log");
        let (_, metrics) = self.operator.get("/metrics").await?;
        ensure!(!metrics.contains(TOKEN), "in metrics");
        let seen = env.kubectl(&["get", "processes,configmaps,events", "-o", "json"], "")?;
        ensure!(!seen.contains(TOKEN), "in Kubernetes");
        for info in env.temporal.list(&env.control, "").await? {
            let id = info.execution.map(|it| it.workflow_id).unwrap_or_default();
            let history = format!("{:?}", env.temporal.history(&env.control, &id).await?);
            let bytes = format!("{:?}", TOKEN.as_bytes());
            let bytes = bytes.trim_matches(['[', ']']);
            ensure!(!history.contains(TOKEN), "in the history of {id}");
            ensure!(!history.contains(bytes), "in a payload of {id}");
        }
        Ok(())
    }

    async fn finish(self) -> Result<()> {
        self.invariants
            .hold(&self.env, &[&self.operator], Duration::from_secs(5))
            .await?;
        std::fs::remove_file(&self.token)?;
        self.env.remove().await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "one story")]
async fn what_a_registry_serves_is_waited_for_followed_and_kept_through_its_outage() -> Result<()> {
    let world = World::new("registry").await?;
    let (env, registry) = (&world.env, &world.registry);
    env.apply(&world.process(&registry.url("l2o"))).await?;
    let waits = world.resolved("RegistryUnavailable").await?;
    let (ready, reason, message) = condition(&waits, "Ready");
    ensure!(
        ready == "False" && reason == "RegistryUnavailable",
        "{reason}"
    );
    ensure!(message.contains("503"), "{message}");
    ensure!(
        condition(&waits, "Stalled").0 == "False",
        "it is tried again"
    );
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );

    registry.is(Mood::Serves);
    let settled = env.wait_settled("l2o", "v1").await?;
    ensure!(version(&settled) == Some(3), "{:?}", version(&settled));
    let first = current(&settled).context("a version")?;
    ensure!(read(env, "first").await? == "<first/>", "of the first");
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;

    // A second replica asks nothing, and what has not changed is not written.
    let second_replica = options(registry, &world.token, "operator-1");
    let second_replica = Operator::start(env, second_replica).await?;
    let (mark, asked, unchanged) = (env.audit.mark()?, registry.requests(), registry.unchanged());
    let began = std::time::Instant::now();
    until("it is asked three times more", SOON, async || {
        ensure!(registry.unchanged() >= unchanged + 3, "not yet");
        Ok(())
    })
    .await?;
    ensure!(
        began.elapsed() > Duration::from_secs(18),
        "asked too often: {:?}",
        began.elapsed()
    );
    ensure!(
        registry.requests() - asked == registry.unchanged() - unchanged,
        "only whether it has changed"
    );
    ensure!(world.writes(mark)? == 0, "nothing is written");

    // Another content is another version; the old one still has what it began with.
    registry.publish(4, "<second/>");
    let moved = env
        .wait_process("l2o", "the second", SOON, |process| {
            current(process).is_some_and(|now| now != first) && version(process) == Some(4)
        })
        .await?;
    let second = current(&moved).context("a version")?;
    ensure!(read(env, "second").await? == "<second/>", "of the second");
    ensure!(world.writes(mark)? == 1, "one write for two replicas");
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on == first, "{finished:?}");
    let before = env.wait_settled("l2o", "v1").await?;

    // An outage is told and disturbs nothing; it ends by itself.
    registry.is(Mood::Fails(StatusCode::BAD_GATEWAY));
    let told = world.resolved("RegistryUnavailable").await?;
    ensure!(condition(&told, "Ready").0 == "True", "it serves");
    ensure!(
        condition(&told, "Degraded").1 == "RegistryUnavailable",
        "it is told"
    );
    ensure!(current(&told) == Some(second.clone()), "the same version");
    ensure!(read(env, "meanwhile").await? == "<second/>", "its own copy");
    registry.is(Mood::Serves);
    let back = env
        .wait_process("l2o", "as before", SOON, |process| {
            is_settled(process, "v1") && condition(process, "DefinitionResolved").0 == "True"
        })
        .await?;
    ensure!(current(&back) == current(&before), "nothing was rolled out");

    // Lost or edited, it is made again. The replica that is left goes on when the other has gone.
    second_replica.stop().await?;
    let api = env.api::<ConfigMap>();
    api.delete("l2o-definition", &DeleteParams::default())
        .await?;
    until("the ConfigMap is back", SOON, async || {
        let found = api.get_opt("l2o-definition").await?.context("not yet")?;
        let owned = found
            .owner_references()
            .iter()
            .any(|it| it.kind == "Process");
        ensure!(owned, "the Process owns it");
        Ok(())
    })
    .await?;
    let edit = ["patch", "configmap", "l2o-definition", "--type=merge", "-p"];
    let edit = [edit.as_slice(), &[r#"{"data":{"l2o.bpmn":"<mine/>"}}"#]].concat();
    env.kubectl(&edit, "")?;
    until("the edit is undone", SOON, async || {
        let found = api.get("l2o-definition").await?;
        let text = found.data.iter().flatten().map(|(_, text)| text.as_str());
        ensure!(text.collect::<String>() == "<second/>", "not yet");
        Ok(())
    })
    .await?;
    let back = env.wait_settled("l2o", "v1").await?;
    ensure!(current(&back) == current(&before), "nothing was rolled out");

    // Without a registry what was fetched goes.
    world.keeps_its_secret().await?;
    env.patch(
        "l2o",
        &json!({ "spec": { "definitionRef": { "registry": null } } }),
    )
    .await?;
    until("the ConfigMap is gone", SOON, async || {
        ensure!(
            api.get_opt("l2o-definition").await?.is_none(),
            "still there"
        );
        Ok(())
    })
    .await?;
    env.wait_settled("l2o", "v1").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_is_told_with_field_and_fix_and_heals() -> Result<()> {
    let world = World::new("unfetched").await?;
    let (env, registry) = (&world.env, &world.registry);
    let elsewhere = Registry::start().await?;
    elsewhere.is(Mood::Serves);
    env.apply(&world.process(&elsewhere.url("l2o"))).await?;
    let refused = world.resolved("RegistryNotAllowed").await?;
    let message = condition(&refused, "Ready").2;
    for part in ["spec.definitionRef.registry.url", "--definition-registry"] {
        ensure!(message.contains(part), "{message}");
    }

    // The address is put right: one trouble after the other is told.
    registry.is(Mood::Redirects(elsewhere.url("l2o")));
    env.apply(&world.process(&registry.url("l2o"))).await?;
    world.told("redirects are not followed").await?;
    ensure!(elsewhere.requests() == 0, "nothing was asked elsewhere");
    registry.is(Mood::Fails(StatusCode::NOT_FOUND));
    world.told("it has no such definition").await?;
    registry.is(Mood::SendsTooMuch);
    let told = world.told("which is what a ConfigMap can hold").await?;
    ensure!(
        condition(&told, "DefinitionResolved").1 == "DefinitionUnusable",
        "its reason"
    );
    std::fs::write(&world.token, "another\n")?;
    registry.is(Mood::Serves);
    let told = world.resolved("RegistryRefused").await?;
    let message = condition(&told, "DefinitionResolved").2;
    ensure!(
        message.contains("--definition-registry-token-file"),
        "{message}"
    );
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );

    // The same by Connect: a token that the registry repeats is not shown.
    std::fs::write(&world.token, TOKEN)?;
    registry.is(Mood::Fails(StatusCode::NOT_FOUND));
    let mut process = world.process(&registry.url("rpc/Definitions/GetProcessDefinition"));
    process["spec"]["definitionRef"]["registry"]["protocol"] = "Connect".into();
    env.apply(&process).await?;
    let told = world.resolved("DefinitionNotFound").await?;
    let message = condition(&told, "DefinitionResolved").2;
    ensure!(message.contains("none for …"), "{message}");
    registry.is(Mood::Serves);
    env.wait_settled("l2o", "v1").await?;
    let asked = registry.asked();
    ensure!(
        asked == json!({ "id": "L2O_v3", "tenantId": "t123" }),
        "{asked}"
    );
    ensure!(read(env, "connect").await? == "<first/>", "by Connect");
    registry.asked_again().await?;
    ensure!(registry.unchanged() > 0, "its ETag is kept too");
    world.keeps_its_secret().await?;

    // Without the flag what runs is left alone.
    world.operator.stop().await?;
    let bare = Operator::start(env, OperatorOptions::default()).await?;
    let told = world.resolved("RegistryNotAllowed").await?;
    ensure!(condition(&told, "Ready").0 == "True", "it serves");
    ensure!(read(env, "bare").await? == "<first/>", "its own copy");
    bare.stop().await?;
    let again = Operator::start(env, options(registry, &world.token, "operator-0")).await?;
    env.wait_settled("l2o", "v1").await?;
    drop(again);
    std::fs::remove_file(&world.token)?;
    world.env.remove().await
}
