//! What is said while Temporal is away.
//!
//! No workflow can write a status then, so the watcher does: `TemporalReachable=False` and
//! `Degraded=True`, under a field manager of its own. One Lease holds the last success of *any*
//! replica, and False is written only when that has lapsed, so replicas with different sight do not
//! flap. Workers are never touched. When Temporal answers again the lifecycles are told, and put
//! their conditions right themselves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use process_operator_activities::cache::Neighbour;
use process_operator_activities::dependents;
use process_operator_crds::conditions::{NewCondition, own_conditions};
use process_operator_crds::{ConditionType, Process, Reason, names};
use process_operator_workflows::contract::{ChangeKind, Changed};
use serde_json::json;

use super::{Shared, answered};
use crate::health::Part;
use crate::metrics::Metrics;
use crate::temporal;

/// Time between two probes.
const PROBE: Duration = Duration::from_secs(5);

/// Probes for ever.
pub(crate) async fn run(shared: Shared) {
    let lease = names::lease_name(&shared.config.temporal_namespace);
    let started = Timestamp::now();
    let mut last = started;
    let mut renewed: Option<Timestamp> = None;
    let mut out = false;
    let mut ticks = tokio::time::interval(PROBE.min(shared.config.outage() / 3));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let half = SignedDuration::try_from(shared.config.outage() / 2)
        .unwrap_or(SignedDuration::from_secs(15));
    loop {
        ticks.tick().await;
        let connected = shared.connection.borrow().clone();
        let answer = match &connected {
            Some(link) => temporal::probe(&link.connection).await,
            None => Err("never connected".to_owned()),
        };
        let now = Timestamp::now();
        match answer {
            Ok(()) => {
                shared.metrics.temporal_up.set(1);
                shared.readiness.up(Part::Temporal);
                last = now;
                if renewed.is_none_or(|renewed| now.duration_since(renewed) >= half) {
                    renew(&shared, &lease, now, half).await;
                    renewed = Some(now);
                }
                if std::mem::take(&mut out) {
                    tracing::info!("Temporal answers again");
                }
                recovered(&shared);
            }
            Err(why) => {
                shared.metrics.temporal_up.set(0);
                shared.readiness.down(Part::Temporal, why.clone());
                let silent = Duration::try_from(now.duration_since(last)).unwrap_or_default();
                if silent < shared.config.outage() || seen_by_others(&shared, &lease, now).await {
                    continue;
                }
                if !std::mem::replace(&mut out, true) {
                    tracing::warn!(
                        "Temporal has not answered for {} s: {why}",
                        silent.as_secs()
                    );
                }
                force(&shared).await;
                for process in shared
                    .cache
                    .processes()
                    .iter()
                    .filter(|process| !process.outage_shown)
                {
                    if let Err(error) = show(&shared, process, &why).await {
                        tracing::warn!(process = process.name, "outage not shown: {error}");
                        // The API server is away too: the others wait for the next probe.
                        if !matches!(error, kube::Error::Api(_)) {
                            break;
                        }
                    }
                }
            }
        }
    }
}

fn leases(shared: &Shared) -> Api<Lease> {
    Api::namespaced(shared.client.clone(), &shared.config.namespace)
}

/// Renews the Lease unless another replica has just done so.
async fn renew(shared: &Shared, name: &str, now: Timestamp, fresh: SignedDuration) {
    let api = leases(shared);
    if let Ok(Some(lease)) = answered(api.get_opt(name)).await
        && renewed_at(&lease).is_some_and(|at| now.duration_since(at) < fresh)
    {
        return;
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(shared.config.instance.clone()),
            lease_duration_seconds: i32::try_from(shared.config.outage_seconds).ok(),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    };
    let params = PatchParams::apply(names::manager::WATCHER).force();
    if let Err(error) = answered(api.patch(name, &params, &Patch::Apply(&lease))).await {
        tracing::warn!("Lease {name} not renewed: {error}");
    }
}

fn renewed_at(lease: &Lease) -> Option<Timestamp> {
    lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0)
}

/// Another replica has had an answer lately. An API server that does not answer proves nothing.
async fn seen_by_others(shared: &Shared, name: &str, now: Timestamp) -> bool {
    let outage = SignedDuration::try_from(shared.config.outage()).unwrap_or(SignedDuration::MAX);
    match answered(leases(shared).get_opt(name)).await {
        Ok(Some(lease)) => renewed_at(&lease).is_some_and(|at| now.duration_since(at) < outage),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Writes the two conditions, with the transition times that the live object calls for.
async fn show(shared: &Shared, process: &Neighbour, why: &str) -> kube::Result<()> {
    let api: Api<Process> = Api::namespaced(shared.client.clone(), &process.namespace);
    let Some(live) = answered(api.get_opt(&process.name)).await? else {
        return Ok(());
    };
    if live.uid().as_deref() != Some(process.uid.as_str()) {
        return Ok(());
    }
    let now = Timestamp::now();
    let then = if process.deleting {
        "the deletion waits until it answers; the annotation ameide.io/force-finalize: \"true\" lets the \
         Process go without"
    } else {
        "workers are left as they are"
    };
    let message = format!("Temporal cannot be reached: {why}; {then}");
    let generation = live.metadata.generation.unwrap_or(0);
    let condition = |kind, status: bool| {
        NewCondition::new(
            kind,
            status,
            Reason::TemporalUnavailable,
            message.clone(),
            generation,
        )
    };
    let wanted = [
        condition(ConditionType::TemporalReachable, false),
        condition(ConditionType::Degraded, true),
    ];
    // The uid was looked at a moment ago; the version keeps the write off a successor.
    let version = live.metadata.resource_version;
    let old = live
        .status
        .map(|status| status.conditions)
        .unwrap_or_default();
    let own = own_conditions(&old, &wanted, now);
    let patch = json!({
        "apiVersion": "ameide.io/v1",
        "kind": "Process",
        "metadata": {
            "name": process.name,
            "namespace": process.namespace,
            "resourceVersion": version,
        },
        "status": { "conditions": own },
    });
    let params = PatchParams::apply(names::manager::WATCHER).force();
    answered(api.patch_status(&process.name, &params, &Patch::Apply(&patch))).await?;
    shared.metrics.outage_writes.inc();
    Ok(())
}

/// Lets those go that are to go without Temporal: no workflow can do it now.
async fn force(shared: &Shared) {
    let forced = |process: &Neighbour| process.deleting && process.forced && process.finalizer;
    for process in shared.cache.processes().into_iter().filter(forced) {
        match let_go(shared, &process).await {
            Ok(()) => tracing::warn!(
                process = process.name,
                namespace = process.namespace,
                "finalizer removed on request while Temporal is away; its records in Temporal are left"
            ),
            Err(error) => {
                tracing::warn!(process = process.name, "finalizer not removed: {error}");
            }
        }
    }
}

/// Removes our finalizer, if the Process is still this one and still to go. What it owns is given to the
/// garbage collector first.
async fn let_go(shared: &Shared, process: &Neighbour) -> kube::Result<()> {
    let api: Api<Process> = Api::namespaced(shared.client.clone(), &process.namespace);
    let Some(live) = answered(api.get_metadata_opt(&process.name)).await? else {
        return Ok(());
    };
    let before = live.finalizers();
    if live.uid().as_ref() == Some(&process.uid) {
        answered(dependents::release(
            &shared.client,
            &process.key(),
            before,
            None,
        ))
        .await?;
    }
    let wanted: Vec<&String> = before
        .iter()
        .filter(|name| *name != names::finalizer::PROCESS)
        .collect();
    let patch = json!([
        { "op": "test", "path": "/metadata/uid", "value": process.uid },
        { "op": "test", "path": "/metadata/finalizers", "value": before },
        { "op": "replace", "path": "/metadata/finalizers", "value": wanted },
    ]);
    let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    let params = PatchParams {
        field_manager: Some(names::manager::WATCHER.into()),
        ..PatchParams::default()
    };
    answered(api.patch(&process.name, &params, &Patch::<Process>::Json(patch))).await?;
    Ok(())
}

/// Tells the lifecycles of all Processes that still show an outage. Asked for at each probe, so that
/// one whose status was written late is told too; the cache shows when it has been put right.
fn recovered(shared: &Shared) {
    for process in shared
        .cache
        .processes()
        .into_iter()
        .filter(|process| process.unreachable)
    {
        Metrics::count_kind(&shared.metrics.sweep_findings, "outage over");
        shared.signaler.send(
            &process.key(),
            "outage",
            &process.resource_version,
            Changed::new(ChangeKind::Recovered, "Temporal answers again"),
        );
    }
}
