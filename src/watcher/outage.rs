//! What is said while Temporal is away, as a whole or one Temporal namespace of it.
//!
//! Each Temporal namespace in use is pinged. While the operator's own is away no workflow can write a
//! status, so the watcher does: `TemporalReachable=False` and `Degraded=True`, under a field manager of
//! its own; while another is, it does so for the Processes in it, whose lifecycles may sleep for weeks.
//! A Lease holds the last success of *any* replica, and False is written only when that has lapsed, so
//! replicas with different sight do not flap. Workers are never touched. When Temporal answers again the
//! lifecycles are told, and put their conditions right themselves.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use process_operator_activities::cache::Neighbour;
use process_operator_activities::dependents;
use process_operator_crds::conditions::{NewCondition, own_conditions};
use process_operator_crds::{ConditionType, Process, Reason, names};
use process_operator_workflows::contract::{ChangeKind, Changed};
use serde_json::json;

use super::sights::{AWAY, Outage, Pace, Sights};
use super::{Shared, answered};
use crate::health::Part;
use crate::metrics::Metrics;

/// Pings for ever.
pub(crate) async fn run(shared: Shared) {
    let pace = Pace::new(shared.config.ping(), shared.config.outage());
    let own = shared.config.temporal_namespace.clone();
    let mut sights = Sights::new(&own, pace);
    let mut told = Told::default();
    let mut ticks = tokio::time::interval(pace.tick);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let link = shared.connection.borrow().clone();
        if link.is_none() && shared.metrics.other_installations.get() > 0 {
            // Temporal is there, and those who work with it say what there is to say.
            continue;
        }
        sights.look(&shared, link.as_ref()).await;
        match sights.silence(&own) {
            None => {
                shared.metrics.temporal_up.set(1);
                shared.readiness.up(Part::Temporal);
            }
            Some(silence) => {
                shared.metrics.temporal_up.set(0);
                shared.readiness.down(Part::Temporal, silence.why.clone());
            }
        }
        sights.tell(&shared).await;
        sights.judge(&shared).await;
        if sights.outage(&own).is_some() {
            force(&shared).await;
        }
        let processes = shared.cache.processes();
        show_all(&shared, &sights, &processes).await;
        recovered(&shared, &sights, &processes, &mut told);
    }
}

/// Writes what is not shown yet.
async fn show_all(shared: &Shared, sights: &Sights, processes: &[Neighbour]) {
    for process in processes {
        let Some(outage) = sights.outage(&process.temporal_namespace) else {
            continue;
        };
        let shown = process.unreachable.as_ref().is_some_and(|shown| {
            // What a lifecycle found just before nobody could write any more says less.
            process.degraded && (!outage.whole || shown.message.starts_with(AWAY))
        });
        if shown {
            continue;
        }
        if let Err(error) = show(shared, process, &outage).await {
            tracing::warn!(
                process = process.name,
                namespace = process.namespace,
                "outage not shown: {error}"
            );
            // The API server is away too: the others wait for the next round.
            if !matches!(error, kube::Error::Api(_)) {
                break;
            }
            continue;
        }
        if !outage.whole && outage.reason != Reason::TemporalUnavailable {
            // More follows from this than two conditions.
            Metrics::count_kind(&shared.metrics.sweep_findings, "Temporal namespace is lost");
            shared.signaler.send(
                &process.key(),
                "outage",
                &process.resource_version,
                Changed::new(ChangeKind::Sweep, outage.why),
            );
        }
    }
}

/// Writes the two conditions, with the transition times that the live object calls for.
async fn show(shared: &Shared, process: &Neighbour, outage: &Outage) -> kube::Result<()> {
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
    let message = format!("{}; {then}", outage.why);
    let generation = live.metadata.generation.unwrap_or(0);
    let condition = |kind, status: bool| {
        NewCondition::new(kind, status, outage.reason, message.clone(), generation)
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
            Err(error) => tracing::warn!(
                process = process.name,
                namespace = process.namespace,
                "finalizer not removed: {error}"
            ),
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

/// Longest time until a lifecycle that still finds Temporal unavailable, which answers pings, is told again.
const LONGEST: Duration = Duration::from_secs(600);
/// Shortest.
const SHORTEST: Duration = Duration::from_secs(10);

/// What one lifecycle has been told.
struct Telling {
    /// Version of the Process as it was then.
    version: String,
    /// How often before.
    times: u32,
    /// When it is told again, if nothing has changed.
    again: Instant,
}

/// What has been told to lifecycles, by uid.
#[derive(Default)]
struct Told(HashMap<String, Telling>);

impl Told {
    /// How often a lifecycle was told before, if it is to be told now. `unavailable`: it found that Temporal does not
    /// answer, as one read may while pings do. It sleeps then, and nobody else would wake it.
    fn due(&mut self, uid: &str, version: &str, unavailable: bool, now: Instant) -> Option<u32> {
        let Some(telling) = self.0.get_mut(uid) else {
            let telling = Telling {
                version: version.to_owned(),
                times: 0,
                again: now + SHORTEST,
            };
            self.0.insert(uid.to_owned(), telling);
            return Some(0);
        };
        if telling.version == version && !(unavailable && now >= telling.again) {
            return None;
        }
        version.clone_into(&mut telling.version);
        telling.times = telling.times.saturating_add(1);
        let pause = SHORTEST.saturating_mul(2_u32.saturating_pow(telling.times));
        telling.again = now + pause.min(LONGEST);
        Some(telling.times)
    }
}

/// Tells the lifecycles of all Processes that show an outage which is over. Asked for at each round, so
/// that one whose status was written late is told too; the cache shows when it has been put right. What
/// a lifecycle itself still finds wrong after that is told again ever more seldom, where it is silence; the sweep
/// watches the rest, such as a right that is missing.
fn recovered(shared: &Shared, sights: &Sights, processes: &[Neighbour], told: &mut Told) {
    if sights.away() {
        return;
    }
    let now = Instant::now();
    let mut over = HashSet::new();
    for process in processes {
        let namespace = &process.temporal_namespace;
        let Some(shown) = process.unreachable.as_ref() else {
            continue;
        };
        if sights.silence(namespace).is_some() {
            continue;
        }
        over.insert(process.uid.as_str());
        let unavailable = shown.reason == Reason::TemporalUnavailable.as_str();
        let version = &process.resource_version;
        let Some(times) = told.due(&process.uid, version, unavailable, now) else {
            continue;
        };
        Metrics::count_kind(&shared.metrics.sweep_findings, "outage over");
        shared.signaler.send(
            &process.key(),
            "outage",
            &format!("{version}/{times}"),
            Changed::new(ChangeKind::Recovered, "Temporal answers again"),
        );
    }
    told.0.retain(|uid, _| over.contains(uid.as_str()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_silence_again_is_told_again_ever_more_seldom() {
        let mut told = Told::default();
        let begun = Instant::now();
        let mut at = |version, unavailable, seconds| {
            let now = begun + Duration::from_secs(seconds);
            told.due("u-1", version, unavailable, now)
        };
        assert_eq!(at("5", true, 0), Some(0));
        assert_eq!(at("5", true, 9), None);
        assert_eq!(at("5", true, 10), Some(1));
        assert_eq!(at("5", true, 29), None);
        assert_eq!(at("5", true, 30), Some(2));
        // Another status is news at once.
        assert_eq!(at("6", true, 31), Some(3));
        assert_eq!(at("6", true, 110), None);
        assert_eq!(at("6", true, 111), Some(4));
        // What is not silence, the sweep watches.
        assert_eq!(at("6", false, 5_000), None);
        let every = (5_000..50_000).filter(|second| at("6", true, *second).is_some());
        let times: Vec<u64> = every.collect();
        let last: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(last.last(), Some(&600), "{times:?}");
    }
}
