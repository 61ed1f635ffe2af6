//! The policies of the API server over requests by annotation.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::{Process, names};
use process_operator_harness::{Env, Operator, OperatorOptions, SOON, manifest, until};
use serde_json::{Value, json};

use crate::support::{Release, objects, render, root};

/// What the releases of these tests have: the policies, and no operator of their own.
const POLICIES: [&str; 2] = ["--set", "replicaCount=0,admission.requests.enabled=true"];
const REQUEST: &str = names::annotation::REQUEST;

/// Asks for a verb as somebody; the request claims to be from somebody else.
fn ask(env: &Env, process: &Process, user: &str, verb: &str) -> Result<String> {
    let request = json!({
        "id": format!("{verb}-by-{user}"),
        "verb": verb,
        "uid": process.metadata.uid,
        "expiresAt": (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(5)).to_string(),
        "actor": "mallory",
    });
    annotate(env, user, REQUEST, &request.to_string())
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

/// Gives people roles of the cluster in the test's namespace.
fn bind(env: &Env, people: &[(&str, &str)]) -> Result<()> {
    for (user, role) in people {
        let (role, subject) = (format!("--clusterrole={role}"), format!("--user={user}"));
        env.kubectl(&["create", "rolebinding", user, &role, &subject], "")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_makes_requests_and_the_actor_is_who_was_authenticated() -> Result<()> {
    let env = Env::new("requests").await?;
    let release = Release::new(&env, "asks")?;
    release.put("install", &POLICIES)?;
    let _operator = Operator::start(&env, OperatorOptions::default()).await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    bind(&env, &[("ada", "admin"), ("eve", "edit")])?;
    let right = "needs the right to restart processes/requests";
    until("requests of an editor are refused", SOON, async || {
        refused(ask(&env, &process, "eve", "restart"), right)
    })
    .await?;
    annotate(&env, "eve", "example.com/note", "any other annotation")?;
    until("requests of an admin are taken", SOON, async || {
        ask(&env, &process, "ada", "restart")
    })
    .await?;
    let done = env
        .wait_process("l2o", "the request is answered", SOON, |process| {
            let status = process.status.as_ref();
            let last = status.and_then(|status| status.last_request.as_ref());
            last.is_some_and(|last| last.id == "restart-by-ada")
        })
        .await?;
    ensure!(done.annotations()[names::annotation::REQUEST_ACTOR] == "ada");
    let told = serde_json::to_string(&done.status)?;
    ensure!(told.contains("ada") && !told.contains("mallory"), "{told}");
    let forged = annotate(&env, "ada", names::annotation::REQUEST_ACTOR, "eve");
    refused(forged, "is set by the API server only")?;
    // Without it what the request claims would count.
    let taken_off = format!("{}-", names::annotation::REQUEST_ACTOR);
    env.kubectl(&["annotate", "process", "l2o", &taken_off, "--as=eve"], "")?;
    let stamped = env.api::<Process>().get("l2o").await?;
    ensure!(stamped.annotations()[names::annotation::REQUEST_ACTOR] == "ada");
    env.wait_settled("l2o", "v1").await?;
    release.remove(&env)?;
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_single_verbs_is_one_to_these_alone() -> Result<()> {
    let env = Env::new("verbs").await?;
    let release = Release::new(&env, "verbs")?;
    release.put("install", &POLICIES)?;
    // No operator looks at it: this is about what the API server takes.
    let process = env.apply(&manifest(&env, "l2o", "v1")).await?;
    let people = [
        ("ada", "admin"),
        ("cleo", "edit"),
        ("eve", "edit"),
        ("vic", "view"),
    ];
    bind(&env, &people)?;
    until("requests of an editor are refused", SOON, async || {
        let right = "needs the right to pause processes/requests";
        refused(ask(&env, &process, "eve", "pause"), right)
    })
    .await?;
    until(
        "a viewer may write no annotation at all",
        SOON,
        async || {
            let right = r#"cannot patch resource "processes""#;
            refused(ask(&env, &process, "vic", "pause"), right)
        },
    )
    .await?;
    until("requests of an admin are taken", SOON, async || {
        ask(&env, &process, "ada", "abort")
    })
    .await?;
    only_pause_and_resume(&env, &process).await?;
    whose_verb_is_not_certain(&env)?;
    at_the_creation(&env, &process).await?;
    release.remove(&env)?;
    env.remove().await
}

/// The Role of the documentation.
fn example() -> Result<String> {
    let text = std::fs::read_to_string(root().join("docs/install.md"))?;
    let (_, rest) = text
        .split_once("```yaml role\n")
        .context("docs/install.md has no block `yaml role`")?;
    let (role, _) = rest.split_once("```").context("the block ends")?;
    Ok(role.to_owned())
}

/// An admin hands two verbs out, and these are what the other may send.
async fn only_pause_and_resume(env: &Env, process: &Process) -> Result<()> {
    let role = example()?;
    let hand_out = ["create", "rolebinding", "pauses", "--as=ada"];
    until("an admin hands two verbs out", SOON, async || {
        env.kubectl(&["apply", "--as=ada", "--filename=-"], &role)?;
        let to = ["--role=pauses", "--user=pia"];
        env.kubectl(&[&hand_out[..], &to].concat(), "")
    })
    .await?;
    until("pause is taken", SOON, async || {
        ask(env, process, "pia", "pause")
    })
    .await?;
    ask(env, process, "pia", "resume")?;
    for verb in ["abort", "forceCancelDrain", "create"] {
        let right = format!("needs the right to {verb} processes/requests");
        refused(ask(env, process, "pia", verb), &right)?;
    }
    let may = |verb: &str| {
        let part = "--subresource=requests";
        let asked = ["auth", "can-i", verb, "processes.ameide.io", part];
        env.kubectl(&[&asked[..], &["--as=pia"]].concat(), "")
            .is_ok()
    };
    ensure!(may("pause") && !may("abort"));
    Ok(())
}

/// What the operator could read as another verb than the policy, or as none, and what is said.
const UNCERTAIN: [(&str, &str); 8] = [
    ("pause", r#"has no "verb""#),
    (r#"{"id":"1"}"#, r#"has no "verb""#),
    (
        r#"{"verb":"pause","verb":"abort"}"#,
        r#"has more than one "verb""#,
    ),
    (
        r#"{"note":{"verb":"pause"},"verb":"abort"}"#,
        r#"has more than one "verb""#,
    ),
    (
        r#"{"note":{"verb":"pause"},"ver\u0062":"abort"}"#,
        "has a backslash in the name of a field",
    ),
    (
        r#"{"\"verb":"pause","ver\u0062":"abort"}"#,
        "has a backslash in the name of a field",
    ),
    (
        r#"{"verb":"p\u0061use"}"#,
        r#"has a "verb" that is not a word of plain letters"#,
    ),
    (
        r#"{"verb":["pause"]}"#,
        r#"has a "verb" that is not a word of plain letters"#,
    ),
];

/// It is refused, whoever writes it; the words of a reason are not taken for a verb.
fn whose_verb_is_not_certain(env: &Env) -> Result<()> {
    for (text, words) in UNCERTAIN {
        for user in ["ada", "pia"] {
            refused(annotate(env, user, REQUEST, text), words)
                .with_context(|| format!("{text} of {user}"))?;
        }
    }
    refused(
        annotate(env, "pia", REQUEST, UNCERTAIN[0].0),
        r#"write one JSON object with exactly one "verb""#,
    )?;
    let quoted = r#"{ "reason": "\"verb\": \"abort\" was too much", "verb" : "pause" }"#;
    annotate(env, "pia", REQUEST, quoted)?;
    Ok(())
}

/// Makes a Process with a request in it, and does not keep it; what would be kept.
fn made(env: &Env, user: &str, name: &str, request: &str) -> Result<String> {
    let mut wanted = manifest(env, name, "v1");
    wanted["metadata"]["annotations"] = json!({ REQUEST: request });
    let user = format!("--as={user}");
    let dry = ["create", "--dry-run=server", "--output=json"];
    env.kubectl(
        &[&dry[..], &[&*user, "--filename=-"]].concat(),
        &wanted.to_string(),
    )
}

/// A request that stands in a new Process is one too, and a right may be to Processes by name.
async fn at_the_creation(env: &Env, process: &Process) -> Result<()> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": "restarts" },
        "rules": [{
            "apiGroups": ["ameide.io"],
            "resources": ["processes/requests"],
            "resourceNames": ["l2o", "later"],
            "verbs": ["restart"],
        }],
    });
    env.kubectl(&["apply", "--filename=-"], &role.to_string())?;
    let to = ["--role=restarts", "--user=cleo"];
    env.kubectl(
        &[&["create", "rolebinding", "restarts"][..], &to].concat(),
        "",
    )?;
    let (restart, abort) = (r#"{"verb":"restart"}"#, r#"{"verb":"abort"}"#);
    let kept = until("a new Process may be restarted", SOON, async || {
        made(env, "cleo", "later", restart)
    })
    .await?;
    let kept: Value = serde_json::from_str(&kept)?;
    let actor = &kept["metadata"]["annotations"][names::annotation::REQUEST_ACTOR];
    ensure!(actor == "cleo", "{actor}");
    ask(env, process, "cleo", "restart")?;
    let right = "needs the right to restart processes/requests";
    refused(made(env, "cleo", "other", restart), right)?;
    refused(made(env, "eve", "later", restart), right)?;
    let right = "needs the right to abort processes/requests";
    refused(made(env, "cleo", "later", abort), right)?;
    refused(made(env, "cleo", "later", "abort"), r#"has no "verb""#)
}

#[test]
fn the_role_of_an_admin_names_every_verb() -> Result<()> {
    let text = std::fs::read_to_string(root().join("docs/rollouts.md"))?;
    let (_, table) = text
        .split_once("| verb | granted |")
        .context("no table of verbs")?;
    let rows = table.lines().skip(2);
    let mut wanted = vec!["create"];
    wanted.extend(rows.map_while(|row| row.strip_prefix("| `")?.split('`').next()));
    ensure!(wanted.len() > 1, "no rows");
    let policies = [
        POLICIES[0],
        POLICIES[1],
        "--show-only=templates/admission.yaml",
    ];
    let shown = objects(&render("op", "default", &policies)?)?;
    let mut roles = shown.iter().filter(|it| it["kind"] == "ClusterRole");
    let named = &roles.next().context("no role")?["rules"][0]["verbs"];
    ensure!(*named == json!(wanted), "{named} {wanted:?}");
    Ok(())
}
