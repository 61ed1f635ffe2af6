//! I10: what is in env values and Secrets of a Process is told nowhere.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use process_operator_crds::Process;
use serde_json::{Value, json};

use crate::env::Env;
use crate::operator::Operator;
use crate::runs::Run;

/// What no test says otherwise.
const IN_ENV: &str = "value-of-a-variable-7c1e09";
const IN_SECRET: &str = "value-of-a-secret-b3d852";
/// The Secret that holds it.
const SECRET: &str = "kept-secret";

impl Env {
    /// Gives a manifest two variables: a value of its own and one of a Secret, which is made. Both are looked for at the
    /// end of each scenario.
    pub async fn with_secrets(&self, manifest: &mut Value) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": SECRET },
            "stringData": { "key": IN_SECRET },
        });
        let params = PatchParams::apply("tests").force();
        let api = self.api::<Secret>();
        api.patch(SECRET, &params, &Patch::Apply(&secret)).await?;
        let from = json!({ "secretKeyRef": { "name": SECRET, "key": "key" } });
        manifest["spec"]["worker"]["env"] = json!([
            { "name": "KEPT", "value": IN_ENV },
            { "name": "KEPT_SECRET", "valueFrom": from },
        ]);
        Ok(())
    }
}

/// A place where they must not be.
fn look(place: &str, text: &str) -> Result<()> {
    for (what, marker) in [("an env value", IN_ENV), ("a Secret's value", IN_SECRET)] {
        ensure!(!text.contains(marker), "I10: {what} is in {place}");
    }
    Ok(())
}

fn look_at(place: &str, message: &impl prost::Message) -> Result<()> {
    look(place, &String::from_utf8_lossy(&message.encode_to_vec()))
}

/// Histories with memos and search attributes, Events, status, logs and metrics.
pub(crate) async fn are_kept(env: &Env, operators: &[&Operator], runs: &[Run]) -> Result<()> {
    for run in runs {
        look_at(&format!("memo or attributes of {}", run.id), &run.info)?;
        for event in &run.events {
            let kind = event.event_type().as_str_name();
            look_at(&format!("{kind} of {}", run.id), event)?;
        }
    }
    let all = ListParams::default();
    for event in env.api::<Event>().list(&all).await? {
        // Those of others too: the operator may have had them said.
        look("an Event", &serde_json::to_string(&event)?)?;
    }
    for process in env.api::<Process>().list(&all).await? {
        let place = format!("the status of {}", process.name_any());
        look(&place, &serde_json::to_string(&process.status)?)?;
    }
    for operator in operators {
        look(&operator.log.display().to_string(), &operator.log_text())?;
        if operator.ended() {
            continue;
        }
        // One that is held still does not answer.
        let page = tokio::time::timeout(Duration::from_secs(5), operator.get("/metrics")).await;
        if let Ok(Ok((_, page))) = page {
            look("the metrics", &page)?;
        }
    }
    Ok(())
}
