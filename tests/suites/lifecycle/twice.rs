//! What tools that apply the same again and again see: nothing has drifted.

use anyhow::{Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, manifest};
use serde_json::{Value, json};

/// With what could come back in another form: quantities, lists, empty things, defaults.
fn written(env: &Env, name: &str) -> Value {
    let mut wanted = manifest(env, name, "v1");
    wanted["metadata"]["labels"] = json!({ "team": "shop" });
    wanted["spec"]["replicas"] = json!(1);
    wanted["spec"]["rollout"] = json!({
        "strategy": "Canary",
        "steps": [{ "weight": 10, "pause": { "durationSeconds": 1 } }, { "weight": 50, "pause": {} }],
    });
    wanted["spec"]["drain"] = json!({ "timeoutSeconds": 3600 });
    wanted["spec"]["worker"]["env"] = json!([
        { "name": "ONE", "value": "" },
        { "name": "HOST", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
    ]);
    wanted["spec"]["worker"]["resources"] = json!({
        "requests": { "cpu": "0.01", "memory": "1024Ki" }, "limits": { "memory": "1Gi" },
    });
    wanted["spec"]["worker"]["volumes"] = json!([{ "name": "scratch", "emptyDir": {} }]);
    wanted["spec"]["worker"]["volumeMounts"] =
        json!([{ "name": "scratch", "mountPath": "/scratch" }]);
    wanted
}

/// What is written and stored otherwise, with its path: an agent that compares would find it out of sync for ever.
fn differs(written: &Value, stored: &Value, path: &str) -> Vec<String> {
    match (written, stored) {
        (Value::Object(written), Value::Object(stored)) => {
            let each = written.iter().flat_map(|(field, value)| {
                let there = stored.get(field).unwrap_or(&Value::Null);
                differs(value, there, &format!("{path}.{field}"))
            });
            each.collect()
        }
        (Value::Array(written), Value::Array(stored)) if written.len() == stored.len() => {
            let each = written.iter().zip(stored).enumerate();
            let each = each.flat_map(|(n, (a, b))| differs(a, b, &format!("{path}[{n}]")));
            each.collect()
        }
        _ if written == stored => Vec::new(),
        _ => vec![format!("{path}: {written} is stored as {stored}")],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_again_has_not_drifted() -> Result<()> {
    let scene = Scene::new("twice").await?;
    let env = &scene.env;
    let server_side = [
        "apply",
        "--server-side",
        "--field-manager=argocd",
        "-f",
        "-",
    ];
    let client_side = ["apply", "-f", "-"];
    for (name, apply) in [("server", &server_side[..]), ("client", &client_side[..])] {
        let wanted = written(env, name);
        let text = wanted.to_string();
        env.kubectl(apply, &text)?;
        let settled = env.wait_settled(name, "v1").await?;
        let found = serde_json::to_value(&settled)?;
        let differs = differs(&wanted["spec"], &found["spec"], "spec");
        ensure!(differs.is_empty(), "{differs:#?}");

        let tried = env.kubectl(
            &[apply, &["--dry-run=server", "-o", "json"]].concat(),
            &text,
        )?;
        let tried: Process = serde_json::from_str(&tried)?;
        ensure!(tried.spec == settled.spec, "{:?}", tried.spec);
        env.kubectl(apply, &text)?;
        let again = env.api::<Process>().get(name).await?;
        ensure!(
            again.metadata.resource_version == settled.metadata.resource_version,
            "{:?} and {:?}",
            settled.metadata,
            again.metadata
        );
    }
    scene.finish().await
}
