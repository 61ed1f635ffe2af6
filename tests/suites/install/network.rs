//! The chart's `NetworkPolicy` at work: what it lets through and what it refuses, seen from inside of pods. While this runs,
//! policies hold in all namespaces; those of other tests have none, and nothing is refused there.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_harness::{Env, SOON, manifest, until};
use process_operator_tests::testbed::Enforcer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::connection::host;
use crate::release::operators;
use crate::support::{Release, own_values};

/// The port of an address that ends in one.
fn port(address: &str) -> Result<u16> {
    let (_, port) = address.rsplit_once(':').context("no port")?;
    Ok(port.trim_end_matches('/').parse()?)
}

/// The narrowest policy with which an operator can work here: where API server and Temporal are, and one who reads metrics.
pub(crate) fn policed(env: &Env) -> Result<Value> {
    let here = json!([{ "ipBlock": { "cidr": format!("{}/32", host(env)?) } }]);
    let state = env.testbed.state();
    let mut values = own_values(env);
    values["networkPolicy"] = json!({
        "enabled": true,
        "apiServerPorts": [port(&state.apiserver_url)?],
        "apiServerTo": here,
        "temporalPorts": [port(&state.temporal_address)?],
        "temporalTo": here,
        "metricsFrom": [{
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": env.namespace } },
            "podSelector": { "matchLabels": { "app": "scraper" } },
        }],
    });
    Ok(values)
}

/// A pod to ask from, in the namespace of the Processes. The operator's image has one program, which can ask.
async fn client(env: &Env, name: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "client",
                "image": concat!("localhost/process-operator:", env!("CARGO_PKG_VERSION")),
                "imagePullPolicy": "Never",
                // Nobody answers there, so that it stays.
                "args": ["probe", "http://127.0.0.1:9/", "--timeout-seconds=600"],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    });
    // The account of its pods follows a namespace a moment later.
    until("the client is accepted", SOON, async || {
        env.kubectl(&["apply", "-f", "-"], &pod.to_string())
    })
    .await?;
    let pod = format!("pod/{name}");
    env.kubectl(
        &["wait", "--for=condition=Ready", &pod, "--timeout=60s"],
        "",
    )?;
    Ok(())
}

/// What a pod is answered by a URL; what it saw instead, when that is no answer of 200.
fn ask(env: &Env, namespace: &str, pod: &str, url: &str) -> Result<String, String> {
    let program = "/process-operator probe --timeout-seconds=1";
    let mut exec = vec!["exec", pod, "-n", namespace, "--"];
    exec.extend(program.split(' '));
    exec.push(url);
    env.kubectl(&exec, "").map_err(|error| format!("{error:#}"))
}

/// Whether it was not even connected.
fn is_cut(answer: &Result<String, String>) -> bool {
    let cut = ["Connection refused", "timed out"];
    let said = answer.as_ref().err();
    said.is_some_and(|said| cut.iter().any(|it| said.contains(it)))
}

/// Nothing answers there, as far as this pod can see.
async fn is_refused(env: &Env, namespace: &str, pod: &str, url: &str) -> Result<()> {
    let what = format!("{url} is out of reach of {pod}");
    until(&what, SOON, async || {
        let answer = ask(env, namespace, pod, url);
        ensure!(is_cut(&answer), "{answer:?}");
        Ok(())
    })
    .await
}

/// Something answers there with one of these words: what is no HTTP server has some of its own.
async fn is_reached(
    env: &Env,
    namespace: &str,
    pod: &str,
    url: &str,
    words: &[&str],
) -> Result<()> {
    until(&format!("{pod} reaches {url}"), SOON, async || {
        let answer = ask(env, namespace, pod, url);
        ensure!(!is_cut(&answer), "{answer:?}");
        let (Ok(said) | Err(said)) = answer;
        ensure!(words.iter().any(|word| said.contains(word)), "{said}");
        Ok(())
    })
    .await
}

/// A server on this machine that no policy names.
async fn elsewhere(env: &Env) -> Result<SocketAddr> {
    let tcp = TcpListener::bind((host(env)?, 0)).await?;
    let address = tcp.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await;
                if read.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.0 200 OK\r\n\r\nelsewhere";
                    stream.write_all(answer).await.ok();
                }
            });
        }
    });
    Ok(address)
}

/// Name and address of each replica.
async fn replicas(env: &Env, release: &Release) -> Result<Vec<(String, String)>> {
    let params = ListParams::default().labels("app.kubernetes.io/name=process-operator");
    let pods = operators(env, release).list(&params).await?;
    let found = pods.into_iter().filter_map(|pod| {
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        Some((pod.name_any(), address))
    });
    let found: Vec<_> = found.collect();
    ensure!(found.len() == 2, "{found:?}");
    Ok(found)
}

/// Who reads metrics, and who does not.
async fn only_the_scraper_reads(env: &Env, at: &str) -> Result<()> {
    let url = format!("http://{at}:8080/metrics");
    is_reached(env, &env.namespace, "scraper", &url, &["process_operator_"]).await?;
    is_refused(env, &env.namespace, "stranger", &url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_policy_a_release_works_and_nothing_else_gets_through() -> Result<()> {
    let _policies = Enforcer::get()?;
    let env = Env::new("network").await?;
    let release = Release::with_values(&env, "shut", &policed(&env)?)?;
    release.put("install", &[])?;
    for name in ["scraper", "stranger"] {
        client(&env, name).await?;
    }

    // In: from those who are named, straight and through the Service.
    let replicas = replicas(&env, &release).await?;
    for (_, address) in &replicas {
        only_the_scraper_reads(&env, address).await?;
    }
    let service = format!("{}.{}.svc", release.fullname(), release.namespace);
    only_the_scraper_reads(&env, &service).await?;
    release.helm("test", &["--timeout=90s"])?;

    // Out: to API server and Temporal, found by their names.
    let elsewhere = format!("http://{}/", elsewhere(&env).await?);
    is_reached(&env, &env.namespace, "stranger", &elsewhere, &["elsewhere"]).await?;
    for (replica, _) in &replicas {
        let own = release.namespace.as_str();
        let (api, temporal) = (
            "http://kubernetes.default.svc:443/",
            env.temporal_pod_address.as_str(),
        );
        is_reached(&env, own, replica, api, &["HTTPS server"]).await?;
        let temporal = format!("http://{temporal}/");
        is_reached(
            &env,
            own,
            replica,
            &temporal,
            &["not HTTP", "reset by peer"],
        )
        .await?;
        is_refused(&env, own, replica, &elsewhere).await?;
    }

    // And with that it does its work.
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_settled("l2o", "v2").await?;
    env.kubectl(&["delete", "process", "l2o", "--timeout=90s"], "")?;
    release.remove(&env)?;
    env.remove().await
}
