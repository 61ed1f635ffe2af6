//! The Lease in which replicas tell each other when Temporal last answered: its `renewTime` for the
//! operator's own Temporal namespace, an annotation for each other one.
//!
//! A replica believes its own silence only when nobody else has had an answer lately.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::{Patch, PatchParams};
use process_operator_activities::build::hash;
use process_operator_crds::names;

use super::{Shared, answered};

/// Before the hash of a Temporal namespace, whose name may be longer than a key and hold anything.
const PREFIX: &str = "answered.ameide.io/";
/// After this long nobody uses a Temporal namespace any more.
const OLD: SignedDuration = SignedDuration::from_hours(1);

/// When Temporal namespaces last answered.
pub(super) type Answers = BTreeMap<String, Timestamp>;

fn key(temporal_namespace: &str) -> String {
    format!("{PREFIX}{}", hash::short(temporal_namespace.as_bytes()))
}

fn api(shared: &Shared) -> Api<Lease> {
    Api::namespaced(shared.client.clone(), &shared.config.namespace)
}

/// When any replica last had an answer for this namespace.
fn read(shared: &Shared, lease: &Lease, temporal_namespace: &str) -> Option<Timestamp> {
    if temporal_namespace == shared.config.temporal_namespace {
        return lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0);
    }
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(&key(temporal_namespace))?.parse().ok()
}

/// Whether a replica has told a time lately. Its clock may be ahead of ours; a time that is far ahead was told
/// by a clock that was wrong, and would hide an outage until then.
fn is_about(told: Timestamp, now: Timestamp, lately: SignedDuration) -> bool {
    now.duration_since(told).abs() < lately
}

/// Tells what has answered here, unless other replicas have just told all of it.
pub(super) async fn tell(shared: &Shared, answers: &Answers, fresh: SignedDuration) {
    let own = &shared.config.temporal_namespace;
    let name = names::lease_name(own);
    let Ok(present) = answered(api(shared).get_opt(&name)).await else {
        // An open watch does not show that the API server takes nothing more from us.
        shared.interrupted.notify_one();
        return;
    };
    let now = Timestamp::now();
    let told = |namespace: &str| {
        // What a clock that is ahead has told is told anew.
        read(shared, present.as_ref()?, namespace).filter(|told| told.duration_since(now) < fresh)
    };
    let stale = |(namespace, at): (&String, &Timestamp)| {
        told(namespace).is_none_or(|told| at.duration_since(told) >= fresh)
    };
    if !answers.iter().any(stale) {
        return;
    }
    let metadata = present.as_ref().map(|lease| &lease.metadata);
    let mut annotations: BTreeMap<String, String> = metadata
        .and_then(|metadata| metadata.annotations.clone())
        .unwrap_or_default();
    annotations.retain(|key, at| {
        let at = at.parse::<Timestamp>();
        key.starts_with(PREFIX) && at.is_ok_and(|at| is_about(at, now, OLD))
    });
    for (namespace, at) in answers.iter().filter(|(namespace, _)| *namespace != own) {
        let newest = told(namespace).map_or(*at, |told| told.max(*at));
        annotations.insert(key(namespace), format!("{newest:.0}"));
    }
    let renewed = answers.get(own).copied().max(told(own));
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(annotations),
            // What another replica tells meanwhile is not to be lost.
            resource_version: metadata.and_then(|metadata| metadata.resource_version.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(shared.config.instance.clone()),
            lease_duration_seconds: i32::try_from(shared.config.outage().as_secs()).ok(),
            renew_time: renewed.map(MicroTime),
            ..LeaseSpec::default()
        }),
    };
    let params = PatchParams::apply(names::manager::WATCHER).force();
    match answered(api(shared).patch(&name, &params, &Patch::Apply(&lease))).await {
        Ok(_) => {}
        // Another replica was faster; the next round looks again.
        Err(kube::Error::Api(answer)) if answer.code == 409 => {}
        Err(error) => tracing::warn!("Lease {name} not renewed: {error}"),
    }
}

/// Of these namespaces, those of which another replica has had an answer lately. An API server that does
/// not answer proves nothing: then it is all of them.
pub(super) async fn seen_by_others(
    shared: &Shared,
    namespaces: &[String],
    lately: SignedDuration,
) -> Vec<String> {
    let name = names::lease_name(&shared.config.temporal_namespace);
    let now = Timestamp::now();
    match answered(api(shared).get_opt(&name)).await {
        Ok(Some(lease)) => {
            let seen = |namespace: &&String| {
                read(shared, &lease, namespace).is_some_and(|at| is_about(at, now, lately))
            };
            namespaces.iter().filter(seen).cloned().collect()
        }
        Ok(None) => Vec::new(),
        Err(_) => namespaces.to_vec(),
    }
}
