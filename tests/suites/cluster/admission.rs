//! What the API server accepts and refuses, and what it says then: every case of
//! `crds/validation-cases.yaml`, on the real one.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_crds::cases::{Case, Verdict, cases};
use process_operator_harness::Env;
use serde_json::{Value, json};

/// A write, and the API server's words when it refuses.
async fn write(env: &Env, method: &str, path: &str, body: &Value) -> Result<Result<Value, String>> {
    let merge = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
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
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if let Some(metadata) = manifest["metadata"].as_object_mut() {
        metadata.insert("namespace".into(), env.namespace.clone().into());
    }
    let mut last = write(env, "POST", "", manifest).await?;
    if let Some(status) = &case.status {
        last.as_ref().map_err(|why| anyhow::anyhow!("the creation was refused: {why}"))?;
        last = write(env, "PATCH", &format!("/{name}/status"), &json!({ "status": status })).await?;
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
    let table = cases()?;
    let mut wrong = Vec::new();
    for case in &table.cases {
        let mut manifest = table.manifest(case);
        let answer =
            run(&env, &mut manifest, case).await.with_context(|| format!("case {:?}", case.name))?;
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
            let _ = env.api::<Process>().delete(name, &kube::api::DeleteParams::default()).await;
        }
    }
    ensure!(wrong.is_empty(), "{} of {} cases: {wrong:#?}", wrong.len(), table.cases.len());
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_process_is_not_taken_for_a_finished_one() -> Result<()> {
    let env = Env::new("untouched").await?;
    // No operator looks after this namespace.
    env.apply(&process_operator_harness::manifest(&env, "l2o", "v1")).await?;
    let process = env.api::<Process>().get("l2o").await?;
    let (status, reason, message) = process_operator_harness::condition(&process, "Ready");
    ensure!(
        (status.as_str(), reason.as_str()) == ("Unknown", "Pending"),
        "{status} {reason} {message}: without it, tools take an object nobody has touched for ready"
    );
    env.remove().await
}
