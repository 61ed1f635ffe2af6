//! What people type into the signal form of the Temporal UI.

use anyhow::{Result, ensure};
use process_operator_harness::{lifecycle_id, until};
use temporalio_common::protos::temporal::api::common::v1::Payload;

use crate::support::{SOON, Scene};

fn payload(encoding: &str, data: &[u8]) -> Payload {
    Payload {
        metadata: [("encoding".to_owned(), encoding.as_bytes().to_vec())].into(),
        data: data.to_vec(),
        ..Payload::default()
    }
}

fn json(text: &str) -> Payload {
    payload("json/plain", text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signal_stops_a_lifecycle() -> Result<()> {
    let (scene, process) = Scene::settled("signals").await?;
    let env = &scene.env;
    let id = lifecycle_id(&process);
    let bad: [(&str, Vec<Payload>); 7] = [
        ("nothing", vec![]),
        ("text", vec![payload("binary/plain", b"please go on")]),
        ("null", vec![payload("binary/null", b"")]),
        ("a JSON text", vec![json("\"go on\"")]),
        ("wrong types", vec![json(r#"{"kind": 7, "id": []}"#)]),
        ("an array", vec![json("[1, 2]")]),
        (
            "two payloads",
            vec![json(r#"{"kind":"process"}"#), json("{}")],
        ),
    ];
    for signal in ["changed", "child-finished"] {
        for (what, payloads) in &bad {
            env.temporal
                .signal(&env.control, &id, signal, payloads.clone())
                .await
                .map_err(|error| error.context(format!("{signal} with {what}")))?;
        }
    }
    // Written by a newer operator: no mistake, so no warning.
    for signal in ["changed", "child-finished"] {
        let newer = json(r#"{"kind":"somethingNew","detail":"of a newer operator","more":1}"#);
        env.temporal
            .signal(&env.control, &id, signal, vec![newer])
            .await
            .ok();
    }
    until("a warning for each bad signal", SOON, async || {
        let events = env.events(&process).await?;
        let refused = events
            .iter()
            .filter(|(reason, _)| reason == "SignalRefused");
        let (changed, finished): (Vec<_>, Vec<_>) =
            refused.partition(|(_, note)| note.contains("signal changed"));
        ensure!(changed.len() == bad.len(), "changed: {changed:?}");
        ensure!(
            finished.len() > bad.len() - 1,
            "child-finished: {finished:?}"
        );
        Ok(())
    })
    .await?;
    env.wait_settled("l2o", "v1").await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_settled("l2o", "v2").await?;
    let runs = env
        .temporal
        .list(&env.control, &format!("WorkflowId = '{id}'"))
        .await?;
    ensure!(runs.len() == 1, "it is still the same run");
    scene.finish().await
}
