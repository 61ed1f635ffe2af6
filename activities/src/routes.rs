//! The routing where Temporal does not hold it: an owned ConfigMap that says which version is current
//! and which one takes a share. With `versioning: TaskQueuePerVersion` starters read their task queue
//! from it; with `None` it decides how pods are shared.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use process_operator_crds::spec::Versioning;
use process_operator_crds::{ErrorCategory, names};
use process_operator_workflows::contract::{
    Expected, ProcessKey, Routing, RoutingState, VersionState, VersionView,
};

use crate::build::{belongs, hash, hold as held_by, owner};
use crate::context::Context;
use crate::dependents;
use crate::error::{Fault, Result, within};
use crate::sent::Sent;
use crate::temporal::shares::Shares;

/// Keys of the ConfigMap. Starters of workflows rely on them.
mod entry {
    pub(super) const CURRENT: &str = "currentBuildId";
    pub(super) const CURRENT_QUEUE: &str = "currentTaskQueue";
    pub(super) const RAMPING: &str = "rampingBuildId";
    pub(super) const RAMPING_QUEUE: &str = "rampingTaskQueue";
    pub(super) const PERCENT: &str = "rampingPercent";
    pub(super) const PROMOTING: &str = "promotingBuildId";
}

/// How many versions are remembered as having been current.
const SERVED: usize = 50;

/// Who gets which share of new executions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    /// Build id of the Current version; empty when there is none.
    pub(crate) current: String,
    /// Build id of the version that takes a share; empty when there is none.
    pub(crate) ramping: String,
    /// Its percentage.
    pub(crate) percent: i32,
    /// Build id whose pods are replacing those of the Current version; empty when there is none.
    pub(crate) promoting: String,
    /// When each version was last current.
    pub(crate) served: BTreeMap<String, Timestamp>,
}

impl Routes {
    /// New executions go to this version, or some of them do.
    pub(crate) fn uses(&self, build_id: &str) -> bool {
        [&self.current, &self.ramping, &self.promoting]
            .into_iter()
            .any(|used| used == build_id)
    }

    /// Who gets which share.
    #[allow(clippy::cast_precision_loss, reason = "a percentage is exact")]
    fn shares(&self) -> Shares {
        Shares {
            current: self.current.clone(),
            ramping: self.ramping.clone(),
            percent: self.percent as f32,
        }
    }
}

/// The routing as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// What it says.
    pub(crate) routes: Routes,
    /// Who wrote it last, if that was not us.
    changed_by: String,
    /// Fences the next write; `None` when there is no object yet.
    resource_version: Option<String>,
}

/// Another content has another mark.
pub fn mark(map: &ConfigMap) -> String {
    let text = serde_json::to_vec(&map.data).unwrap_or_default();
    format!("{}={}", map.name_any(), hash::short(&text))
}

fn api(context: &Context, key: &ProcessKey) -> Api<ConfigMap> {
    Api::namespaced(context.kube.clone(), &key.namespace)
}

async fn read_map(context: &Context, key: &ProcessKey) -> Result<Option<ConfigMap>> {
    let name = names::routing_name(&key.name);
    let found = api(context, key)
        .get_opt(&name)
        .await
        .map_err(|error| Fault::from(error).about(&format!("reading ConfigMap {name}")))?;
    match found {
        // Of a predecessor, on its way out.
        Some(found) if !belongs(key, &found.metadata) => {
            if found
                .labels()
                .get(names::label::PROCESS)
                .is_some_and(|process| *process == key.name)
            {
                return Ok(None);
            }
            Err(Fault::new(
                ErrorCategory::Conflict,
                format!(
                    "ConfigMap {name} exists and belongs to something else; delete or rename it"
                ),
            ))
        }
        found => Ok(found),
    }
}

/// Reads the routing.
pub(crate) async fn read(context: &Context, key: &ProcessKey) -> Result<Stored> {
    Ok(read_map(context, key)
        .await?
        .as_ref()
        .map(parse)
        .unwrap_or_default())
}

fn parse(map: &ConfigMap) -> Stored {
    let data = map.data.clone().unwrap_or_default();
    let text = |name: &str| data.get(name).cloned().unwrap_or_default();
    let served = map.annotations().get(names::annotation::SERVED);
    Stored {
        routes: Routes {
            current: text(entry::CURRENT),
            ramping: text(entry::RAMPING),
            // What somebody made unreadable is not what a rollout left.
            percent: text(entry::PERCENT).parse().unwrap_or_default(),
            promoting: text(entry::PROMOTING),
            served: served
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default(),
        },
        changed_by: map
            .managed_fields()
            .iter()
            .filter(|entry| entry.manager.as_deref() != Some(names::manager::OPERATOR))
            .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
            .and_then(|entry| entry.manager.clone())
            .unwrap_or_else(|| "somebody".into()),
        resource_version: map.resource_version(),
    }
}

/// Writes the routing, unless somebody has written since it was read (`Conflict`).
pub(crate) async fn write(
    context: &Context,
    key: &ProcessKey,
    (versioning, task_queue): (Versioning, &str),
    stored: &Stored,
    routes: &Routes,
    sent: &Sent,
) -> Result<()> {
    let name = names::routing_name(&key.name);
    let mut built = build(key, versioning, task_queue, routes, stored);
    let namespace = dependents::second_owner(context, key).await?;
    held_by(&mut built.metadata, namespace);
    let mut params = PatchParams::apply(names::manager::OPERATOR);
    params.force = true;
    let maps = api(context, key);
    let written = async move {
        match maps.patch(&name, &params, &Patch::Apply(&built)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::from(error).about(&format!("writing ConfigMap {name}"))),
        }
    };
    sent.through(within(written)).await
}

fn build(
    key: &ProcessKey,
    versioning: Versioning,
    task_queue: &str,
    routes: &Routes,
    stored: &Stored,
) -> ConfigMap {
    let queue = |build_id: &str| {
        let own = versioning == Versioning::TaskQueuePerVersion && !build_id.is_empty();
        if own {
            names::task_queue(versioning, task_queue, build_id)
        } else {
            String::new()
        }
    };
    let percent = if routes.percent > 0 {
        routes.percent.to_string()
    } else {
        String::new()
    };
    let data = [
        (entry::CURRENT, routes.current.clone()),
        (entry::CURRENT_QUEUE, queue(&routes.current)),
        (entry::RAMPING, routes.ramping.clone()),
        (entry::RAMPING_QUEUE, queue(&routes.ramping)),
        (entry::PERCENT, percent),
        (entry::PROMOTING, routes.promoting.clone()),
    ];
    let mut served: Vec<_> = routes.served.iter().collect();
    served.sort_by_key(|(_, at)| std::cmp::Reverse(**at));
    let served: BTreeMap<_, _> = served.into_iter().take(SERVED).collect();
    // A map of strings always serialises.
    let served = serde_json::to_string(&served).unwrap_or_default();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::routing_name(&key.name)),
            namespace: Some(key.namespace.clone()),
            resource_version: stored.resource_version.clone(),
            labels: Some(
                [
                    (names::label::APP_NAME, "process-routing"),
                    (names::label::APP_INSTANCE, key.name.as_str()),
                    (names::label::APP_COMPONENT, "routing"),
                    (names::label::APP_PART_OF, key.name.as_str()),
                    (names::label::APP_MANAGED_BY, names::manager::OPERATOR),
                    (names::label::PROCESS, key.name.as_str()),
                    (names::label::PROCESS_UID, key.uid.as_str()),
                ]
                .into_iter()
                .map(|(label, value)| (label.to_owned(), value.to_owned()))
                .collect(),
            ),
            annotations: Some(BTreeMap::from([(
                names::annotation::SERVED.to_owned(),
                served,
            )])),
            owner_references: Some(vec![owner(key)]),
            ..ObjectMeta::default()
        },
        data: Some(
            data.into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        ),
        ..ConfigMap::default()
    }
}

/// Gives a routing that an earlier release has written the owners that one written today has.
pub(crate) async fn hold(
    context: &Context,
    key: &ProcessKey,
    namespace: Option<OwnerReference>,
) -> Result<()> {
    match read_map(context, key).await? {
        Some(found) => dependents::claim(context, key, &found, namespace).await,
        None => Ok(()),
    }
}

/// Makes the routing again after it was lost. One that is there is left as it is.
pub(crate) async fn restore(
    context: &Context,
    key: &ProcessKey,
    scope: (Versioning, &str),
    current: &str,
) -> Result<()> {
    let stored = read(context, key).await?;
    if stored.resource_version.is_some() {
        return Ok(());
    }
    let routes = Routes {
        current: current.to_owned(),
        served: BTreeMap::from([(current.to_owned(), Timestamp::now())]),
        ..Routes::default()
    };
    write(context, key, scope, &stored, &routes, &Sent::default()).await
}

/// What somebody else has made of the routing, if a rollout of `build_id` does not find it as it has
/// left it.
pub(crate) fn disturbed(
    key: &ProcessKey,
    stored: &Stored,
    build_id: &str,
    expected: &Expected,
) -> Option<Fault> {
    let found = stored.routes.shares();
    if found.kept(build_id, expected) {
        return None;
    }
    Some(Fault::new(
        ErrorCategory::RoutingChanged,
        format!(
            "ConfigMap {} was changed by {:?}: {found}; `resume` takes it back, `abort` gives the rollout up",
            names::routing_name(&key.name),
            stored.changed_by,
        ),
    ))
}

/// The routing in the plan's words, without the states of versions. `published` is the current
/// version as status has it, which stands in for a routing that was lost.
pub(crate) async fn routing(
    context: &Context,
    key: &ProcessKey,
    published: Option<&str>,
) -> Routing {
    let map = match read_map(context, key).await {
        Ok(map) => map,
        Err(fault) => {
            return Routing {
                message: fault.message,
                ..Routing::default()
            };
        }
    };
    let lost = map.is_none() && published.is_some();
    let routes = match (&map, published) {
        (Some(map), _) => parse(map).routes,
        (None, Some(current)) => Routes {
            current: current.to_owned(),
            ..Routes::default()
        },
        (None, None) => Routes::default(),
    };
    let some = |build_id: &str| (!build_id.is_empty()).then(|| build_id.to_owned());
    let left = left(&routes);
    Routing {
        state: RoutingState::Known,
        current: some(&routes.current),
        ramping: some(&routes.ramping),
        percent: routes.percent,
        promoting: some(&routes.promoting),
        lost,
        mark: map.as_ref().map(mark).unwrap_or_default(),
        served: routes.served,
        left,
        ..Routing::default()
    }
}

/// When versions that nothing is routed to have lost their traffic.
fn left(routes: &Routes) -> BTreeMap<String, Timestamp> {
    let served = routes.served.iter();
    served
        .filter(|(build_id, _)| !routes.uses(build_id))
        .map(|(build_id, at)| (build_id.clone(), *at))
        .collect()
}

/// The states of the versions that have pods: what is merely kept for a rollback is held by nothing.
/// Whether workflows still run on the queue of one that served is found out by its drain.
pub(crate) fn states(
    routing: &Routing,
    versioning: Versioning,
    versions: &BTreeMap<String, VersionView>,
) -> BTreeMap<String, VersionState> {
    let is = |role: &Option<String>, build_id: &String| role.as_ref() == Some(build_id);
    let state = |build_id: &String| {
        if is(&routing.current, build_id) {
            VersionState::Current
        } else if is(&routing.ramping, build_id) || is(&routing.promoting, build_id) {
            VersionState::Ramping
        } else if versioning == Versioning::TaskQueuePerVersion
            && routing.served.contains_key(build_id)
        {
            VersionState::Draining
        } else {
            VersionState::Inactive
        }
    };
    versions
        .iter()
        .filter(|(_, version)| version.deployment.is_some())
        .map(|(build_id, _)| (build_id.clone(), state(build_id)))
        .collect()
}

#[cfg(test)]
mod tests;
