//! The policies of the API server over requests by annotation.

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Env, Operator, OperatorOptions, SOON, manifest, until};
use serde_json::json;

use crate::support::Release;

/// Asks for a restart as somebody; the request claims to be from somebody else.
fn ask(env: &Env, process: &Process, user: &str, id: &str) -> Result<String> {
    let request = json!({
        "id": id,
        "verb": "restart",
        "uid": process.metadata.uid,
        "expiresAt": (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(5)).to_string(),
        "actor": "mallory",
    });
    annotate(env, user, "ameide.io/request", &request.to_string())
}

fn annotate(env: &Env, user: &str, key: &str, value: &str) -> Result<String> {
    let (user, pair) = (format!("--as={user}"), format!("{key}={value}"));
    env.kubectl(
        &["annotate", "process", "l2o", "--overwrite", &pair, &user],
        "",
    )
}

/// What the API server says when it refuses.
fn refused(answer: Result<String>, words: &str) -> Result<()> {
    let Err(error) = answer else {
        anyhow::bail!("it was taken, without: {words}");
    };
    let said = format!("{error:#}");
    ensure!(said.contains(words), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_makes_requests_and_the_actor_is_who_was_authenticated() -> Result<()> {
    let env = Env::new("requests").await?;
    let release = Release::new(&env, "asks")?;
    let policies = ["--set", "replicaCount=0,admission.requests.enabled=true"];
    release.put("install", &policies)?;
    let _operator = Operator::start(&env, OperatorOptions::default()).await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    for (user, role) in [("ada", "admin"), ("eve", "edit")] {
        let (role, subject) = (format!("--clusterrole={role}"), format!("--user={user}"));
        env.kubectl(&["create", "rolebinding", user, &role, &subject], "")?;
    }
    let right = "needs the right to create processes/requests";
    until("requests of an editor are refused", SOON, async || {
        refused(ask(&env, &process, "eve", "by-eve"), right)
    })
    .await?;
    annotate(&env, "eve", "example.com/note", "any other annotation")?;
    until("requests of an admin are taken", SOON, async || {
        ask(&env, &process, "ada", "by-ada")
    })
    .await?;
    let done = env
        .wait_process("l2o", "the request is answered", SOON, |process| {
            let status = process.status.as_ref();
            let last = status.and_then(|status| status.last_request.as_ref());
            last.is_some_and(|last| last.id == "by-ada")
        })
        .await?;
    ensure!(done.annotations()["ameide.io/request-actor"] == "ada");
    let told = serde_json::to_string(&done.status)?;
    ensure!(told.contains("ada") && !told.contains("mallory"), "{told}");
    let forged = annotate(&env, "ada", "ameide.io/request-actor", "eve");
    refused(forged, "is set by the API server only")?;
    env.wait_settled("l2o", "v1").await?;
    release.remove(&env)?;
    env.remove().await
}
