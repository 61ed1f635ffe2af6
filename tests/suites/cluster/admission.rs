//! What the API server accepts and refuses, and what it says then: every case of
//! `crds/validation-cases.yaml`, on the real one.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use process_operator_crds::Process;
use process_operator_crds::cases::{Case, Verdict, cases};
use process_operator_harness::{Env, Operator, OperatorOptions, SOON, manifest, until};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// The definition is one for all tests: the one that changes it runs alone.
static DEFINITION: Mutex<()> = Mutex::const_new(());

/// A write, and the API server's words when it refuses.
async fn write(env: &Env, method: &str, path: &str, body: &Value) -> Result<Result<Value, String>> {
    let merge = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = http::Request::builder()
        .method(method)
        .uri(format!(
            "/apis/ameide.io/v1/namespaces/{}/processes{path}?fieldValidation=Strict",
            env.namespace
        ))
        .header("Content-Type", merge)
        .body(serde_json::to_vec(body)?)?;
    match env.kube.request::<Value>(request).await {
        Ok(object) => Ok(Ok(object)),
        Err(kube::Error::Api(status)) => Ok(Err(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

/// Runs one case; `Ok` is the answer to its last write.
async fn run(env: &Env, manifest: &mut Value, case: &Case) -> Result<Result<Value, String>> {
    let name = manifest["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if let Some(metadata) = manifest["metadata"].as_object_mut() {
        metadata.insert("namespace".into(), env.namespace.clone().into());
    }
    let mut last = write(env, "POST", "", manifest).await?;
    if let Some(status) = &case.status {
        last.as_ref()
            .map_err(|why| anyhow::anyhow!("the creation was refused: {why}"))?;
        last = write(
            env,
            "PATCH",
            &format!("/{name}/status"),
            &json!({ "status": status }),
        )
        .await?;
    }
    if let Some(update) = &case.update {
        let live = last
            .as_ref()
            .map_err(|why| anyhow::anyhow!("the write before the update was refused: {why}"))?;
        last = write(env, "PUT", &format!("/{name}"), &update.apply(live.clone())).await?;
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_of_the_table_is_accepted_or_refused_with_its_message() -> Result<()> {
    let env = Env::new("admission").await?;
    let _alone = DEFINITION.lock().await;
    let table = cases()?;
    let mut wrong = Vec::new();
    for case in &table.cases {
        let mut manifest = table.manifest(case);
        let answer = run(&env, &mut manifest, case)
            .await
            .with_context(|| format!("case {:?}", case.name))?;
        match (case.verdict(), &answer) {
            (Verdict::Accept, Ok(_)) => {}
            (Verdict::Reject(words), Err(message)) if message.contains(words) => {}
            (verdict, answer) => wrong.push(format!(
                "{:?}: wanted {verdict:?}, the API server said {:?}",
                case.name,
                answer.as_ref().map(|_| "accepted")
            )),
        }
        if let Some(name) = manifest["metadata"]["name"].as_str() {
            // What was refused is not there.
            let _ = env
                .api::<Process>()
                .delete(name, &kube::api::DeleteParams::default())
                .await;
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} cases: {wrong:#?}",
        wrong.len(),
        table.cases.len()
    );
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_process_is_not_taken_for_a_finished_one() -> Result<()> {
    let env = Env::new("untouched").await?;
    // No operator looks after this namespace.
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.api::<Process>().get("l2o").await?;
    let (status, reason, message) = process_operator_harness::condition(&process, "Ready");
    ensure!(
        (status.as_str(), reason.as_str()) == ("Unknown", "Pending"),
        "{status} {reason} {message}: without it, tools take an object nobody has touched for ready"
    );
    env.remove().await
}

/// A newer release knows a strategy that this one does not; its CRD was rolled back with objects left.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_slipped_past_another_schema_harms_no_other_and_can_be_corrected_or_deleted()
-> Result<()> {
    let env = Env::new("slipped").await?;
    let _alone = DEFINITION.lock().await;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let strategy = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/rollout\
                    /properties/strategy";
    let crds: Api<CustomResourceDefinition> = Api::all(env.kube.clone());
    let patch = |operations: Value| {
        let crds = crds.clone();
        async move {
            let patch: Patch<()> = Patch::Json(serde_json::from_value(operations)?);
            crds.patch("processes.ameide.io", &PatchParams::default(), &patch)
                .await?;
            anyhow::Ok(())
        }
    };
    let crd = crds.get("processes.ameide.io").await?;
    let known = serde_json::to_value(&crd)?
        .pointer(strategy)
        .cloned()
        .context("the strategy's schema")?;
    let mut bad = manifest(&env, "bad", "v1");
    bad["spec"]["rollout"] = json!({ "strategy": "FromTheFuture" });

    patch(json!([{ "op": "remove", "path": format!("{strategy}/enum") }])).await?;
    let mut worse = bad.clone();
    worse["metadata"]["name"] = "worse".into();
    worse["spec"]["temporal"]["taskQueue"] = "worse-tq".into();
    let stored = async {
        for manifest in [&bad, &worse] {
            until("the loosened schema is in force", SOON, async || {
                write(&env, "POST", "", manifest)
                    .await?
                    .map_err(|why| anyhow::anyhow!(why))
            })
            .await?;
        }
        anyhow::Ok(())
    }
    .await;
    // Put right in any case: the definition is shared.
    patch(json!([{ "op": "replace", "path": strategy, "value": known }])).await?;
    stored?;

    env.apply(&manifest(&env, "good", "v1")).await?;
    env.wait_settled("good", "v1").await?;
    until("the bad one says so", SOON, async || {
        let text = env.kubectl(
            &[
                "get",
                "process",
                "bad",
                "-o",
                "jsonpath={.status.conditions}",
            ],
            "",
        )?;
        ensure!(
            text.contains("InvalidSpec") && text.contains("FromTheFuture"),
            "{text}"
        );
        Ok(())
    })
    .await?;
    ensure!(
        env.deployments("bad").await?.is_empty(),
        "nothing is deployed for it"
    );

    let correction = json!({ "spec": { "rollout": { "strategy": "RollingUpdate" } } });
    env.patch("bad", &correction).await?;
    env.wait_settled("bad", "v1").await?;
    env.kubectl(
        &["delete", "process", "worse", "--wait=true", "--timeout=60s"],
        "",
    )?;
    ensure!(!operator.ended(), "the operator lives");
    env.remove().await
}
