//! What the charts render.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Env, SOON, until};
use serde_json::{Value, json};

use crate::monitoring;
use crate::support::{chart, crds_chart, helm, objects, own_values, render, root};

/// Sets of values with a reviewed rendering each.
const SETS: [&str; 4] = ["default", "namespaced", "everything", "scraped"];

fn snapshot(name: &str) -> String {
    let dir = root().join("tests/snapshots/charts");
    dir.join(name).to_string_lossy().into_owned()
}

fn rendered(set: &str) -> Result<String> {
    let values = snapshot(&format!("{set}.values.yaml"));
    render(
        "process-operator",
        "process-operator",
        &["--values", &values],
    )
}

/// Compares with a file; with `UPDATE_SNAPSHOTS=1` writes it instead.
fn same(path: &str, text: &str) -> Result<()> {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        return Ok(std::fs::write(path, text)?);
    }
    let known = std::fs::read_to_string(path).unwrap_or_default();
    let differs = known
        .lines()
        .zip(text.lines())
        .position(|(known, text)| known != text)
        .unwrap_or_else(|| known.lines().count().min(text.lines().count()));
    ensure!(
        known == text,
        "{path} line {}: `{}` is now `{}`; run the test with UPDATE_SNAPSHOTS=1 and look at the difference",
        differs + 1,
        known.lines().nth(differs).unwrap_or_default(),
        text.lines().nth(differs).unwrap_or_default(),
    );
    Ok(())
}

#[test]
fn both_charts_lint() -> Result<()> {
    for chart in [chart(), crds_chart()] {
        helm(&["lint", "--strict", &chart.to_string_lossy()])?;
    }
    Ok(())
}

#[test]
fn what_is_rendered_is_what_was_reviewed() -> Result<()> {
    for set in SETS {
        same(&snapshot(&format!("{set}.yaml")), &rendered(set)?)?;
    }
    Ok(())
}

#[test]
fn every_rule_of_a_role_says_why() -> Result<()> {
    for set in SETS {
        let text = rendered(set)?;
        let lines: Vec<&str> = text.lines().collect();
        for (number, pair) in lines.windows(2).enumerate() {
            // What policies are about stands deeper.
            let rule = pair[1].starts_with("  - apiGroups:");
            ensure!(
                !rule || pair[0].starts_with("  # "),
                "{set} line {}: no comment stands above `{}`",
                number + 2,
                pair[1].trim()
            );
        }
    }
    Ok(())
}

#[test]
fn the_pod_of_helm_test_may_ask_and_is_no_replica() -> Result<()> {
    // With `networkPolicy.metricsFrom`, without which anybody may.
    let all = objects(&rendered("scraped")?)?;
    let of = |kind: &str| {
        let found = all.iter().find(|object| object["kind"] == kind);
        found.with_context(|| format!("no {kind}"))
    };
    let labels = &of("Pod")?["metadata"]["labels"];
    let selects = |selector: &Value| {
        let wanted = selector.as_object();
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
    };
    let policy = &of("NetworkPolicy")?["spec"];
    let from = policy["ingress"][0]["from"].as_array();
    let from = from.context("it says nobody")?;
    ensure!(
        from.iter()
            .any(|peer| selects(&peer["podSelector"]["matchLabels"])),
        "{from:?} {labels}"
    );
    for replicas in [
        &policy["podSelector"]["matchLabels"],
        &of("Service")?["spec"]["selector"],
        &of("PodDisruptionBudget")?["spec"]["selector"]["matchLabels"],
    ] {
        ensure!(
            replicas.is_object() && !selects(replicas),
            "{replicas} {labels}"
        );
    }
    Ok(())
}

/// What no kubectl user wants to read in `deploy/rbac.yaml`.
const ONLY_HELM: [&str; 5] = [
    "# Source: ",
    "app.kubernetes.io/instance:",
    "app.kubernetes.io/version:",
    "app.kubernetes.io/managed-by:",
    "helm.sh/chart:",
];

#[test]
fn rights_without_helm_are_those_of_the_chart() -> Result<()> {
    let templates = [
        "--show-only=templates/serviceaccount.yaml",
        "--show-only=templates/rbac.yaml",
    ];
    let text = render("process-operator", "process-operator", &templates)?;
    let kept = text
        .lines()
        .filter(|line| !line.is_empty())
        .filter(|line| {
            let line = line.trim_start();
            !ONLY_HELM.iter().any(|own| line.starts_with(own))
        })
        .collect::<Vec<_>>()
        .join("\n");
    let kept = kept.trim_start_matches("---\n");
    let head = "# What the operator may do. Every rule says why. Nothing here is a wildcard, no Secret is read, no\n\
                # role is granted or passed on. Rendered from the chart: a test compares.\n";
    let path = root().join("deploy/rbac.yaml");
    same(&path.to_string_lossy(), &format!("{head}{kept}\n"))
}

#[test]
fn the_definition_stays_unless_somebody_wants_it_gone() -> Result<()> {
    let chart = crds_chart();
    let chart = chart.to_string_lossy();
    let definition = |args: &[&str]| -> Result<Value> {
        let mut all = vec!["template", "crds", &*chart];
        all.extend(args);
        let mut found = objects(&helm(&all)?)?;
        ensure!(found.len() == 1 && found[0]["kind"] == "CustomResourceDefinition");
        Ok(found.remove(0))
    };
    let kept = definition(&[])?;
    ensure!(kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep");
    let loose = definition(&["--set", "keep=false"])?;
    ensure!(loose["metadata"]["annotations"]["helm.sh/resource-policy"].is_null());
    // Braces and all.
    let plain = std::fs::read_to_string(root().join("crds/processes.ameide.io.yaml"))?;
    ensure!(objects(&plain)?[0]["spec"] == kept["spec"]);
    ensure!(kept["metadata"]["name"] == "processes.ameide.io");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_all_of_it() -> Result<()> {
    let env = Env::new("rendered").await?;
    // Without it no pod is taken, and nobody waits for it who makes a namespace.
    until("the namespace has its account", SOON, async || {
        env.kubectl(&["get", "serviceaccount", "default"], "")
    })
    .await?;
    monitoring::define(&env).await?;
    let own = std::env::temp_dir().join(format!("{}.yaml", env.namespace));
    let values = json!({ "watchNamespaces": own_values(&env)["watchNamespaces"] });
    std::fs::write(&own, serde_json::to_vec(&values)?)?;
    for set in SETS {
        let values = snapshot(&format!("{set}.values.yaml"));
        let mut args = vec!["--values", &values];
        let own = own.to_string_lossy();
        if set != "default" {
            // A namespace that exists.
            args.extend(["--values", &*own]);
        }
        let text = render("rendered", &env.namespace, &args)?;
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects(&text)? });
        let mut kubectl = env
            .testbed
            .kubectl()
            .args(["apply", "--server-side", "--dry-run=server"])
            .args(["--validate=strict", "--filename=-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = kubectl.stdin.take().context("stdin")?;
        stdin.write_all(&serde_json::to_vec(&list)?)?;
        drop(stdin);
        let answer = kubectl.wait_with_output()?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        ensure!(
            answer.status.success() && !said.contains("Warning"),
            "{set}: {said}"
        );
    }
    std::fs::remove_file(own)?;
    monitoring::forget(&env)?;
    env.remove().await
}
