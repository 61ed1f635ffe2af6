//! People end a drain: by update, by signal at the lifecycle or at the drain, by annotation.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, is_current, json_payload, lifecycle_id, until};
use serde_json::json;

use crate::support::{
    SOON, count, counted, drain_id, draining, on_v1, open, retired, tells, to_v2, told,
};

#[tokio::test(flavor = "multi_thread")]
async fn by_update_which_says_at_once_what_cannot_be_done() -> Result<()> {
    let scene = Scene::new("force").await?;
    let env = &scene.env;
    let process = on_v1(env, &json!({}), &[]).await?;
    let why = env.refusal(&process, "forceCancelDrain").await?;
    ensure!(why == "nothing is draining", "{why}");
    open(env, "old", 20, false).await?;
    let (process, version) = to_v2(env, 20).await?;
    open(env, "new", 3, false).await?;
    for (args, expected) in [
        (
            json!({ "buildId": "v9-00000000" }),
            "version v9-00000000 is not draining; these are: v1-",
        ),
        (
            json!({ "action": "Shoot" }),
            "action must be Cancel, Terminate or MoveToCurrent",
        ),
    ] {
        let answer = env.ask(&process, "forceCancelDrain", &args).await?;
        let why = answer.err().context("refused")?;
        ensure!(why.starts_with(expected), "{why}");
    }
    let args = json!({ "buildId": version.build_id, "action": "Terminate" });
    let answer = env.grant_with(&process, "forceCancelDrain", &args).await?;
    ensure!(
        answer == "the workflows pinned to it are terminated",
        "{answer}"
    );
    counted(env, "old", "Terminated", 20).await?;
    let (_, actor) = tells(env, "ForceCancelDrainRequested").await?;
    ensure!(actor == "ada@example.com", "{actor}");
    let (reason, actor) = tells(env, "DrainForced").await?;
    ensure!(
        reason.starts_with("Terminate: 20 running workflows, for example ")
            && reason.ends_with("(a test)"),
        "{reason}"
    );
    ensure!(actor == "ada@example.com", "{actor}");
    let (effect, actor) = tells(env, "WorkflowsEnded").await?;
    ensure!(
        effect == "Terminate of 20 running workflows: 0 left",
        "{effect}"
    );
    ensure!(actor == "ada@example.com", "{actor}");
    retired(env).await?;
    ensure!(
        count(env, "new", "Running").await? == 3,
        "others are left alone"
    );
    scene.leave().await
}

/// What a person types who only knows the name of the signal.
#[tokio::test(flavor = "multi_thread")]
async fn by_a_signal_without_a_payload_at_the_lifecycle_they_are_cancelled() -> Result<()> {
    let scene = Scene::new("forcesignal").await?;
    let env = &scene.env;
    let process = on_v1(env, &json!({}), &[]).await?;
    open(env, "old", 20, false).await?;
    to_v2(env, 20).await?;
    env.temporal
        .signal(
            &env.control,
            &lifecycle_id(&process),
            "forceCancelDrain",
            Vec::new(),
        )
        .await?;
    counted(env, "old", "Canceled", 20).await?;
    let (_, actor) = tells(env, "ForceCancelDrainRequested").await?;
    ensure!(actor == "unknown", "{actor}");
    retired(env).await?;
    scene.leave().await
}

/// Nothing that is typed into the Temporal UI stops a drain.
#[tokio::test(flavor = "multi_thread")]
async fn by_a_signal_at_the_drain_after_some_that_cannot_be_read() -> Result<()> {
    let scene = Scene::new("forcedrain").await?;
    let env = &scene.env;
    on_v1(env, &json!({}), &[]).await?;
    open(env, "old", 20, false).await?;
    let (process, _) = to_v2(env, 20).await?;
    let drain = drain_id(env, &process).await?;
    let text = json_payload(&json!("now!"));
    let mut garbage = json_payload(&json!({}));
    garbage.data = b"{".to_vec();
    let wrong = json_payload(&json!({ "action": 7 }));
    let unknown = json_payload(&json!({ "action": "Shoot" }));
    let pair = vec![text.clone(), text.clone()];
    for payloads in [vec![text], vec![garbage], vec![wrong], vec![unknown], pair] {
        env.temporal
            .signal(&env.control, &drain, "forceCancelDrain", payloads)
            .await?;
    }
    env.temporal
        .signal(
            &env.control,
            &drain,
            "policy",
            vec![json_payload(&json!("x"))],
        )
        .await?;
    let (why, _) = tells(env, "SignalRefused").await?;
    ensure!(
        why.starts_with("signal forceCancelDrain ignored: "),
        "{why}"
    );
    ensure!(
        count(env, "old", "Running").await? == 20,
        "nothing was ended"
    );
    env.temporal
        .force_drain(&env.control, &drain, "the incident")
        .await?;
    counted(env, "old", "Terminated", 20).await?;
    let (reason, actor) = tells(env, "WorkflowsEnded").await?;
    ensure!(
        reason.starts_with("Terminate of 20") && actor == "ada",
        "{reason} {actor}"
    );
    retired(env).await?;
    let events = env.events(&process).await?;
    let forced = events.iter().find(|(reason, _)| reason == "DrainForced");
    let (_, note) = forced.context("an Event")?;
    ensure!(
        note.contains("the incident") && note.ends_with("by ada"),
        "{note}"
    );
    scene.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn by_annotation_and_by_a_second_order_for_what_does_not_listen() -> Result<()> {
    let scene = Scene::new("forcenote").await?;
    let env = &scene.env;
    on_v1(env, &json!({}), &[]).await?;
    open(env, "old", 3, false).await?;
    open(env, "deaf", 2, true).await?;
    let (process, version) = to_v2(env, 5).await?;
    let order = async |id: &str, action: &str| {
        let args = json!({ "buildId": version.build_id, "action": action });
        env.annotate_with(&process, id, "forceCancelDrain", &args)
            .await?;
        env.wait_process("l2o", "the request is granted", SOON, |process| {
            let request = process
                .status
                .as_ref()
                .and_then(|status| status.last_request.as_ref());
            request.is_some_and(|it| it.id == id && it.result == "Accepted")
        })
        .await
    };
    let process = order("first", "Cancel").await?;
    ensure!(draining(&process).is_some(), "some hold it");
    counted(env, "old", "Canceled", 3).await?;
    ensure!(
        count(env, "deaf", "Running").await? == 2,
        "they do not listen"
    );
    order("second", "Terminate").await?;
    counted(env, "deaf", "Terminated", 2).await?;
    retired(env).await?;
    is_told(
        env,
        &version.build_id,
        &[
            (
                "ForceCancelDrainRequested",
                "the workflows pinned to it are cancelled (a test)",
            ),
            ("DrainForced", "Cancel: 5 running workflows, for example "),
            (
                "ForceCancelDrainRequested",
                "the workflows pinned to it are terminated (a test)",
            ),
            (
                "DrainForced",
                "Terminate: 2 running workflows, for example ",
            ),
            ("WorkflowsEnded", "Terminate of 2 running workflows: 0 left"),
        ],
    )
    .await?;
    scene.leave().await
}

/// Each of these stands once in status.history and in the Events, with who has asked for it and why.
async fn is_told(env: &Env, build_id: &str, wanted: &[(&str, &str)]) -> Result<()> {
    let process = env.api::<Process>().get("l2o").await?;
    let history = told(&process);
    let fits = |what: &str, said: &str, (wanted, begins): (&str, &str)| {
        let why = what != "DrainForced" || said.contains("(a test)");
        what == wanted && said.starts_with(begins) && why
    };
    for entry in wanted {
        let found = history.iter().filter(|(what, reason, actor)| {
            actor == "ada@example.com" && fits(what, reason, *entry)
        });
        ensure!(found.count() == 1, "{entry:?}: {history:?}");
    }
    // They may follow the status.
    until("the Events tell it", SOON, async || {
        let events = env.events(&process).await?;
        for entry in wanted {
            let found = events.iter().filter(|(what, note)| {
                let said = note.strip_prefix(&format!("{build_id}: "));
                let said = said.and_then(|said| said.strip_suffix(", by ada@example.com"));
                said.is_some_and(|said| fits(what, said, *entry))
            });
            ensure!(found.count() == 1, "{entry:?}: {events:?}");
        }
        Ok(())
    })
    .await
}

/// The workflows go on, on the version that takes new ones.
#[tokio::test(flavor = "multi_thread")]
async fn by_an_order_to_move_them_they_go_on_at_the_current_version() -> Result<()> {
    let scene = Scene::new("forcemove").await?;
    let env = &scene.env;
    on_v1(env, &json!({}), &[]).await?;
    open(env, "old", 10, false).await?;
    let (process, version) = to_v2(env, 10).await?;
    open(env, "new", 3, false).await?;
    let args = json!({ "buildId": version.build_id, "action": "MoveToCurrent" });
    env.grant_with(&process, "forceCancelDrain", &args).await?;
    let (reason, actor) = tells(env, "DrainForced").await?;
    ensure!(
        reason.starts_with("MoveToCurrent: 10 running workflows, for example ")
            && actor == "ada@example.com",
        "{reason} {actor}"
    );
    let (effect, _) = tells(env, "WorkflowsEnded").await?;
    ensure!(
        effect == "MoveToCurrent of 10 running workflows: 0 left",
        "{effect}"
    );
    retired(env).await?;
    ensure!(count(env, "old", "Running").await? == 10, "they go on");
    ensure!(
        count(env, "new", "Running").await? == 3,
        "others are left alone"
    );
    for n in 0..10 {
        let id = format!("old-{n}");
        let output = env.temporal.finish_waiting(&env.apps, &id).await?;
        ensure!(
            output.started_on.starts_with("v1-") && output.completed_on.starts_with("v2-"),
            "{id}: {output:?}"
        );
    }
    scene.leave().await
}

/// An order for one version is none for another one.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_versions_that_drain_only_the_one_that_is_named_is_ended() -> Result<()> {
    let scene = Scene::new("forceone").await?;
    let env = &scene.env;
    on_v1(env, &json!({}), &[]).await?;
    open(env, "old", 3, false).await?;
    let (_, first) = to_v2(env, 3).await?;
    open(env, "mid", 3, false).await?;
    env.set_tag("l2o", "v3").await?;
    let drain = |process: &Process| process.status.clone().unwrap_or_default().draining;
    let process = env
        .wait_process("l2o", "both are held by three", SOON, |process| {
            let both = drain(process);
            is_current(process, "v3")
                && both.len() == 2
                && both.iter().all(|it| it.open_workflows == Some(3))
        })
        .await?;
    let versions = drain(&process);
    let second = versions
        .iter()
        .find(|it| it.build_id.starts_with("v2-"))
        .context("v2 drains")?;
    let why = env.refusal(&process, "forceCancelDrain").await?;
    ensure!(
        why.starts_with("several versions are draining: set buildId to one of "),
        "{why}"
    );
    let args = json!({ "buildId": first.build_id, "action": "Terminate" });
    env.grant_with(&process, "forceCancelDrain", &args).await?;
    counted(env, "old", "Terminated", 3).await?;
    tells(env, "VersionRetired").await?;
    ensure!(count(env, "mid", "Running").await? == 3, "left alone");
    let after = env.api::<Process>().get("l2o").await?;
    ensure!(
        drain(&after) == [second.clone()],
        "v2 drains as before: {:?}",
        drain(&after)
    );
    let ours = told(&after);
    let forced = ours.iter().filter(|(what, _, _)| what == "DrainForced");
    ensure!(forced.count() == 1, "{ours:?}");
    for n in 0..3 {
        let output = env
            .temporal
            .finish_waiting(&env.apps, &format!("mid-{n}"))
            .await?;
        ensure!(output.completed_on == second.build_id, "{output:?}");
    }
    retired_both(env).await?;
    scene.leave().await
}

/// Waits until two versions are gone.
async fn retired_both(env: &Env) -> Result<()> {
    let process = env
        .wait_process("l2o", "both are retired", SOON, |process| {
            let told = told(process);
            let retired = told.iter().filter(|(what, _, _)| what == "VersionRetired");
            retired.count() == 2
        })
        .await?;
    let left = env.deployments("l2o").await?;
    ensure!(
        left.len() == 1,
        "{} Deployments: {:?}",
        left.len(),
        process.status
    );
    Ok(())
}
