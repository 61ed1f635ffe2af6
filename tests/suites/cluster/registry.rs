//! Definitions fetched from a registry: a real HTTP server in this process, which the operator reaches on
//! loopback.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use http::{HeaderMap, Method, Response, StatusCode, header};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditFilter, AuditMark};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, condition, is_settled, manifest, until,
};
use serde_json::{Value, json};

use crate::definition::{current, read, version};

const SOON: Duration = Duration::from_secs(90);
const TOKEN: &str = "s3cret-of-the-registry";

/// What the registry does next.
#[derive(Debug, Clone)]
enum Mood {
    Serves,
    Fails(StatusCode),
    Redirects(String),
    SendsTooMuch,
}

#[derive(Debug)]
struct Inner {
    mood: Mood,
    text: String,
    version: i64,
    /// What was asked last.
    asked: Value,
}

/// A registry that counts.
#[derive(Debug, Clone)]
struct Registry {
    inner: Arc<Mutex<Inner>>,
    requests: Arc<AtomicUsize>,
    unchanged: Arc<AtomicUsize>,
    address: String,
}

impl Registry {
    async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let registry = Self {
            inner: Arc::new(Mutex::new(Inner {
                mood: Mood::Fails(StatusCode::SERVICE_UNAVAILABLE),
                text: "<first/>".into(),
                version: 3,
                asked: Value::Null,
            })),
            requests: Arc::default(),
            unchanged: Arc::default(),
            address: listener.local_addr()?.to_string(),
        };
        let routes = Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(registry)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    fn publish(&self, version: i64, text: &str) {
        let mut inner = self.lock();
        inner.version = version;
        text.clone_into(&mut inner.text);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn unchanged(&self) -> usize {
        self.unchanged.load(Ordering::SeqCst)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Waits until it was asked once more than now.
    async fn asked_again(&self) -> Result<()> {
        let before = self.requests();
        until("the registry is asked again", SOON, async || {
            ensure!(self.requests() > before, "not yet");
            Ok(())
        })
        .await
    }
}

/// Lets in who has the token. `/rpc/` speaks Connect, everything else is the definition.
async fn answer(
    State(registry): State<Registry>,
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    registry.requests.fetch_add(1, Ordering::SeqCst);
    let said = |name: header::HeaderName| headers.get(name).and_then(|it| it.to_str().ok());
    let with = |status: StatusCode, body: String| {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response
    };
    let connect = uri.path().starts_with("/rpc/");
    if said(header::AUTHORIZATION) != Some(&format!("Bearer {TOKEN}")) {
        return with(StatusCode::UNAUTHORIZED, String::new());
    }
    let mut inner = registry.lock();
    match inner.mood.clone() {
        Mood::Serves => {}
        Mood::Fails(status) if connect => {
            // One that repeats what it was shown.
            let error = json!({ "code": "not_found", "message": format!("none for {TOKEN}") });
            return with(status, error.to_string());
        }
        Mood::Fails(status) => return with(status, String::new()),
        Mood::Redirects(to) => {
            let mut response = with(StatusCode::FOUND, String::new());
            if let Ok(to) = to.parse() {
                response.headers_mut().insert(header::LOCATION, to);
            }
            return response;
        }
        Mood::SendsTooMuch => return with(StatusCode::OK, "x".repeat(1_100_000)),
    }
    let etag = format!("\"{}-{}\"", inner.version, inner.text.len());
    if said(header::IF_NONE_MATCH) == Some(&etag) {
        registry.unchanged.fetch_add(1, Ordering::SeqCst);
        return with(StatusCode::NOT_MODIFIED, String::new());
    }
    let (text, version) = (inner.text.clone(), inner.version);
    let mut response = if connect {
        inner.asked = serde_json::from_slice(&body).unwrap_or_default();
        if method != Method::POST || !headers.contains_key("connect-protocol-version") {
            return with(StatusCode::UNSUPPORTED_MEDIA_TYPE, String::new());
        }
        let message = json!({
            "content": text, "fileName": "l2o.bpmn", "version": version.to_string(),
        });
        with(StatusCode::OK, message.to_string())
    } else {
        with(StatusCode::OK, text)
    };
    let headers = response.headers_mut();
    let content_type = if connect {
        "application/json"
    } else {
        "application/bpmn+xml"
    };
    for (name, value) in [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::ETAG, etag),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"l2o.bpmn\"".to_owned(),
        ),
        (
            header::HeaderName::from_static("definition-version"),
            version.to_string(),
        ),
    ] {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    response
}

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
            format!("http://{}", registry.address),
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
    let told = |words: &'static str| {
        env.wait_process("l2o", words, SOON, move |process| {
            condition(process, "DefinitionResolved").2.contains(words)
        })
    };
    told("redirects are not followed").await?;
    ensure!(elsewhere.requests() == 0, "nothing was asked elsewhere");
    registry.is(Mood::Fails(StatusCode::NOT_FOUND));
    told("it has no such definition").await?;
    registry.is(Mood::SendsTooMuch);
    let told = told("which is what a ConfigMap can hold").await?;
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
    let asked = registry.lock().asked.clone();
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
