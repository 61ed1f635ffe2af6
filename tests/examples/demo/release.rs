//! The operator as everybody installs it: by its charts.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use process_operator_tests::testbed::{Testbed, cache_dir};

use crate::stage::{CONTROL, NAMESPACE as PROCESSES, root};

/// Kubernetes namespace of the operator, and of Helm's records of both releases.
pub(crate) const NAMESPACE: &str = "demo-operator";
/// How many pods the operator has.
pub(crate) const REPLICAS: u32 = 2;

const DEFINITION: &str = "process-operator-crds";
const OPERATOR: &str = "process-operator";

/// Installs both charts, and waits until the operator is ready.
pub(crate) fn install(testbed: &Testbed) -> Result<()> {
    let chart = |name: &str| {
        root()
            .join("deploy/charts")
            .join(name)
            .display()
            .to_string()
    };
    helm(
        testbed,
        &[
            "install",
            DEFINITION,
            &chart(DEFINITION),
            // `kubectl apply` or an earlier demo may have made it.
            "--take-ownership",
            "--force-conflicts",
            "--wait",
        ],
    )?;
    let temporal = &testbed.state().temporal_pod_address;
    let mut args = vec!["install".to_owned(), OPERATOR.to_owned(), chart(OPERATOR)];
    for value in [
        format!("replicaCount={REPLICAS}"),
        format!("watchNamespaces={{{PROCESSES}}}"),
        format!("temporal.address={temporal}"),
        format!("temporal.namespace={CONTROL}"),
        // So that the end of the story comes soon; the default is a minute, and an hour.
        "config.drain.scaleDownDelaySeconds=5".to_owned(),
        "config.drain.deleteDelaySeconds=0".to_owned(),
    ] {
        args.extend(["--set".to_owned(), value]);
    }
    args.extend(["--wait".to_owned(), "--timeout=150s".to_owned()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    helm(testbed, &args)
}

/// Uninstalls both, if they are there. The definition stays, as its chart says.
pub(crate) fn remove(testbed: &Testbed) -> Result<()> {
    for release in [OPERATOR, DEFINITION] {
        let args = [
            "uninstall",
            release,
            "--ignore-not-found",
            "--wait",
            "--timeout=60s",
        ];
        helm(testbed, &args)?;
    }
    Ok(())
}

/// Writes what the pods have logged to a file.
pub(crate) fn log(testbed: &Testbed) -> Result<PathBuf> {
    let output = testbed
        .kubectl()
        .args(["logs", "--namespace", NAMESPACE, "--prefix", "--tail=-1"])
        .arg(format!("--selector=app.kubernetes.io/instance={OPERATOR}"))
        .output()?;
    let path = cache_dir()?.join("demo-operator.log");
    fs::write(&path, [output.stdout, output.stderr].concat())?;
    Ok(path)
}

/// How a person uninstalls the operator.
pub(crate) fn removal(testbed: &Testbed) -> String {
    let kubeconfig = testbed.kubeconfig().display();
    format!("helm --kubeconfig {kubeconfig} uninstall {OPERATOR} {DEFINITION} -n {NAMESPACE}")
}

fn helm(testbed: &Testbed, args: &[&str]) -> Result<()> {
    let output = testbed
        .helm(&cache_dir()?.join("helm"))?
        .args(args)
        .args(["--namespace", NAMESPACE])
        .output()?;
    ensure!(
        output.status.success(),
        "helm {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
