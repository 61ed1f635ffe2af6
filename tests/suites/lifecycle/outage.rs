//! Temporal goes away and comes back; the operator is told to stop.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kube::ResourceExt as _;
use process_operator_crds::{ConditionType, Process, conditions};
use process_operator_faultproxy::{
    Action, GrpcCode, GrpcError, RpcMatch, RuleHandle, TemporalProxy, TemporalProxyConfig,
};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, condition, is_settled, json_payload, lifecycle_id,
    manifest, until,
};
use process_operator_tests::testbed::{PrivateTemporal, Testbed};
use serde_json::json;

use crate::support::{QUIET, SOON, Scene, version, wait_deployment};

/// A Temporal server that only this test uses, and a world on it.
async fn private(name: &str) -> Result<(PrivateTemporal, Env)> {
    let owned = name.to_owned();
    let temporal =
        tokio::task::spawn_blocking(move || PrivateTemporal::start_new(&owned)).await??;
    let env = Env::on(
        name,
        Testbed::current()?,
        temporal.address(),
        temporal.pod_address(),
    )
    .await?;
    Ok((temporal, env))
}

/// Restarts of all pods by uid.
async fn restarts(env: &Env) -> Result<BTreeMap<String, i32>> {
    let pods = env.pods("l2o").await?;
    let count = |pod: &k8s_openapi::api::core::v1::Pod| {
        let containers = pod
            .status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten());
        containers.map(|container| container.restart_count).sum()
    };
    Ok(pods
        .iter()
        .map(|pod| (pod.uid().unwrap_or_default(), count(pod)))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_outlasts_an_outage_of_temporal_and_pods_are_left_alone() -> Result<()> {
    let (mut temporal, env) = private("away").await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    env.apply(&manifest(&env, "calm", "v1")).await?;
    env.wait_settled("calm", "v1").await?;
    env.wait_settled("l2o", "v1").await?;
    env.patch("l2o", &version("v2", &[("START_DELAY_MS", "2000")]))
        .await?;
    wait_deployment(&env, "v2").await?;
    until("both versions have a running pod", SOON, async || {
        let pods = env.pods("l2o").await?;
        let running = |pod: &k8s_openapi::api::core::v1::Pod| {
            pod.status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                == Some("Running")
        };
        ensure!(pods.len() == 2 && pods.iter().all(running), "not yet");
        Ok(())
    })
    .await?;
    let before = restarts(&env).await?;

    temporal.stop()?;
    // A look that was under way when it went may have said so before, in the words of its call.
    let shown = env
        .wait_process("l2o", "the outage shows", SOON, |process| {
            let told = |kind: &str, status: &str| {
                let (is, reason, message) = condition(process, kind);
                is == status
                    && reason == "TemporalUnavailable"
                    && message.contains("workers are left as they are")
            };
            told("TemporalReachable", "False") && told("Degraded", "True")
        })
        .await?;
    ensure!(
        condition(&shown, "Ready").0 == "True",
        "the workers are as they were"
    );
    // Tools that wait for a rollout wait on, and see nothing in what is settled.
    ensure!(env.kstatus(&shown)?.0 == "InProgress", "{shown:?}");
    let calm = env
        .wait_process("calm", "the outage shows", SOON, |process| {
            condition(process, "TemporalReachable").0 == "False"
                && condition(process, "Degraded").0 == "True"
        })
        .await?;
    let (kstatus, why) = env.kstatus(&calm)?;
    ensure!(kstatus == "Current", "{kstatus} ({why})");
    ensure!(operator.get("/livez").await?.0 == 200, "alive");
    let (code, text) = operator.get("/readyz").await?;
    ensure!(code == 503 && text.contains("[-]temporal"), "{code} {text}");
    ensure!(restarts(&env).await? == before, "pods are left alone");

    temporal.start()?;
    let process = env.wait_settled("l2o", "v2").await?;
    ensure!(
        is_settled(&process, "v2") && condition(&process, "TemporalReachable").0 == "True",
        "{process:?}"
    );
    operator.ready().await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v2-"), "{answer:?}");
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}

/// What is asked about a Temporal namespace is answered with this instead.
fn cut_off(proxy: &TemporalProxy, namespace: &str, code: GrpcCode) -> RuleHandle {
    let asks = ["Describe", "List", "Count"];
    let matcher = RpcMatch::any()
        .when(move |rpc| asks.iter().any(|ask| rpc.method.starts_with(ask)))
        .mentioning(namespace);
    proxy.rule(matcher, Action::Answer(GrpcError::new(code, "not for you")))
}

/// Whether Temporal can be reached, and since when it is so.
fn since(process: &Process) -> Option<(String, Timestamp)> {
    let conditions = &process.status.as_ref()?.conditions;
    let found = conditions::find(conditions, ConditionType::TemporalReachable)?;
    Some((found.status.clone(), found.last_transition_time.0))
}

/// Transitions have whole seconds: two outages that begin in the same one are told as one.
async fn in_another_second(over: &Process) -> Result<()> {
    let (_, ended) = since(over).context("no time of transition")?;
    until("the next second", SOON, async || {
        ensure!(Timestamp::now().as_second() > ended.as_second(), "not yet");
        Ok(())
    })
    .await
}

fn reachable(process: &Process) -> (String, String) {
    let (status, reason, _) = condition(process, "TemporalReachable");
    (status, reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_temporal_namespace_fails_and_only_its_processes_say_so() -> Result<()> {
    let env = Env::new("onens").await?;
    let second = format!("{}-second", env.namespace);
    env.temporal.create_namespace(&second).await?;
    let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
    let mut replicas = Vec::new();
    for instance in ["operator-0", "operator-1"] {
        let options = OperatorOptions {
            temporal_address: Some(proxy.addr().to_string()),
            instance: Some(instance.into()),
            args: vec!["--temporal-ping-seconds".into(), "3".into()],
            ..OperatorOptions::default()
        };
        replicas.push(Operator::start(&env, options).await?);
    }
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let mut other = manifest(&env, "other", "v1");
    other["spec"]["temporal"]["namespace"] = second.clone().into();
    env.apply(&other).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    let before = env.wait_settled("other", "v1").await?;
    let pods = restarts(&env).await?;
    let up = |namespace: &str| {
        format!("process_operator_temporal_namespace_up{{temporal_namespace=\"{namespace}\"}}")
    };

    for (code, reason) in [
        (GrpcCode::Unavailable, "TemporalUnavailable"),
        (GrpcCode::PermissionDenied, "Forbidden"),
    ] {
        let began = std::time::Instant::now();
        let rule = cut_off(&proxy, &env.apps, code);
        let shown = env
            .wait_process("l2o", "the outage shows", SOON, |process| {
                condition(process, "TemporalReachable").0 == "False"
                    && condition(process, "Degraded").0 == "True"
            })
            .await?;
        let took = began.elapsed();
        // Two intervals, and what a look and a write take on a machine with much to do.
        ensure!(took < Duration::from_secs(6 + 4), "{took:?}");
        ensure!(
            reachable(&shown) == ("False".into(), reason.into()),
            "{shown:?}"
        );
        let (ready, _, _) = condition(&shown, "Ready");
        ensure!(ready == "True", "the workers are as they were");
        // A lifecycle that has looked says that a right which is missing waits for a person.
        let (stalled, _, _) = condition(&shown, "Stalled");
        let wanted = if stalled == "True" {
            "Failed"
        } else {
            "Current"
        };
        let (kstatus, why) = env.kstatus(&shown)?;
        ensure!(kstatus == wanted, "{kstatus} ({why}) of {shown:?}");
        // A lifecycle may have been faster than the ping of this replica.
        until("the metric says which", SOON, async || {
            let (_, page) = replicas[0].get("/metrics").await?;
            for (namespace, value) in [(&env.apps, 0), (&second, 1), (&env.control, 1)] {
                let line = format!("{} {value}", up(namespace));
                ensure!(page.contains(&line), "{line} is not in {page}");
            }
            Ok(())
        })
        .await?;
        ensure!(replicas[0].get("/readyz").await?.0 == 200, "ready");
        // A lifecycle that looks meanwhile says the same.
        let look = json_payload(&json!({ "kind": "sweep", "detail": "have a look" }));
        env.temporal
            .signal(&env.control, &lifecycle_id(&settled), "changed", vec![look])
            .await?;
        rule.remove();
        // Settled it was all the while.
        let over = env
            .wait_process("l2o", "the outage is over", SOON, |process| {
                condition(process, "TemporalReachable").0 == "True"
                    && condition(process, "Degraded").0 == "False"
            })
            .await?;
        in_another_second(&over).await?;
    }

    let after = env.wait_settled("other", "v1").await?;
    ensure!(since(&before) == since(&after), "{before:?} {after:?}");
    ensure!(restarts(&env).await? == pods, "pods are left alone");
    until(
        "an Event for a transition, whatever the replicas",
        SOON,
        async || {
            for (process, wanted) in [(&settled, 2), (&before, 0)] {
                let events = env.events(process).await?;
                for reason in ["TemporalUnreachable", "TemporalReachable"] {
                    let count = events.iter().filter(|(it, _)| it == reason).count();
                    ensure!(count == wanted, "{reason}: {count}: {events:?}");
                }
            }
            Ok(())
        },
    )
    .await?;
    let both: Vec<&Operator> = replicas.iter().collect();
    invariants.hold(&env, &both, QUIET).await?;
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_started_without_temporal_waits_for_it() -> Result<()> {
    let (mut temporal, env) = private("late").await?;
    temporal.stop()?;
    let unready = OperatorOptions {
        unready: true,
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&env, unready).await?;
    until("/readyz names what is missing", SOON, async || {
        let (code, text) = operator.get("/readyz").await?;
        ensure!(
            code == 503 && text.contains("[-]temporal failed: cannot connect"),
            "{code} {text}"
        );
        ensure!(text.contains("[+]watch ok"), "Kubernetes is there: {text}");
        Ok(())
    })
    .await?;
    ensure!(
        operator.get("/livez").await?.0 == 200 && !operator.ended(),
        "alive"
    );
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;

    temporal.start()?;
    operator.ready().await?;
    env.wait_settled("l2o", "v1").await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_never_reached_temporal_stops_at_once() -> Result<()> {
    let (mut temporal, env) = private("never").await?;
    temporal.stop()?;
    let options = OperatorOptions {
        unready: true,
        args: vec!["--shutdown-seconds".into(), "60".into()],
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&env, options).await?;
    until("it tries to connect", SOON, async || {
        let (_, text) = operator.get("/readyz").await?;
        ensure!(
            text.contains("[-]temporal failed: cannot connect"),
            "{text}"
        );
        Ok(())
    })
    .await?;
    let took = operator.stop().await?;
    ensure!(took < Duration::from_secs(5), "{took:?}");
    let code = operator.exit_code().context("no exit code")?;
    ensure!(code == 0, "exit code {code}");
    temporal.start()?;
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_open_waits_stops_within_its_termination_period() -> Result<()> {
    let (scene, _) = Scene::settled("stop").await?;
    let env = &scene.env;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    env.patch("l2o", &version("v2", &[])).await?;
    env.wait_process("l2o", "v1 drains", SOON, |process| {
        process
            .status
            .as_ref()
            .is_some_and(|status| !status.draining.is_empty())
    })
    .await?;
    // A client that connects and says nothing must not hold it up either.
    let _silent = tokio::net::TcpStream::connect(&scene.operator.http).await?;
    let took = scene.operator.stop().await?;
    ensure!(took < Duration::from_secs(15), "{took:?}");
    let code = scene.operator.exit_code().context("no exit code")?;
    ensure!(code == 0, "exit code {code}");
    let log = scene.operator.log_text();
    ensure!(
        log.contains("told to stop")
            && log.trim_end().ends_with('}')
            && log.contains("\"stopped\""),
        "it says so"
    );

    let again = Operator::start(env, OperatorOptions::default()).await?;
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.wait_settled("l2o", "v2").await?;
    scene
        .invariants
        .hold(env, &[&scene.operator, &again], QUIET)
        .await?;
    scene.env.remove().await
}
