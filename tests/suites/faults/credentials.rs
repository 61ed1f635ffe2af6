//! F22: what lets the operator in does not any more: its token is revoked, the authority of the API server is
//! another one. It says so, asks seldom, and goes on by itself when it has been given what is right now.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_faultproxy::{KubeRequest, Record};
use process_operator_harness::{
    Authority, Env, Operator, OperatorOptions, TlsFront, manifest, until,
};
use serde_json::{Value, json};

use crate::apiserver_away::lacks;
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// Where the API server is reached over TLS of another authority.
const HERE: &str = "127.0.0.1";
/// Files are read again once a minute.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// Refused requests in a time without an end would be a storm.
const A_WHILE: Duration = Duration::from_secs(8);

/// Where the files of a world are kept.
fn file(env: &Env, name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join("process-operator-tests");
    dir.join(format!("{}-{name}", env.namespace))
}

/// A token of the operator's account that is good as long as a Secret is there.
fn token(env: &Env, secret: &str) -> Result<String> {
    const NAMESPACE: [&str; 2] = ["-n", "process-operator"];
    let make = ["create", "secret", "generic", secret];
    env.kubectl(&[&make[..], &NAMESPACE].concat(), "")?;
    let account = ["create", "token", "process-operator"];
    let bound = [
        "--bound-object-kind=Secret",
        "--bound-object-name",
        secret,
        "--duration=24h",
    ];
    let token = env.kubectl(&[&account[..], &bound, &NAMESPACE].concat(), "")?;
    Ok(token.trim().to_owned())
}

fn revoke(env: &Env, secret: &str) -> Result<()> {
    let delete = ["delete", "secret", secret, "-n", "process-operator"];
    env.kubectl(&delete, "")?;
    Ok(())
}

/// A kubeconfig that names files, as that of a pod does.
fn kubeconfig(env: &Env, cluster: &Value, token: &Path) -> Result<PathBuf> {
    let path = file(env, "kubeconfig.yaml");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": cluster }],
        "users": [{ "name": "it", "user": { "tokenFile": token } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    });
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}

/// An operator with these credentials, and a Process that has settled.
async fn begin(world: &World, cluster: &Value, token: &Path) -> Result<Arc<Operator>> {
    let options = OperatorOptions {
        kubeconfig: Some(kubeconfig(&world.env, cluster, token)?),
        ..OperatorOptions::default()
    };
    let operator = world.start_as(options).await?;
    world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    at_rest(world, "v1").await?;
    Ok(operator)
}

/// It works again, without a restart, and does what was asked for meanwhile.
async fn goes_on(world: &World, operator: &Operator) -> Result<()> {
    until("it is ready again", READ_AGAIN + SOON, async || {
        let (code, text) = operator.get("/readyz").await?;
        ensure!(code == 200, "{code} {text}");
        Ok(())
    })
    .await?;
    at_rest(world, "v2").await?;
    ensure!(!operator.ended(), "one process from beginning to end");
    Ok(())
}

/// Requests that were answered with this code.
pub(crate) fn answered(world: &World, code: u16) -> usize {
    let with = |record: &Record<KubeRequest>| record.outcome.code() == Some(code);
    world.kube.count(.., with)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_is_told_and_its_successor_is_taken() -> Result<()> {
    let world = World::empty("f22token").await?;
    let env = &world.env;
    let secrets = ["first", "second"].map(|name| format!("{}-{name}", env.namespace));
    let path = file(env, "token");
    std::fs::write(&path, token(env, &secrets[0])?)?;
    let cluster = json!({ "server": world.kube.url() });
    let operator = begin(&world, &cluster, &path).await?;

    revoke(env, &secrets[0])?;
    let said = lacks(&world, Some("apiserver")).await?;
    ensure!(said.contains("credentials are not taken"), "{said}");
    env.set_tag(NAME, "v2").await?;
    ensure!(operator.get("/livez").await?.0 == 200, "it is alive");
    // Time has to pass for what must not happen in it.
    let before = answered(&world, 401);
    tokio::time::sleep(A_WHILE).await;
    let refused = answered(&world, 401) - before;
    println!("{refused} refused requests in {A_WHILE:?}");
    ensure!(refused <= 40, "{refused} refused requests in {A_WHILE:?}");
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");

    std::fs::write(&path, token(env, &secrets[1])?)?;
    goes_on(&world, &operator).await?;
    revoke(env, &secrets[1])?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_replaced_is_read_again() -> Result<()> {
    let world = World::empty("f22ca").await?;
    let env = &world.env;
    let secret = format!("{}-token", env.namespace);
    let (path, trusted) = (file(env, "token"), file(env, "ca.crt"));
    std::fs::write(&path, token(env, &secret)?)?;
    let first = Authority::new("first")?;
    let api_server = world.kube.addr().to_string();
    let front = TlsFront::start(HERE, &api_server, first.server(HERE, &[])?).await?;
    std::fs::write(&trusted, &first.pem)?;
    let cluster = json!({
        "server": format!("https://{}", front.address), "certificate-authority": trusted,
    });
    let operator = begin(&world, &cluster, &path).await?;

    let second = Authority::new("second")?;
    front.becomes(second.server(HERE, &[])?);
    let said = lacks(&world, Some("apiserver")).await?;
    println!("{said}");
    env.set_tag(NAME, "v2").await?;
    std::fs::write(&trusted, &second.pem)?;
    goes_on(&world, &operator).await?;
    revoke(env, &secret)?;
    world.finish().await
}
