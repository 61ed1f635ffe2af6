//! Pings cost by Temporal namespace, not by Process.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use process_operator_faultproxy::{TemporalProxy, TemporalProxyConfig};
use process_operator_harness::{Env, Invariants, Operator, OperatorOptions, manifest, until};

use crate::support::QUIET;

/// Between two pings of a namespace.
const EVERY: Duration = Duration::from_secs(3);
/// So many of them are counted.
const INTERVALS: u32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_temporal_namespace_is_pinged_once_for_all_its_processes() -> Result<()> {
    let env = Env::new("pings").await?;
    let second = format!("{}-second", env.namespace);
    env.temporal.create_namespace(&second).await?;
    let mut replicas = Vec::new();
    for instance in ["operator-0", "operator-1"] {
        let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
        let options = OperatorOptions {
            temporal_address: Some(proxy.addr().to_string()),
            instance: Some(instance.into()),
            args: vec![
                "--temporal-ping-seconds".into(),
                EVERY.as_secs().to_string(),
            ],
            ..OperatorOptions::default()
        };
        replicas.push((Operator::start(&env, options).await?, proxy));
    }
    let invariants = Invariants::start(&env)?;
    // Four in one namespace, one in another; all without pods, which are not what is asked about.
    for (n, namespace) in [&env.apps, &env.apps, &env.apps, &env.apps, &second]
        .into_iter()
        .enumerate()
    {
        let name = format!("l2o-{n}");
        let mut process = manifest(&env, &name, "v1");
        process["spec"]["temporal"]["namespace"] = namespace.clone().into();
        process["spec"]["temporal"]["taskQueue"] = format!("{name}-tq").into();
        process["spec"]["suspend"] = true.into();
        env.apply(&process).await?;
        env.wait_process(&name, "looked at", crate::support::SOON, |process| {
            process_operator_harness::condition(process, "Ready").1 == "Suspended"
        })
        .await?;
    }

    let namespaces = [env.apps.as_str(), &second, &env.control];
    let marks: Vec<_> = replicas.iter().map(|(_, proxy)| proxy.mark()).collect();
    let began = Instant::now();
    until(
        "some intervals are over",
        EVERY * INTERVALS * 3,
        async || {
            ensure!(began.elapsed() >= EVERY * INTERVALS, "not yet");
            Ok(())
        },
    )
    .await?;
    let mut pings: BTreeMap<&str, usize> = BTreeMap::new();
    for ((_, proxy), mark) in replicas.iter().zip(marks) {
        for namespace in namespaces {
            let count = proxy.count(mark.., |record| {
                let rpc = &record.request;
                rpc.method == "DescribeNamespace" && rpc.mentions(namespace)
            });
            *pings.entry(namespace).or_default() += count;
        }
        let all = proxy.count(mark.., |record| {
            record.request.method == "DescribeNamespace"
        });
        // One more or less at each end, for each namespace.
        let most = namespaces.len() * usize::try_from(INTERVALS + 1)?;
        ensure!(all <= most, "{all} pings, {most} at most: {pings:?}");
    }
    let replicas_count = replicas.len();
    for (namespace, count) in &pings {
        let least = replicas_count * usize::try_from(INTERVALS / 2)?;
        ensure!(*count >= least, "{namespace}: {count}, {least} at least");
    }
    let both: Vec<&Operator> = replicas.iter().map(|(operator, _)| operator).collect();
    invariants.hold(&env, &both, QUIET).await?;
    env.remove().await
}
