//! Which versions have to be there, which have to go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use process_operator_crds::names::{BuildId, WorkflowId};

use super::placement::{Placement, placement};
use super::verbs::given_up;
use super::{Child, Plan, note};
use crate::contract::{
    CurrentVersion, DeploymentView, Drain, Observation, ProcessKey, ProcessView, Rollout, Routing,
    RoutingState, State, Step, VersionState, VersionView,
};

/// Why a version is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// New executions go to it.
    Current,
    /// The spec asks for it.
    Target,
    /// Running workflows are pinned to it.
    Held,
    /// Nothing needs it.
    Superseded,
}

/// Takes over open children of an earlier lifecycle, found by their ids.
pub(super) fn adopt(state: &mut State, key: &ProcessKey, seen: &Observation, now: Timestamp) {
    if state.adopted {
        return;
    }
    state.adopted = true;
    // One that was superseded may not have ended yet: the later one counts.
    let mut latest = 0;
    for id in &seen.children {
        match id.parse() {
            Ok(WorkflowId::Rollout {
                process,
                build_id,
                attempt,
            }) if process == *key => {
                state.children = state.children.max(attempt);
                if attempt < latest {
                    continue;
                }
                latest = attempt;
                state.rollout = Some(Rollout {
                    id: id.clone(),
                    build_id: build_id.to_string(),
                    since: now,
                    deadline: now,
                    ..Rollout::default()
                });
            }
            Ok(WorkflowId::Drain {
                process,
                build_id,
                n,
            }) if process == *key => {
                state.children = state.children.max(n);
                let version = seen.versions.get(build_id.as_str());
                state.drains.insert(
                    build_id.to_string(),
                    Drain {
                        id: id.clone(),
                        deployment_name: version
                            .map(|version| version.name.clone())
                            .unwrap_or_default(),
                        image: version
                            .map(|version| version.image.clone())
                            .unwrap_or_default(),
                        since: seen
                            .routing
                            .left
                            .get(build_id.as_str())
                            .copied()
                            .unwrap_or(now),
                        ..Drain::default()
                    },
                );
            }
            _ => {}
        }
    }
}

/// Takes over what the server says about the current version. Whether it is another one now.
pub(super) fn follow_routing(state: &mut State, seen: &Observation, now: Timestamp) -> bool {
    if seen.routing.state != RoutingState::Known {
        return false;
    }
    let known = state.current.as_ref().map(|current| &current.build_id);
    if seen.routing.current.as_ref() == known {
        return false;
    }
    state.current = seen
        .routing
        .current
        .as_ref()
        .map(|build_id| CurrentVersion {
            build_id: build_id.clone(),
            since: now,
        });
    true
}

/// Percentage of new executions that a version takes; `None` while that is not known.
pub(super) fn share(routing: &Routing, build_id: &str) -> Option<i32> {
    let ramped = routing.ramping.as_ref().map_or(0, |_| routing.percent);
    let share = if routing.ramping.as_deref() == Some(build_id) {
        ramped
    } else if routing.current.as_deref() == Some(build_id) {
        100 - ramped
    } else {
        0
    };
    (routing.state == RoutingState::Known).then_some(share)
}

/// The role of every version that Kubernetes or Temporal knows.
pub(super) fn roles(
    state: &State,
    process: &ProcessView,
    seen: &Observation,
    blocked: bool,
) -> BTreeMap<String, Role> {
    let mut names: Vec<&String> = seen
        .versions
        .keys()
        .chain(seen.routing.versions.keys())
        .collect();
    if !blocked {
        names.push(&process.build_id);
    }
    let current = state.current.as_ref().map(|current| &current.build_id);
    names
        .into_iter()
        .map(|build_id| {
            let role =
                if current == Some(build_id) || seen.routing.ramping.as_ref() == Some(build_id) {
                    Role::Current
                } else if *build_id == process.build_id && !given_up(state, build_id) {
                    Role::Target
                } else if held(seen, build_id) {
                    Role::Held
                } else {
                    Role::Superseded
                };
            (build_id.clone(), role)
        })
        .collect()
}

/// Running workflows may need this version's pods. What the server does not tell counts as held.
fn held(seen: &Observation, build_id: &str) -> bool {
    if seen.routing.state != RoutingState::Known {
        return true;
    }
    matches!(
        seen.routing.versions.get(build_id),
        Some(
            VersionState::Draining
                | VersionState::Unknown
                | VersionState::Current
                | VersionState::Ramping
        )
    )
}

/// Deployments of needed versions are made, and re-made when lost or edited.
pub(super) fn restore(
    state: &State,
    key: &ProcessKey,
    process: &ProcessView,
    seen: &Observation,
    roles: &BTreeMap<String, Role>,
    plan: &mut Plan,
) {
    if seen.routing.lost
        && let Some(current) = &seen.routing.current
    {
        plan.steps.push(Step::RestoreRouting {
            current: current.clone(),
        });
    }
    delete_strays(seen, plan);
    for (build_id, role) in roles {
        let version = seen.versions.get(build_id);
        let deployment = version.and_then(|version| version.deployment.as_ref());
        let kept_as = version.map_or(&process.deployment_name, |version| &version.name);
        let Some(place) = placement(process, &key.name, &seen.routing, build_id, kept_as) else {
            continue;
        };
        let blocked_target = *role == Role::Target
            && state
                .target
                .as_ref()
                .is_none_or(|(target, _)| target != build_id);
        let can_make =
            version.is_some_and(|version| version.revision) || *build_id == process.build_id;
        // Its drain has looked closer than the server's word tells, which may be late, or missing, and stays the
        // same when a workflow is reset.
        let drain = state.drains.get(build_id);
        let stopped = *role == Role::Held
            && drain.is_some_and(|drain| {
                drain.has_stopped() || may_have_stopped(seen, drain, deployment)
            });
        let resumed = deployment.is_some() && drain.is_some_and(Drain::is_held);
        let superseded = *role == Role::Superseded && !resumed;
        if superseded || blocked_target || !can_make || stopped {
            continue;
        }
        if let Some(deployment) = deployment {
            let as_applied = state.applied.get(&place.name) == Some(&deployment.fields);
            let as_wanted = version.is_some_and(|version| {
                version.desired == deployment.applied && !version.definition_lost
            });
            // A Deployment on its way out is re-made once it is gone; its deletion is signalled.
            if deployment.foreign || deployment.deleting || (as_applied && as_wanted) {
                continue;
            }
        }
        plan.steps.push(apply(build_id, kept_as, version, place));
    }
}

/// A drain that finds nothing stops the pods before it tells of that, and tells of everything else before long: if
/// somebody else has stopped them, they come back then.
fn may_have_stopped(
    seen: &Observation,
    drain: &Drain,
    deployment: Option<&DeploymentView>,
) -> bool {
    let gone = deployment.is_some_and(|deployment| deployment.replicas == 0);
    seen.settings.rules > 2 && drain.progress.is_none() && gone
}

/// Deployments that no version has a place for: a canary that has ended.
pub(super) fn delete_strays(seen: &Observation, plan: &mut Plan) {
    for (name, uid) in &seen.strays {
        plan.steps.push(Step::DeleteVersion {
            name: name.clone(),
            uid: Some(uid.clone()),
        });
    }
}

/// Makes the Deployment of a version, from its ControllerRevision if there is one.
pub(super) fn apply(
    build_id: &str,
    kept_as: &str,
    version: Option<&VersionView>,
    place: Placement,
) -> Step {
    let deployment = version.and_then(|version| version.deployment.as_ref());
    Step::ApplyVersion {
        build_id: build_id.to_owned(),
        kept_as: (kept_as != place.name).then(|| kept_as.to_owned()),
        name: place.name,
        uid: deployment.map(|deployment| deployment.uid.clone()),
        revision: version.is_some_and(|version| version.revision),
        replicas: place.replicas,
    }
}

/// Starts the retirement of versions that nothing routes to, and calls it off for those in use again.
pub(super) fn retire(
    state: &mut State,
    key: &ProcessKey,
    process: &ProcessView,
    seen: &Observation,
    roles: &BTreeMap<String, Role>,
    now: Timestamp,
    plan: &mut Plan,
) {
    for (build_id, drain) in &mut state.drains {
        let in_use = matches!(roles.get(build_id), Some(Role::Current | Role::Target));
        if (in_use || process.suspend) && !drain.cancelled {
            drain.cancelled = true;
            plan.cancel.push(drain.id.clone());
        }
    }
    // Under somebody else's management the server would refuse every change.
    let not_ours =
        seen.routing.state != RoutingState::Known || seen.routing.foreign_manager.is_some();
    if process.suspend || not_ours || state.trouble.is_some() {
        return;
    }
    for (build_id, role) in roles {
        if matches!(role, Role::Current | Role::Target) || state.drains.contains_key(build_id) {
            continue;
        }
        let version = seen.versions.get(build_id);
        if version.is_some_and(|version| version.deployment.as_ref().is_some_and(|d| d.foreign)) {
            continue;
        }
        let recorded = seen.routing.versions.contains_key(build_id);
        let kept = version.is_some_and(|it| it.retired.is_some() && it.deployment.is_none());
        if !recorded && (version.is_none() || kept) {
            // Retired already; what is kept of it costs nothing.
            continue;
        }
        state.children += 1;
        let id = key
            .drain(&BuildId::from_observed(build_id), state.children)
            .to_string();
        let deployment_name = version
            .map(|version| version.name.clone())
            .unwrap_or_default();
        let why = if given_up(state, build_id) {
            "given up"
        } else {
            "superseded"
        };
        let left = seen.routing.left.get(build_id).copied().unwrap_or(now);
        // The server's word stays the same when a workflow is reset.
        let since = state
            .resumed
            .get(build_id)
            .map_or(left, |resumed| left.max(*resumed));
        state.drains.insert(
            build_id.clone(),
            Drain {
                id: id.clone(),
                deployment_name: deployment_name.clone(),
                image: version
                    .map(|version| version.image.clone())
                    .unwrap_or_default(),
                since,
                policy: process.drain.clone(),
                ..Drain::default()
            },
        );
        note(state, plan, now, "DrainStarted", build_id, why);
        plan.start.push(Child::Drain {
            id,
            build_id: build_id.clone(),
            deployment_name,
            since,
        });
    }
}
