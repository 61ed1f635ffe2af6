//! Installations that are broken on purpose, and what `verify` says about each.

use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Cli, Env, Scene, condition, manifest, said, until};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::SOON;

/// Name of a check, how it went, what it says and how to mend it.
type Checks = Vec<(String, String, String)>;

async fn verify(cli: &Cli, env: &Env, name: &str, code: i32, more: &[&str]) -> Result<Checks> {
    let mut args = vec![
        "verify",
        name,
        "-o",
        "json",
        "--temporal-address",
        &env.temporal_address,
    ];
    args.extend(more);
    let said = cli.run(&args).await?.ended(code)?;
    let checks: Vec<Value> = serde_json::from_str(&said.out)?;
    let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
    Ok(checks
        .iter()
        .map(|check| {
            let told = format!("{} {}", text(check, "told"), text(check, "fix"));
            (text(check, "check"), text(check, "level"), told)
        })
        .collect())
}

/// The checks that fail are these, and what they say has these words.
fn fails(name: &str, checks: &Checks, wanted: &[(&str, &str)]) -> Result<()> {
    for (check, words) in wanted {
        let found = checks.iter().find(|(name, _, _)| name == check);
        let (_, level, told) = found.with_context(|| format!("{name}: no check {check}"))?;
        ensure!(
            level == "fail" && told.contains(words),
            "{name}: {check} {words}: {checks:#?}"
        );
    }
    Ok(())
}

/// A Process that differs from one that is well.
fn broken(env: &Env, name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut process = manifest(env, name, "v1");
    process["spec"]["rollout"] = json!({ "progressDeadlineSeconds": 20 });
    change(&mut process["spec"]);
    process
}

fn fault(name: &str) -> Value {
    json!({ "env": [{ "name": name, "value": "1" }], "terminationGracePeriodSeconds": 5 })
}

/// A Process that cannot work, the reason that its conditions give, and the checks that fail with what
/// they say.
type Broken = (Value, &'static str, Vec<(&'static str, &'static str)>);

fn broken_installations(env: &Env) -> Vec<Broken> {
    let later = format!("{}-later", env.namespace);
    vec![
        (
            broken(env, "nons", |spec| {
                spec["temporal"]["namespace"] = json!(later);
            }),
            "NamespaceNotFound",
            vec![("namespace", "temporal operator namespace create")],
        ),
        (
            broken(env, "nodep", |spec| {
                spec["dependencies"] = json!({ "domains": [{ "name": "sales" }] });
            }),
            "DependencyNotReady",
            vec![("dependencies", "sales")],
        ),
        (
            broken(env, "nodef", |spec| {
                spec["definitionRef"]["configMapRef"] = json!({ "name": "nowhere" });
            }),
            "DefinitionNotFound",
            vec![("definition", "spec.definitionRef.configMapRef")],
        ),
        (
            broken(env, "mute", |spec| spec["worker"] = fault("NEVER_POLL")),
            "ProgressDeadlineExceeded",
            vec![("rollout", "no worker"), ("polling", "TASK_QUEUE")],
        ),
        (
            broken(env, "noversion", |spec| {
                spec["worker"] = fault("IGNORE_VERSIONING");
                spec["rollout"] = json!({ "progressDeadlineSeconds": 60 });
            }),
            "WorkerNotVersioned",
            vec![
                ("rollout", "TEMPORAL_WORKER_BUILD_ID"),
                ("polling", "says no version"),
            ],
        ),
        (
            broken(env, "noimage", |spec| {
                spec["image"] = json!("localhost/no-such-image:v1");
            }),
            "ProgressDeadlineExceeded",
            vec![
                ("workers", "spec.image"),
                ("rollout", "localhost/no-such-image:v1"),
            ],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_installation_is_found_with_what_mends_it() -> Result<()> {
    let scene = Scene::new("cliverify").await?;
    let env = &scene.env;
    let cli = Cli::admin(env);
    let table = broken_installations(env);
    env.apply(&manifest(env, "well", "v1")).await?;
    for (process, _, _) in &table {
        env.apply(process).await?;
    }
    for (process, reason, wanted) in &table {
        let name = process["metadata"]["name"].as_str().context("a name")?;
        env.wait_process(name, reason, SOON, |process| {
            condition(process, "Ready").1 == *reason || condition(process, "Stalled").1 == *reason
        })
        .await?;
        // The testbed's server forgets who polls after seconds; an idle worker polls once a minute.
        until(&format!("{name} is found"), SOON, async || {
            fails(name, &verify(&cli, env, name, 1, &[]).await?, wanted)
        })
        .await?;
    }
    env.wait_settled("well", "v1").await?;
    let checks = verify(&cli, env, "well", 0, &["--probe", "Quick"]).await?;
    ensure!(
        checks.iter().all(|(_, level, _)| level == "ok"),
        "{checks:#?}"
    );
    ensure!(
        checks.iter().any(|(name, _, _)| name == "probe"),
        "{checks:#?}"
    );
    let more = ["--probe", "NoSuchType", "--probe-timeout", "2s"];
    let checks = verify(&cli, env, "well", 1, &more).await?;
    fails("well", &checks, &[("probe", "NoSuchType")])?;
    // All of a namespace, one line for each check.
    let said = cli.run(&["verify"]).await?.ended(1)?;
    said.shows(&["✖ fail", "✔ ok", "to mend it: "])?;
    said.complains(&["checks have failed"])?;
    cli.run(&["verify", "nobody"])
        .await?
        .ended(2)?
        .complains(&["not found"])?;
    by_another_name(env).await?;

    without_the_operator(&cli, &scene).await?;
    scene.env.remove().await
}

/// `ameide primitive verify process`, by a link.
async fn by_another_name(env: &Env) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("{}-ameide", env.namespace));
    std::fs::create_dir_all(&dir)?;
    let link = dir.join("ameide");
    symlink(Cli::binary(), &link)?;
    let call = |name: &str| {
        let mut command = Command::new(&link);
        command
            .args(["primitive", "verify", "process", name, "-n", &env.namespace])
            .env("KUBECONFIG", env.testbed.kubeconfig());
        said(command)
    };
    call("well").await?.ended(0)?.shows(&["✔ ok", "workers"])?;
    call("noimage")
        .await?
        .ended(1)?
        .shows(&["✖ fail", "no-such-image"])?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Routing that somebody changes while no operator is there to put it right, and the operator itself.
async fn without_the_operator(cli: &Cli, scene: &Scene) -> Result<()> {
    let env = &scene.env;
    scene.operator.stop().await?;
    let deployment = format!("{}/well", env.namespace);
    let info = env
        .temporal
        .worker_deployment(&env.apps, &deployment)
        .await?;
    let manager = info.context("a Worker Deployment")?.manager_identity;
    env.temporal
        .set_current(&env.apps, &deployment, "", &manager)
        .await?;
    let checks = verify(cli, env, "well", 1, &[]).await?;
    fails("well", &checks, &[("routing", "resume well")])?;
    until("the operator is missed", SOON, async || {
        let checks = verify(cli, env, "well", 1, &[]).await?;
        fails("well", &checks, &[("operator", "start the operator")])
    })
    .await
}
