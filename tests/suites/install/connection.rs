//! A release that reaches Temporal over mutual TLS and with an API key, all of it from one Secret, whose certificates
//! are replaced while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};
use process_operator_faultproxy::{TemporalProxy, TemporalProxyConfig};
use process_operator_harness::{
    Authority, Env, Issued, SOON, TlsFront, condition, manifest, takes_only, until,
};
use serde_json::{Value, json};

use crate::release::operators;
use crate::support::{Release, own_values};

const SECRET: &str = "temporal-access";
const KEY: &str = "key-of-the-release-4f70";
/// The kubelet looks at a Secret again within a minute and a half, when nothing makes it look before; then the operator
/// reads the files and tries them.
pub(crate) const REFRESHED: Duration = Duration::from_secs(150);

/// Where pods reach this machine: it is there that they find the testbed's Temporal.
pub(crate) fn host(env: &Env) -> Result<String> {
    let slice = ["get", "endpointslice", "temporal-frontend-host"];
    let address = "jsonpath={.endpoints[0].addresses[0]}";
    let asked = [&slice[..], &["-n", "temporal", "-o", address]].concat();
    env.kubectl(&asked, "")
}

/// What is in a Secret of the release from now on.
pub(crate) fn holds(env: &Env, release: &Release, secret: &str, content: &Value) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": secret },
        "stringData": content,
    });
    let apply = ["apply", "-n", &release.namespace, "-f", "-"];
    env.kubectl(&apply, &secret.to_string())?;
    Ok(())
}

/// The kubelet looks at the Secrets of a pod at once when the pod has changed.
pub(crate) fn look_again(env: &Env, release: &Release, turn: &str) -> Result<()> {
    let turn = format!("example.com/secret={turn}");
    release.kubectl(env, &["annotate", "pods", "--all", "--overwrite", &turn])?;
    Ok(())
}

fn content(pair: &Issued, authorities: &str) -> Value {
    json!({
        "tls.crt": pair.certificate,
        "tls.key": pair.key,
        "ca.crt": authorities,
        "api-key": KEY,
    })
}

/// The release, and its Secret with certificates of one authority.
fn release(env: &Env, front: &TlsFront, authority: &Authority) -> Result<Release> {
    let mut values = own_values(env);
    values["temporal"] = json!({
        "address": front.address.to_string(),
        "namespace": env.control,
        // Workers get nothing of the Secret.
        "workerAddress": env.temporal_pod_address,
        "secret": {
            "name": SECRET,
            "keys": {
                "apiKey": "api-key",
                "certificate": "tls.crt",
                "privateKey": "tls.key",
                "serverCa": "ca.crt",
            },
        },
    });
    let release = Release::with_values(env, "tls", &values)?;
    let pair = authority.issue("operator")?;
    holds(env, &release, SECRET, &content(&pair, &authority.pem))?;
    Ok(release)
}

/// Uids of the replicas by name. All are ready, and none was ever started again.
pub(crate) async fn replicas(
    env: &Env,
    release: &Release,
) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    for pod in operators(env, release).list(&ListParams::default()).await? {
        let status = pod.status.iter();
        for container in status.flat_map(|status| status.container_statuses.iter().flatten()) {
            let well = container.ready && container.restart_count == 0;
            ensure!(well, "{}: {container:?}", pod.name_any());
        }
        found.insert(pod.name_any(), pod.uid());
    }
    ensure!(found.len() == 2, "{found:?}");
    Ok(found)
}

/// Waits until the replicas are ready, and the same as before.
pub(crate) async fn are_the_same(
    env: &Env,
    release: &Release,
    before: &BTreeMap<String, Option<String>>,
) -> Result<()> {
    until("the replicas are ready, and the same", SOON, async || {
        let now = replicas(env, release).await?;
        ensure!(now == *before, "{before:?} {now:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_key_are_of_a_secret_and_new_ones_need_no_restart() -> Result<()> {
    let env = Env::new("helm-tls").await?;
    let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
    takes_only(&proxy, &[KEY]);
    let (first, second) = (Authority::new("first")?, Authority::new("second")?);
    let host = host(&env)?;
    // Clients of both are let in while the new certificates spread.
    let both = first.server(&host, &[&first, &second])?;
    let front = TlsFront::before_temporal(&host, &proxy.addr().to_string(), both).await?;
    let release = release(&env, &front, &first)?;
    release.put("install", &[])?;
    let before = replicas(&env, &release).await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;

    let authorities = format!("{}\n{}", first.pem, second.pem);
    let pair = second.issue("operator")?;
    holds(&env, &release, SECRET, &content(&pair, &authorities))?;
    look_again(&env, &release, "replaced")?;
    let pods = operators(&env, &release);
    let what = "each replica has taken the new certificates";
    until(what, REFRESHED, async || {
        for name in before.keys() {
            let log = pods.logs(name, &LogParams::default()).await?;
            let new = log.contains("the certificates for Temporal are new ones");
            ensure!(new, "{name} has not");
            let tells = log.contains("PRIVATE KEY") || log.contains(KEY);
            ensure!(!tells, "a secret is in the log of {name}");
        }
        Ok(())
    })
    .await?;

    // Those from before are of no use any more, on either side.
    front.becomes(second.server(&host, &[&second])?);
    env.set_tag("l2o", "v2").await?;
    let process = env.wait_settled("l2o", "v2").await?;
    ensure!(condition(&process, "TemporalReachable").0 == "True");
    are_the_same(&env, &release, &before).await?;
    env.kubectl(&["delete", "process", "l2o", "--timeout=90s"], "")?;
    release.remove(&env)?;
    env.remove().await
}
