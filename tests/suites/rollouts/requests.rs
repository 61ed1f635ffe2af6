//! By which ways people ask: the annotation, which is answered in the status, and signals, whose words may be anything.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use process_operator_harness::{
    Env, Scene, condition, is_current, json_payload, lifecycle_id, until,
};
use serde_json::json;

use crate::support::{SOON, at_step, change, now, reason, rollout, routed};
use crate::verbs::open_steps;

#[tokio::test(flavor = "multi_thread")]
async fn requests_by_annotation_are_carried_out_once_and_answered_in_status() -> Result<()> {
    let (scene, process) = Scene::settled("annotate").await?;
    let env = &scene.env;
    let last = async |id: &str| {
        env.wait_process("l2o", &format!("an answer to {id}"), SOON, |process| {
            let last = process
                .status
                .as_ref()
                .and_then(|status| status.last_request.as_ref());
            last.is_some_and(|last| last.id == id)
        })
        .await
        .map(|process| process.status.and_then(|status| status.last_request))
    };
    env.annotate(&process, "one", "promote").await?;
    let answer = last("one").await?;
    ensure!(answer.is_some_and(|it| it.result == "Refused" && it.message.contains("nothing")));
    env.patch("l2o", &change("v2", &[], &open_steps())).await?;
    at_step(env, 1).await?;
    let asked = env.annotate(&process, "two", "abort").await?;
    let answer = last("two").await?;
    ensure!(answer.is_some_and(|it| it.result == "Accepted"));
    reason(env, "Stalled", "RolloutAborted").await?;
    env.grant(&process, "retry").await?;
    at_step(env, 1).await?;
    // The same manifest again, as a tool applies it: nothing happens a second time.
    let text = asked.annotations()["ameide.io/request"].clone();
    env.patch(
        "l2o",
        &json!({ "metadata": { "annotations": { "ameide.io/request": null } } }),
    )
    .await?;
    env.patch(
        "l2o",
        &json!({ "metadata": { "annotations": { "ameide.io/request": text } } }),
    )
    .await?;
    for (id, change, why) in [
        (
            "other-uid",
            json!({ "uid": "somebody-else" }),
            "metadata.uid",
        ),
        (
            "late",
            json!({ "expiresAt": "2026-01-01T00:00:00Z" }),
            "in the past",
        ),
        (
            "no-expiry",
            json!({ "expiresAt": null }),
            "expiresAt must be set",
        ),
        ("verb", json!({ "verb": "explode" }), "verb must be"),
    ] {
        let mut request: serde_json::Value = serde_json::from_str(&text)?;
        request["id"] = id.into();
        for (field, value) in change.as_object().into_iter().flatten() {
            request[field] = value.clone();
        }
        env.patch(
            "l2o",
            &json!({ "metadata": { "annotations": { "ameide.io/request": request.to_string() } } }),
        )
        .await?;
        let answer = last(id).await?;
        ensure!(
            answer
                .as_ref()
                .is_some_and(|it| it.result == "Refused" && it.message.contains(why)),
            "{id}: {answer:?}"
        );
        refused(env, id, why).await?;
    }
    ensure!(
        rollout(&now(env).await?).step == 1,
        "nothing was done a second time"
    );
    let events = env.events(&process).await?;
    ensure!(
        events.iter().any(|(reason, _)| reason == "RequestRefused"),
        "{events:?}"
    );
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    let deployments = env.deployments("l2o").await?;
    let uids: Vec<_> = deployments.iter().map(|it| &it.metadata.uid).collect();
    until("the Event names the Deployment", SOON, async || {
        let events = env.api::<Event>().list(&ListParams::default()).await?;
        let related = events.iter().filter_map(|event| {
            let current = event.reason.as_deref() == Some("VersionCurrent");
            event.related.as_ref().filter(|_| current)
        });
        let mut named = related.filter(|it| it.kind.as_deref() == Some("Deployment"));
        ensure!(named.any(|it| uids.contains(&&it.uid)), "not of {uids:?}");
        Ok(())
    })
    .await?;
    scene.finish().await
}

/// The newest refusal in status.history says why.
async fn refused(env: &Env, id: &str, why: &str) -> Result<()> {
    let told = now(env).await?.status.map(|status| status.history);
    let mut told = told.into_iter().flatten();
    let entry = told.rfind(|entry| entry.what == "RequestRefused");
    let entry = entry.with_context(|| format!("{id} is in no history"))?;
    ensure!(
        entry.reason.as_deref().is_some_and(|it| it.contains(why)),
        "{id}: {entry:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_by_signal_take_anything_a_person_types() -> Result<()> {
    let (scene, process) = Scene::settled("signals").await?;
    let env = &scene.env;
    let id = lifecycle_id(&process);
    let signal =
        async |name: &str, payloads| env.temporal.signal(&env.control, &id, name, payloads).await;
    env.patch("l2o", &change("v2", &[], &open_steps())).await?;
    at_step(env, 1).await?;
    let text = |text: &str| temporal_payload(text);
    for verb in [
        "pause", "resume", "promote", "abort", "retry", "undo", "restart", "progress",
    ] {
        signal(verb, vec![text("not json")]).await?;
        signal(verb, vec![json_payload(&json!("text"))]).await?;
        signal(verb, vec![json_payload(&json!({ "actor": 7 }))]).await?;
        signal(
            verb,
            vec![json_payload(&json!({})), json_payload(&json!({}))],
        )
        .await?;
    }
    until("all of them are told", SOON, async || {
        let events = env.events(&process).await?;
        let refused = events
            .iter()
            .filter(|(reason, _)| reason == "SignalRefused")
            .count();
        ensure!(refused >= 8, "{refused}");
        Ok(())
    })
    .await?;
    ensure!(rollout(&now(env).await?).step == 1, "none of that moved it");
    // What the form of the Temporal UI sends when it is left empty.
    signal("promote", Vec::new()).await?;
    at_step(env, 2).await?;
    signal(
        "promote",
        vec![json_payload(&json!({ "full": true, "actor": "bob" }))],
    )
    .await?;
    let settled = env.wait_settled("l2o", "v2").await?;
    let history = settled
        .status
        .map(|status| status.history)
        .unwrap_or_default();
    ensure!(
        history
            .iter()
            .any(|entry| entry.actor.as_deref() == Some("bob")),
        "{history:?}"
    );
    scene.finish().await
}

/// As the form of the Temporal UI sends them, with the fields that a person has filled in.
#[tokio::test(flavor = "multi_thread")]
async fn each_verb_by_signal_does_what_it_says() -> Result<()> {
    let (scene, process) = Scene::settled("signalled").await?;
    let env = &scene.env;
    let id = lifecycle_id(&process);
    let signal = async |verb: &str, more: serde_json::Value| {
        let mut order = json!({ "actor": format!("bob-{verb}"), "reason": "a test" });
        for (field, value) in more.as_object().into_iter().flatten() {
            order[field] = value.clone();
        }
        let order = vec![json_payload(&order)];
        env.temporal.signal(&env.control, &id, verb, order).await
    };
    env.patch("l2o", &change("v2", &[], &open_steps())).await?;
    at_step(env, 1).await?;
    signal("pause", json!({})).await?;
    let paused = reason(env, "Progressing", "Paused").await?;
    let (_, _, message) = condition(&paused, "Progressing");
    ensure!(message.contains("bob-pause"), "{message}");
    signal("resume", json!({})).await?;
    reason(env, "Progressing", "WaitingForPromotion").await?;
    ensure!(rollout(&now(env).await?).step == 1, "only held");
    signal("promote", json!({})).await?;
    at_step(env, 2).await?;
    routed(env, "v1", "v2", 60.0).await?;
    signal("abort", json!({})).await?;
    let aborted = reason(env, "Stalled", "RolloutAborted").await?;
    let (_, _, message) = condition(&aborted, "Degraded");
    ensure!(message.contains("bob-abort"), "{message}");
    routed(env, "v1", "", 0.0).await?;
    signal("retry", json!({})).await?;
    at_step(env, 1).await?;
    routed(env, "v1", "v2", 20.0).await?;
    signal("promote", json!({ "full": true })).await?;
    env.wait_settled("l2o", "v2").await?;

    let pods = async || -> Result<BTreeSet<String>> {
        let pods = env.pods("l2o").await?;
        Ok(pods.iter().filter_map(ResourceExt::uid).collect())
    };
    let before = pods().await?;
    signal("restart", json!({})).await?;
    until("other pods", SOON, async || {
        let now = pods().await?;
        ensure!(now.len() == 1 && now.is_disjoint(&before), "not yet");
        Ok(())
    })
    .await?;
    env.wait_settled("l2o", "v2").await?;
    signal("undo", json!({})).await?;
    let undone = reason(env, "Stalled", "Undone").await?;
    ensure!(undone.spec.image.ends_with(":v2"), "the spec is the user's");
    let undone = env
        .wait_process("l2o", "v1 is back", SOON, |process| {
            is_current(process, "v1") && condition(process, "Draining").0 == "False"
        })
        .await?;
    routed(env, "v1", "", 0.0).await?;
    let history = undone.status.iter().flat_map(|status| &status.history);
    let actors: BTreeSet<_> = history.filter_map(|entry| entry.actor.clone()).collect();
    // The oldest entries of ten may be gone by now.
    for verb in ["restart", "undo"] {
        ensure!(
            actors.contains(&format!("bob-{verb}")),
            "{verb}: {actors:?}"
        );
    }
    scene.finish().await
}

fn temporal_payload(text: &str) -> temporalio_common::protos::temporal::api::common::v1::Payload {
    temporalio_common::protos::temporal::api::common::v1::Payload {
        metadata: [("encoding".to_owned(), b"binary/plain".to_vec())].into(),
        data: text.as_bytes().to_vec(),
        ..Default::default()
    }
}
