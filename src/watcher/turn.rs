//! Which replica asks the registries.
//!
//! All replicas watch, and any of them could ask. A Lease keeps it to one at a time. Nothing depends on
//! that for being right: two that ask at once only ask twice, since what is fetched is compared before it
//! is written.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use process_operator_activities::build::hash;
use process_operator_crds::names;
use serde_json::json;
use tokio::sync::watch;

use super::{Shared, answered};

/// How long the Lease holds without being renewed.
const HOLDS: Duration = Duration::from_secs(15);
/// Time between two renewals.
const RENEW: Duration = Duration::from_secs(5);

/// Takes the turn when it is free, from the first registry on that some Process names, and gives it back
/// at the end.
pub(super) async fn run(
    shared: Shared,
    holds: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut needed = shared.registries_needed.subscribe();
    tokio::select! {
        needed = needed.wait_for(|needed| *needed) => if needed.is_err() { return },
        _ = stop.wait_for(|stop| *stop) => return,
    }
    let turn = Turn {
        name: lease_name(&shared),
        // Two replicas may have been given one name.
        me: format!(
            "{}_{:016x}",
            shared.config.instance,
            RandomState::new().hash_one(())
        ),
        api: Api::namespaced(shared.client.clone(), &shared.config.namespace),
    };
    let mut renewed: Option<Instant> = None;
    loop {
        let at = Instant::now();
        match turn.take().await {
            Ok(true) => renewed = Some(at),
            Ok(false) => renewed = None,
            Err(error) => tracing::warn!("Lease {} not taken: {error}", turn.name),
        }
        let mine = renewed.is_some_and(|at| at.elapsed() < HOLDS);
        if holds.send_replace(mine) != mine {
            tracing::info!(mine, "turn to ask the registries of definitions");
        }
        let ends = tokio::select! {
            () = tokio::time::sleep(RENEW) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if ends {
            if mine {
                turn.give_back().await;
            }
            return;
        }
    }
}

/// One Lease for those that look after the same Processes.
fn lease_name(shared: &Shared) -> String {
    let mut about = shared.config.watch_namespaces.clone();
    about.sort();
    about.insert(0, shared.config.temporal_namespace.clone());
    let about = hash::short(about.join("\n").as_bytes());
    format!("process-operator-definitions-{about}")
}

struct Turn {
    name: String,
    me: String,
    api: Api<Lease>,
}

impl Turn {
    /// Whether the turn is ours now.
    async fn take(&self) -> kube::Result<bool> {
        let now = Timestamp::now();
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        };
        let written = match answered(self.api.get_opt(&self.name)).await? {
            Some(found) if self.is_held(&found, now) => return Ok(false),
            Some(found) => {
                // With the version in it a replica that was faster keeps it.
                let change = json!({
                    "metadata": { "resourceVersion": found.metadata.resource_version },
                    "spec": spec,
                });
                let change = Patch::Merge(&change);
                answered(self.api.patch(&self.name, &patch(), &change)).await
            }
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec),
                };
                let params = PostParams {
                    field_manager: Some(names::manager::WATCHER.into()),
                    ..PostParams::default()
                };
                answered(self.api.create(&params, &lease)).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Somebody else has it.
    fn is_held(&self, found: &Lease, now: Timestamp) -> bool {
        let Some(spec) = &found.spec else {
            return false;
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let holds = SignedDuration::try_from(HOLDS).unwrap_or(SignedDuration::ZERO);
        // Written by a clock that is ahead it counts as old too.
        let fresh = spec
            .renew_time
            .as_ref()
            .is_some_and(|time| now.duration_since(time.0).abs() < holds);
        !holder.is_empty() && holder != self.me && fresh
    }

    async fn give_back(&self) {
        let Ok(Some(found)) = answered(self.api.get_opt(&self.name)).await else {
            return;
        };
        let spec = found.spec.unwrap_or_default();
        if spec.holder_identity.as_ref() != Some(&self.me) {
            return;
        }
        let change = json!({
            "metadata": { "resourceVersion": found.metadata.resource_version },
            "spec": { "holderIdentity": "" },
        });
        // Otherwise it lapses.
        let _ = answered(self.api.patch(&self.name, &patch(), &Patch::Merge(&change))).await;
    }
}

fn patch() -> PatchParams {
    PatchParams {
        field_manager: Some(names::manager::WATCHER.into()),
        ..PatchParams::default()
    }
}
