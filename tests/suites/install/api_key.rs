//! A release that reaches Temporal with an API key of a Secret, as it does Temporal Cloud: over TLS, without a certificate of
//! its own. The key is replaced twice while it runs, in good order and after the one before was revoked.

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};
use process_operator_crds::Process;
use process_operator_faultproxy::{TemporalProxy, TemporalProxyConfig};
use process_operator_harness::{
    Authority, Env, SOON, TlsFront, condition, is_settled, manifest, takes_only, until,
};
use serde_json::json;

use crate::connection::{REFRESHED, are_the_same, holds, host, look_again, replicas};
use crate::release::operators;
use crate::support::{Release, own_values};

const SECRET: &str = "temporal-key";
const KEYS: [&str; 3] = ["key-first-0b7e", "key-second-93d1", "key-third-c45f"];

struct World {
    env: Env,
    authority: Authority,
    release: Release,
}

impl World {
    /// Installs nothing: the Secret has the first key.
    fn new(env: Env, front: &TlsFront, authority: Authority) -> Result<Self> {
        let mut values = own_values(&env);
        values["temporal"] = json!({
            "address": front.address.to_string(),
            "namespace": env.control,
            // Workers get nothing of the Secret.
            "workerAddress": env.temporal_pod_address,
            "secret": { "name": SECRET, "keys": { "apiKey": "key", "serverCa": "ca.crt" } },
        });
        let release = Release::with_values(&env, "key", &values)?;
        let world = Self {
            env,
            authority,
            release,
        };
        world.holds(0)?;
        Ok(world)
    }

    /// Which key the Secret has from now on.
    fn holds(&self, nth: usize) -> Result<()> {
        let content = json!({ "key": KEYS[nth], "ca.crt": self.authority.pem });
        holds(&self.env, &self.release, SECRET, &content)
    }

    /// Puts the next key into the Secret, and waits until each replica has taken it.
    async fn gets(&self, nth: usize) -> Result<()> {
        self.holds(nth)?;
        look_again(&self.env, &self.release, &nth.to_string())?;
        let pods = operators(&self.env, &self.release);
        until(
            "each replica has taken the new key",
            REFRESHED,
            async || {
                for pod in pods.list(&ListParams::default()).await? {
                    let name = pod.name_any();
                    let log = pods.logs(&name, &LogParams::default()).await?;
                    let taken = log.matches("the API key for Temporal is a new one");
                    ensure!(taken.count() == nth, "{name} has not");
                    let tells = KEYS.iter().any(|key| log.contains(key));
                    ensure!(!tells, "a key is in the log of {name}");
                }
                Ok(())
            },
        )
        .await
    }

    /// Waits until it is settled on a version, and nothing is said against Temporal any more.
    async fn settles(&self, tag: &str) -> Result<()> {
        let there = |process: &Process| condition(process, "TemporalReachable").0 == "True";
        let what = format!("settled on {tag}, with Temporal");
        self.env
            .wait_process("l2o", &what, SOON, |process| {
                is_settled(process, tag) && there(process)
            })
            .await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_in_the_secret_needs_no_restart() -> Result<()> {
    let env = Env::new("helm-key").await?;
    let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
    let (authority, host) = (Authority::new("temporal")?, host(&env)?);
    let server = authority.server(&host, &[])?;
    let front = TlsFront::before_temporal(&host, &proxy.addr().to_string(), server).await?;
    let world = World::new(env, &front, authority)?;
    let (env, release) = (&world.env, &world.release);
    let first = takes_only(&proxy, &KEYS[..1]);
    release.put("install", &[])?;
    let before = replicas(env, release).await?;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    world.settles("v1").await?;

    // In good order: both are taken while the new one spreads.
    let both = takes_only(&proxy, &KEYS[..2]);
    first.remove();
    world.gets(1).await?;
    let second = takes_only(&proxy, &KEYS[1..2]);
    both.remove();
    env.set_tag("l2o", "v2").await?;
    world.settles("v2").await?;

    // Revoked: what is asked for meanwhile is done when the next one has come.
    takes_only(&proxy, &KEYS[2..]);
    second.remove();
    env.wait_process("l2o", "it is told", SOON, |process| {
        condition(process, "TemporalReachable").0 == "False"
    })
    .await?;
    env.set_tag("l2o", "v3").await?;
    world.gets(2).await?;
    world.settles("v3").await?;
    are_the_same(env, release, &before).await?;

    env.kubectl(&["delete", "process", "l2o", "--timeout=90s"], "")?;
    release.remove(env)?;
    world.env.remove().await
}
