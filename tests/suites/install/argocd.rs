//! The health check for Argo CD, in the Lua that Argo CD speaks.

use anyhow::{Result, ensure};
use mlua::{Lua, LuaSerdeExt as _, Table};
use process_operator_crds::Process;
use serde_json::{Value, json};

use crate::support::root;

/// Status and message for an object.
fn health(object: &Value) -> Result<(String, String)> {
    let script = std::fs::read_to_string(root().join("deploy/argocd/health.lua"))?;
    let lua = Lua::new();
    lua.globals().set("obj", lua.to_value(object)?)?;
    let health: Table = lua.load(script).eval()?;
    Ok((health.get("status")?, health.get("message")?))
}

/// It says so about a Process of a running cluster.
pub(crate) fn says(process: &Process, status: &str) -> Result<()> {
    let found = health(&serde_json::to_value(process)?)?;
    ensure!(found.0 == status, "wanted {status}: {found:?}");
    Ok(())
}

/// A Process with conditions: `Type=Status` or `Type=Status/Reason`.
fn process(conditions: &[&str]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|text| {
            let (kind, rest) = text.split_once('=').unwrap_or((text, "Unknown"));
            let (status, reason) = rest.split_once('/').unwrap_or((rest, "Reason"));
            json!({ "type": kind, "status": status, "reason": reason, "message": format!("about {kind}") })
        })
        .collect();
    json!({
        "metadata": { "name": "l2o", "generation": 2 },
        "spec": {},
        "status": { "observedGeneration": 2, "conditions": conditions },
    })
}

/// The table of `docs/gitops.md`: conditions, health, a part of the message.
const TABLE: [(&[&str], &str, &str); 9] = [
    (&["Ready=Unknown/Pending"], "Progressing", "about Ready"),
    (
        &["Ready=True", "Reconciling=False", "Stalled=False"],
        "Healthy",
        "about Ready",
    ),
    (&["Ready=True", "Draining=True"], "Healthy", "about Ready"),
    (
        &[
            "Ready=True",
            "Reconciling=True",
            "Progressing=True/RollingOut",
        ],
        "Progressing",
        "about Reconciling",
    ),
    (
        &[
            "Ready=True",
            "Reconciling=True",
            "Progressing=True/WaitingForPromotion",
        ],
        "Suspended",
        "about Progressing",
    ),
    (
        &["Ready=True", "Reconciling=True", "Progressing=True/Paused"],
        "Suspended",
        "about Progressing",
    ),
    (
        &[
            "Ready=True",
            "Stalled=True",
            "Degraded=True",
            "Progressing=False/RolloutAborted",
        ],
        "Degraded",
        "about Stalled",
    ),
    (
        &["Ready=False", "Degraded=True", "Reconciling=True"],
        "Progressing",
        "about Reconciling",
    ),
    (
        &["Ready=True", "Degraded=True", "TemporalReachable=False"],
        "Degraded",
        "about Degraded",
    ),
];

#[test]
fn health_follows_the_conditions() -> Result<()> {
    for (conditions, status, words) in TABLE {
        let (found, message) = health(&process(conditions))?;
        ensure!(
            found == status && message.contains(words),
            "{conditions:?}: {found} {message}"
        );
    }
    Ok(())
}

#[test]
fn health_is_not_taken_from_an_older_generation_or_a_deleted_object() -> Result<()> {
    let ready: &[&str] = &["Ready=True"];
    let mut object = process(ready);
    object["metadata"]["generation"] = 3.into();
    ensure!(health(&object)?.0 == "Progressing");
    object = process(ready);
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    ensure!(health(&object)?.0 == "Progressing");
    object = process(ready);
    object["spec"]["suspend"] = true.into();
    ensure!(health(&object)?.0 == "Suspended");
    let fresh = json!({ "metadata": { "name": "l2o", "generation": 1 } });
    ensure!(health(&fresh)?.0 == "Progressing");
    Ok(())
}
