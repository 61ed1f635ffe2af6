//! What comes after the installation: a later definition, and an operator that goes before its Processes do.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Env, SOON, manifest, until};
use serde_json::json;

use crate::support::{Release, crds_chart, helm, home};

/// Where a field is put that only the later definition has.
const BEFORE: &str = "\n              suspend:\n";
const FIELD: &str = "\n              sometime:\n                description: What a later release knows.\n                \
                     maxLength: 63\n                type: string";

/// The chart of a definition with one field more.
fn later_chart() -> Result<PathBuf> {
    let (from, to) = (crds_chart(), home().join("later-crds"));
    let template = "templates/processes.ameide.io.yaml";
    fs::create_dir_all(to.join("templates"))?;
    for file in ["Chart.yaml", "values.yaml", "values.schema.json"] {
        fs::copy(from.join(file), to.join(file))?;
    }
    let text = fs::read_to_string(from.join(template))?;
    ensure!(text.matches(BEFORE).count() == 1, "{template} is another");
    let text = text.replace(BEFORE, &format!("{FIELD}{BEFORE}"));
    fs::write(to.join(template), text)?;
    Ok(to)
}

/// Uids of pods and when Deployments were changed.
async fn untouched(env: &Env) -> Result<Vec<String>> {
    let deployments = env.deployments("l2o").await?;
    let deployments = deployments
        .iter()
        .map(|it| format!("{:?} {:?}", it.uid(), it.metadata.generation));
    let pods = env.pods("l2o").await?;
    let pods = pods.iter().map(|it| format!("{:?}", it.uid()));
    Ok(deployments.chain(pods).collect())
}

/// A definition that is upgraded by its chart and goes back disturbs nobody; the operator works with the later one.
pub(crate) async fn definition(env: &Env, release: &str) -> Result<()> {
    let before = untouched(env).await?;
    let chart = later_chart()?;
    let chart = chart.to_string_lossy();
    // `kubectl apply` was there too.
    let forced = ["--namespace", "default", "--force-conflicts", "--wait"];
    helm(&[&["upgrade", release, &*chart][..], &forced].concat())?;
    let mut wanted = manifest(env, "l2o", "v1");
    wanted["spec"]["sometime"] = json!("later");
    until("the new field is taken", SOON, async || {
        env.apply(&wanted).await
    })
    .await?;
    env.wait_settled("l2o", "v1").await?;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    helm(&[&["rollback", release][..], &forced].concat())?;
    let field =
        "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.sometime}";
    let left = env.kubectl(&["get", "crd", "processes.ameide.io", "-o", field], "")?;
    ensure!(left.is_empty(), "{left}");
    env.wait_settled("l2o", "v1").await?;
    let after = untouched(env).await?;
    ensure!(after == before, "{before:?} {after:?}");
    Ok(())
}

/// F37: a Process that is deleted after its operator was taken away waits for the next one, and so do its workers.
pub(crate) async fn operator(env: &Env, release: &Release, process: &Process) -> Result<()> {
    release.helm("uninstall", &["--wait", "--timeout=90s"])?;
    let deleted = env.kubectl(&["delete", "process", "l2o", "--timeout=3s"], "");
    let why = deleted.err().context("nobody can have let it go")?;
    let why = format!("{why:#}");
    ensure!(why.contains("timed out waiting"), "{why}");
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    release.put("install", &[])?;
    env.kubectl(
        &["wait", "--for=delete", "process/l2o", "--timeout=90s"],
        "",
    )?;
    env.nothing_is_left(process).await
}
