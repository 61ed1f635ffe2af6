//! Helm, and a release of the operator's chart.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use process_operator_harness::Env;
use process_operator_tests::testbed::Testbed;
use serde::Deserialize as _;
use serde_json::{Value, json};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Directory of the operator's chart.
pub(crate) fn chart() -> PathBuf {
    root().join("deploy/charts/process-operator")
}

/// Directory of the chart of the definition.
pub(crate) fn crds_chart() -> PathBuf {
    root().join("deploy/charts/process-operator-crds")
}

/// Where Helm keeps its own files.
pub(crate) fn home() -> PathBuf {
    std::env::temp_dir().join(format!("helm-{}", std::process::id()))
}

/// Runs a command; its output, or what it said when it failed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Runs Helm in the checkout.
pub(crate) fn helm(args: &[&str]) -> Result<String> {
    let mut command = Testbed::current()?.helm(&home())?;
    output(command.current_dir(root()).args(args))
}

/// Renders the operator's chart.
pub(crate) fn render(release: &str, namespace: &str, args: &[&str]) -> Result<String> {
    let chart = chart();
    let chart = chart.to_string_lossy();
    let mut all = vec!["template", release, &*chart, "--namespace", namespace];
    all.extend(args);
    helm(&all)
}

/// The objects in a stream of YAML documents.
pub(crate) fn objects(text: &str) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = Value::deserialize(document)?;
        if !value.is_null() {
            objects.push(value);
        }
    }
    Ok(objects)
}

/// The operator in a namespace of its own, which looks after the namespace of `env` and no other: all
/// namespaces are shared with other tests.
pub(crate) struct Release {
    /// Kubernetes namespace of the operator.
    pub namespace: String,
    /// Name of the release.
    pub name: String,
    /// File with its values.
    pub values: PathBuf,
}

impl Release {
    /// Makes the namespace and the values; installs nothing.
    pub(crate) fn new(env: &Env, name: &str) -> Result<Self> {
        Self::with_values(env, name, &own_values(env))
    }

    /// The same with values of the test's own.
    pub(crate) fn with_values(env: &Env, name: &str, own: &Value) -> Result<Self> {
        let namespace = format!("{}-system", env.namespace);
        env.testbed.create_namespace(&namespace)?;
        std::fs::create_dir_all(home())?;
        let values = home().join(format!("{namespace}.yaml"));
        std::fs::write(&values, serde_json::to_vec(own)?)?;
        Ok(Self {
            namespace,
            name: name.to_owned(),
            values,
        })
    }

    /// `helm <verb> <release>` with what every call needs.
    pub(crate) fn helm(&self, verb: &str, args: &[&str]) -> Result<String> {
        let mut all = vec![verb, &self.name];
        all.extend(args);
        all.extend(["--namespace", &self.namespace]);
        helm(&all)
    }

    /// `helm install` or `helm upgrade` with the chart.
    pub(crate) fn put(&self, verb: &str, args: &[&str]) -> Result<String> {
        let (chart, values) = (chart(), self.values.to_string_lossy());
        let chart = chart.to_string_lossy();
        let mut all = vec![&*chart, "--values", &*values, "--wait", "--timeout=150s"];
        all.extend(args);
        self.helm(verb, &all)
    }

    /// Name of its Deployment, Service and `ServiceAccount`.
    pub(crate) fn fullname(&self) -> String {
        if self.name.contains("process-operator") {
            return self.name.clone();
        }
        format!("{}-process-operator", self.name)
    }

    /// kubectl in the operator's namespace.
    pub(crate) fn kubectl(&self, env: &Env, args: &[&str]) -> Result<String> {
        let mut all = args.to_vec();
        all.extend(["-n", &self.namespace]);
        env.kubectl(&all, "")
    }

    /// Uninstalls it and deletes its namespace.
    pub(crate) fn remove(&self, env: &Env) -> Result<()> {
        self.helm("uninstall", &["--wait", "--timeout=90s"])?;
        env.kubectl(
            &["delete", "namespace", &self.namespace, "--wait=false"],
            "",
        )?;
        Ok(())
    }
}

/// What every release of these tests must say, with short clocks.
pub(crate) fn own_values(env: &Env) -> Value {
    json!({
        "watchNamespaces": [env.namespace],
        "temporal": {
            "address": env.temporal_pod_address,
            "namespace": env.control,
        },
        "image": { "pullPolicy": "Never" },
        "config": {
            "sweepSeconds": 5,
            "outageSeconds": 6,
            "shutdownSeconds": 5,
            "drain": { "scaleDownDelaySeconds": 1, "deleteDelaySeconds": 0 },
        },
        "terminationGracePeriodSeconds": 8,
    })
}
