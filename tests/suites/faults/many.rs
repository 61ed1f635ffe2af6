//! F46: many Processes, of which some fail for ever, each kind in its own way.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, Answer};
use process_operator_harness::{Operator, condition, until};
use serde_json::json;

use crate::crowd::{create, deployed, how_many, names, without_pods};
use crate::world::{SOON, World};

/// Highest resident memory of the operator, an unoptimized build with all its pages.
const MEMORY_MIB: u64 = 400;

/// Requests to Kubernetes and to Temporal a minute for one that fails for ever.
const EACH_MINUTE: usize = 120;

/// How long that is measured.
const WINDOW: Duration = Duration::from_secs(20);

/// Writes of its Deployments are forbidden, and it is tried again for ever.
fn refused(n: usize) -> String {
    format!("bad-refused{n}")
}

/// Its Temporal namespace does not exist.
fn nowhere(n: usize) -> String {
    format!("bad-nowhere{n}")
}

/// Its image does not exist, and no pod ever comes.
fn imageless(n: usize) -> String {
    format!("bad-image{n}")
}

#[tokio::test(flavor = "multi_thread")]
async fn some_that_fail_for_ever_harm_no_others() -> Result<()> {
    let count = how_many(60, 200);
    // 5 %, a third of each kind.
    let kinds = count.div_ceil(60);
    let world = World::new("f46").await?;
    let (env, operator) = (&world.env, world.operator()?);
    let writes = world.writes().resource("deployments");
    let writes = writes.when(|request| request.name.starts_with("bad-refused"));
    let rule = world.kube.rule(writes, Action::Answer(Answer::status(403)));
    let absent = format!("{}-absent", env.namespace);
    for n in 0..kinds {
        env.apply(&without_pods(env, &refused(n))).await?;
        let mut wanted = without_pods(env, &nowhere(n));
        wanted["spec"]["temporal"]["namespace"] = json!(absent);
        env.apply(&wanted).await?;
        let mut wanted = without_pods(env, &imageless(n));
        wanted["spec"]["replicas"] = json!(1);
        wanted["spec"]["image"] = json!("localhost/process-example-worker:no-such-tag");
        wanted["spec"]["imagePullPolicy"] = json!("Never");
        wanted["spec"]["rollout"] = json!({ "progressDeadlineSeconds": 10 });
        env.apply(&wanted).await?;
    }
    failing(&world, kinds).await?;

    let healthy = names("p", count - 3 * kinds);
    let since = Instant::now();
    create(env, &healthy).await?;
    deployed(env, &healthy, "v1", SOON).await?;
    println!(
        "{} healthy Processes deployed after {:.1} s",
        healthy.len(),
        since.elapsed().as_secs_f64()
    );

    // No hot loop: nothing else happens now.
    let before = requests(&world);
    tokio::time::sleep(WINDOW).await;
    let more = requests(&world).saturating_sub(before);
    let (memory, windows) = (resident_mib(&operator)?, 60 / WINDOW.as_secs());
    println!("{more} requests about {kinds} of each kind in {WINDOW:?}, {memory} MiB");
    let each = more * usize::try_from(windows)? / (3 * kinds);
    ensure!(each <= EACH_MINUTE, "{each} requests a minute for each");
    ensure!(memory <= MEMORY_MIB, "{memory} MiB are resident");
    failing(&world, kinds).await?;

    // What was wrong is put right, and so are they.
    rule.remove();
    env.temporal.create_namespace(&absent).await?;
    for n in 0..kinds {
        let image = "localhost/process-example-worker:v1";
        let spec = json!({ "image": image, "imagePullPolicy": "IfNotPresent", "replicas": 0 });
        env.patch(&imageless(n), &json!({ "spec": spec })).await?;
        let all = [refused(n), nowhere(n), imageless(n)];
        deployed(env, &all, "v1", SOON).await?;
    }
    ensure!(
        !operator.ended(),
        "one process from the beginning to the end"
    );
    world.finish().await
}

/// Each of those that fail says why.
async fn failing(world: &World, kinds: usize) -> Result<()> {
    until("those that fail say why", SOON, async || {
        let all = ListParams::default();
        let processes = world.env.api::<Process>().list(&all).await?;
        let says = |name: String, type_: &str, reasons: &[&str]| {
            let process = processes.iter().find(|it| it.name_any() == name);
            let (status, reason, message) = condition(process.context("there")?, type_);
            ensure!(
                status == "True" && reasons.contains(&reason.as_str()),
                "{name}: {type_} {status} {reason} {message}"
            );
            anyhow::Ok(())
        };
        for n in 0..kinds {
            says(refused(n), "Degraded", &["Forbidden"])?;
            says(nowhere(n), "Stalled", &["NamespaceNotFound"])?;
            says(imageless(n), "Stalled", &["ProgressDeadlineExceeded"])?;
        }
        let deployments = world.env.api::<Deployment>().list(&all).await?;
        ensure!(
            !deployments
                .iter()
                .any(|it| it.name_any().starts_with("bad-refused")),
            "nothing of theirs is written"
        );
        Ok(())
    })
    .await
}

/// Requests about those that fail, to Kubernetes and to Temporal. Polls are about nobody.
fn requests(world: &World) -> usize {
    let kube = world.kube.count(.., |record| {
        let request = &record.request;
        let selected = request
            .param("labelSelector")
            .is_some_and(|labels| labels.contains("=bad-"));
        request.name.starts_with("bad-") || selected
    });
    let temporal = world.temporal.count(.., |record| {
        !record.request.method.starts_with("Poll") && record.request.mentions("/bad-")
    });
    kube + temporal
}

/// Resident memory of a process.
fn resident_mib(operator: &Operator) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.pid))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("VmRSS")?.parse::<u64>()? / 1024)
}
