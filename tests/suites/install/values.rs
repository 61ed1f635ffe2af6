//! Values: all are known, all are documented, wrong ones are refused by name.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::support::{chart, crds_chart, helm, objects, output, render, root};

/// What is set, and a part of what Helm says.
const REFUSED: [(&str, &str); 18] = [
    ("replicas=3", "'replicas' not allowed"),
    ("config.sweepSecond=3", "'sweepSecond' not allowed"),
    ("temporal.tls.cert=x", "'cert' not allowed"),
    ("monitoring.podMonitor.on=true", "'on' not allowed"),
    ("config.sweepSeconds=0", "/config/sweepSeconds"),
    ("config.drain.onTimeout=Kill", "MoveToCurrent"),
    ("config.domainKind=Domain", "/config/domainKind"),
    ("temporal.address=no-port", "/temporal/address"),
    ("watchNamespaces[0]=Team", "/watchNamespaces/0"),
    ("image.digest=sha256:1", "/image/digest"),
    ("port=0", "/port"),
    ("extraArgs[0]=run", "/extraArgs/0"),
    (
        "temporal.secret.keys.apiKey=key",
        "temporal.secret.name: must name the Secret that temporal.secret.keys.apiKey is in",
    ),
    (
        "temporal.secret.name=s",
        "temporal.secret.keys: none is named",
    ),
    ("temporal.address=", "temporal.address: must be host:port"),
    (
        "config.shutdownSeconds=30",
        "config.shutdownSeconds: must be below",
    ),
    (
        "serviceAccount.create=false",
        "serviceAccount.name: must name",
    ),
    (
        "monitoring.podMonitor.enabled=true,monitoring.serviceMonitor.enabled=true",
        "monitoring: podMonitor and serviceMonitor would both read the same metrics",
    ),
];

#[test]
fn what_is_unknown_or_wrong_is_refused_by_name() -> Result<()> {
    for (set, words) in REFUSED {
        let answer = render("op", "default", &["--set", set]);
        let error = answer.err().with_context(|| format!("{set} was taken"))?;
        let error = format!("{error:#}");
        ensure!(error.contains(words), "{set}: {error}");
    }
    Ok(())
}

/// Every object with fields of ours is closed, and has each field of the values and no other.
fn closed(schema: &Value, values: &Value, path: &str) -> Result<()> {
    let Some(properties) = schema["properties"].as_object() else {
        return Ok(());
    };
    ensure!(schema["additionalProperties"] == false, "{path} is open");
    for (name, schema) in properties {
        let value = values.get(name);
        ensure!(
            value.is_some() || name == "global" || path.ends_with("[]"),
            "{path}.{name} has no default"
        );
        closed(schema, &values[name], &format!("{path}.{name}"))?;
    }
    for (name, _) in values.as_object().into_iter().flatten() {
        ensure!(properties.contains_key(name), "{path}.{name} has no schema");
    }
    Ok(())
}

#[test]
fn the_schemas_are_closed_and_know_every_value() -> Result<()> {
    for chart in [chart(), crds_chart()] {
        let schema = std::fs::read_to_string(chart.join("values.schema.json"))?;
        let values = std::fs::read_to_string(chart.join("values.yaml"))?;
        closed(&serde_json::from_str(&schema)?, &objects(&values)?[0], "")?;
    }
    Ok(())
}

/// Flags in the help, each with its variable and its default.
type Flags = BTreeMap<String, (Option<String>, Option<String>)>;

fn flags() -> Result<Flags> {
    let tests = std::env::current_exe()?;
    let built = tests.ancestors().nth(2).context("no target directory")?;
    let program = built.join("process-operator");
    let help = output(Command::new(program).args(["run", "--help"]))?;
    let inside = |line: &str, key: &str| {
        let (_, rest) = line.split_once(&format!("[{key}: "))?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    let mut flags = Flags::new();
    let mut last = String::new();
    for line in help.lines().map(str::trim) {
        let mut words = line.split_whitespace().take(2);
        if let Some(flag) = words.find(|word| word.starts_with("--")) {
            flag.clone_into(&mut last);
            flags.insert(last.clone(), (None, None));
        }
        let Some((variable, default)) = flags.get_mut(&last) else {
            continue;
        };
        if let Some(found) = inside(line, "env") {
            *variable = Some(found.trim_end_matches('=').to_owned());
        }
        if let Some(found) = inside(line, "default") {
            *default = Some(found);
        }
    }
    flags.remove("--help");
    // In a cluster there is no kubeconfig.
    let context = flags.remove("--context");
    context.context("the help is not understood")?;
    Ok(flags)
}

#[test]
fn every_flag_of_the_operator_is_a_value_with_the_same_default() -> Result<()> {
    let all = "--values=tests/snapshots/charts/everything.values.yaml";
    let with_all = render("op", "default", &[all, "--set", "watchNamespaces={team}"])?;
    let as_is = render("op", "default", &[])?;
    let documented = std::fs::read_to_string(root().join("docs/operations.md"))?;
    for (flag, (variable, default)) in flags()? {
        ensure!(
            documented.contains(&format!("`{flag}`"))
                && variable
                    .as_ref()
                    .is_none_or(|name| documented.contains(&format!("`{name}`"))),
            "docs/operations.md has no {flag} {variable:?}"
        );
        let by_variable = variable
            .as_ref()
            .is_some_and(|name| with_all.contains(&format!("- name: {name}\n")));
        ensure!(
            by_variable
                || with_all.contains(&format!("- {flag}="))
                || with_all.contains(&format!("- {flag}\n")),
            "{flag} is no value of the chart"
        );
        if let Some(default) = default.filter(|_| !by_variable) {
            ensure!(
                as_is.contains(&format!("- {flag}={default}\n")),
                "{flag}: the chart has another default than {default}"
            );
        }
    }
    Ok(())
}

#[test]
fn charts_and_program_have_one_version() -> Result<()> {
    for chart in [chart(), crds_chart()] {
        let shown = helm(&["show", "chart", &chart.to_string_lossy()])?;
        let shown = &objects(&shown)?[0];
        ensure!(shown["version"] == env!("CARGO_PKG_VERSION"), "{shown}");
        ensure!(shown["appVersion"] == env!("CARGO_PKG_VERSION"), "{shown}");
    }
    Ok(())
}
