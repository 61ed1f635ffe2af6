//! The archive for a report: what is needed is in it, and no secret.

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use process_operator_harness::{Cli, Scene, manifest};
use serde_json::json;

const SECRET: &str = "correct-horse-battery";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_report_needs_is_in_the_archive_and_no_secret() -> Result<()> {
    let scene = Scene::new("cligather").await?;
    let env = &scene.env;
    env.kubectl(
        &[
            "create",
            "secret",
            "generic",
            "creds",
            &format!("--from-literal=token={SECRET}"),
        ],
        "",
    )?;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["worker"]["env"] = json!([
        { "name": "PASSWORD", "value": SECRET },
        { "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "creds", "key": "token" } } },
    ]);
    env.apply(&process).await?;
    env.wait_settled("l2o", "v1").await?;
    let path = std::env::temp_dir().join(format!("{}.tar.gz", env.namespace));
    let file = path.to_str().context("a path")?;
    let address = &env.temporal_address;
    let args = ["gather", "l2o", "-o", file, "--temporal-address", address];
    let said = Cli::admin(env).run(&args).await?.ended(0)?;
    said.complains(&["is written"])?;
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(GzDecoder::new(std::fs::File::open(&path)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        ensure!(!text.contains(SECRET), "{name} has the secret:\n{text}");
        found.insert(name, text);
    }
    std::fs::remove_file(&path)?;
    for (begin, has) in [
        ("tree.txt", "✔ Settled"),
        ("process.yaml", "currentVersion"),
        ("deployments/l2o-", "PASSWORD"),
        ("pods/l2o-", "secretKeyRef"),
        ("controllerrevisions/l2o-", "(redacted)"),
        ("replicasets/l2o-", "kind: ReplicaSet"),
        ("events.yaml", "VersionCurrent"),
        ("logs/l2o-", "l2o-tq"),
        ("histories/process_", "WORKFLOW_EXECUTION_STARTED"),
        ("histories/rollout_", "ProcessRollout"),
    ] {
        let fits = found
            .iter()
            .any(|(name, text)| name.starts_with(begin) && text.contains(has));
        ensure!(fits, "{begin} with {has}: {found:#?}");
    }
    ensure!(
        !found.contains_key("missing.txt"),
        "{:?}",
        found.get("missing.txt")
    );
    scene.finish().await
}
