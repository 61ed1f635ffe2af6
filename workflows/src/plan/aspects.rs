//! Conditions that say one thing each, and where a rollout or a drain stands, in words.

use process_operator_crds::conditions::NewCondition;
use process_operator_crds::{ConditionType, Reason};

use super::conditions::condition;
use crate::contract::{Drain, Observation, ProcessView, Rollout, RoutingState, Stage};

/// A draining version: what holds it, and what becomes of that.
pub(super) fn drained(build_id: &str, drain: &Drain) -> String {
    let Some(progress) = &drain.progress else {
        return build_id.to_owned();
    };
    let Some(open) = progress.open else {
        return build_id.to_owned();
    };
    let then = match (progress.ending, progress.deadline) {
        (Some(action), _) => format!(", {action}"),
        (None, Some(deadline)) if open > 0 => {
            format!(", {} at {deadline:.0}", progress.on_timeout)
        }
        _ => String::new(),
    };
    format!("{build_id} ({open} running workflows{then})")
}

/// Where a rollout stands, and what it waits for.
pub(super) fn under_way(rollout: &Rollout) -> (Reason, String) {
    let build_id = &rollout.build_id;
    if let Some(why) = &rollout.paused {
        return (Reason::Paused, format!("{build_id} is paused {why}"));
    }
    if rollout.told_paused {
        return (Reason::Paused, "spec.rollout.paused is true".to_owned());
    }
    let starting = || format!("bringing {build_id} live before {:.0}", rollout.deadline);
    let Some(progress) = &rollout.progress else {
        return (Reason::RollingOut, starting());
    };
    if let Some(hold) = &progress.hold {
        return (hold.category.reason(), hold.message.clone());
    }
    if let Some(why) = waits_for_workers(rollout) {
        let message = format!("{}; {why}", starting());
        return (Reason::WaitingForWorkers, message);
    }
    let at = format!(
        "{build_id} takes {} % of new workflows, step {} of {}",
        progress.weight, progress.step, rollout.steps
    );
    match progress.stage {
        _ if progress.waits_for_promotion() => (
            Reason::WaitingForPromotion,
            format!("{at}: waiting until it is promoted"),
        ),
        Stage::Gate | Stage::StepGate => (
            Reason::GateRunning,
            format!("{at}: a gate workflow must complete on it"),
        ),
        Stage::Analyzing => (Reason::Inconclusive, format!("{at}: {}", progress.message)),
        Stage::Pausing => {
            let due = progress.due.map(|due| format!(" until {due:.0}"));
            (
                Reason::RollingOut,
                format!("{at}{}", due.unwrap_or_default()),
            )
        }
        Stage::Starting if progress.step == 0 => (Reason::RollingOut, starting()),
        _ => (Reason::RollingOut, at),
    }
}

/// What keeps the pods of a version from being ready, as far as the rollout has told.
pub(super) fn waits_for_workers(rollout: &Rollout) -> Option<&str> {
    let progress = rollout.progress.as_ref()?;
    let told = progress.stage == Stage::Starting && !progress.message.is_empty();
    told.then_some(progress.message.as_str())
}

/// What of the dependencies is not there or not ready.
pub(super) fn lacking(process: &ProcessView) -> Option<String> {
    let lacking = &process.dependencies.as_ref()?.lacking;
    (!lacking.is_empty()).then(|| lacking.join(", "))
}

pub(super) fn dependencies(process: &ProcessView) -> NewCondition {
    let (ready, reason, message) = match (&process.dependencies, lacking(process)) {
        (None, _) => (true, Reason::NoDependencies, String::new()),
        (Some(_), Some(lacking)) => (false, Reason::DependencyNotReady, lacking),
        (Some(all), None) => (
            true,
            Reason::DependenciesReady,
            format!("{} of {} are ready", all.named, all.named),
        ),
    };
    condition(ConditionType::DependenciesReady, ready, reason, message)
}

/// What keeps a fetched definition from being compared with that of its registry, while there is one to use.
pub(super) fn unrefreshed(process: &ProcessView) -> Option<(Reason, String)> {
    let definition = process.definition.as_ref().filter(|it| it.found())?;
    let failure = definition.failure.as_ref()?;
    let message = format!("{}; what was fetched before is used", failure.message);
    Some((failure.reason, message))
}

pub(super) fn definition(process: &ProcessView) -> NewCondition {
    let Some(definition) = &process.definition else {
        return condition(
            ConditionType::DefinitionResolved,
            true,
            Reason::OpaqueReference,
            "definitionRef is passed on to the workers as it is",
        );
    };
    let name = &definition.config_map;
    if let Some(refused) = super::unreadable(process) {
        return condition(
            ConditionType::DefinitionResolved,
            false,
            refused.category.reason(),
            refused.message,
        );
    }
    if let Some((reason, message)) = unrefreshed(process) {
        return condition(ConditionType::DefinitionResolved, false, reason, message);
    }
    if let Some(failure) = &definition.failure {
        return condition(
            ConditionType::DefinitionResolved,
            false,
            failure.reason,
            failure.message.clone(),
        );
    }
    if !definition.found() {
        return condition(
            ConditionType::DefinitionResolved,
            false,
            Reason::DefinitionNotFound,
            format!("ConfigMap {name} does not exist"),
        );
    }
    let version = definition.version;
    let version = version.map_or_else(String::new, |version| format!(", version {version}"));
    let unversioned = Some(&definition.unversioned).filter(|why| !why.is_empty());
    let unversioned = unversioned.map_or_else(String::new, |why| format!("; {why}"));
    condition(
        ConditionType::DefinitionResolved,
        true,
        Reason::DefinitionFound,
        format!(
            "ConfigMap {name}{version}, {}{unversioned}",
            definition.checksum
        ),
    )
}

pub(super) fn mutable_tag(process: &ProcessView) -> NewCondition {
    if !process.tag_may_move {
        return condition(ConditionType::MutableTag, false, Reason::AsExpected, "");
    }
    condition(
        ConditionType::MutableTag,
        true,
        Reason::TagMayMove,
        format!(
            "{} can be other code tomorrow: pods of one version would differ, and open workflows fail when other \
             code replays them; set spec.image by digest (name@sha256:…) or by a tag that is never moved, with \
             imagePullPolicy IfNotPresent",
            process.image
        ),
    )
}

/// Why the operator cannot work in the Temporal namespace of the Process, if it cannot. The watcher, which
/// pings each namespace, says the same with the same reasons.
pub(super) fn away(seen: &Observation) -> Option<(Reason, String)> {
    if seen.invalid.is_some() {
        // Which namespace it is cannot be read, and none was asked.
        return None;
    }
    let reason = match seen.routing.state {
        RoutingState::Known => return None,
        RoutingState::NamespaceNotFound => Reason::NamespaceNotFound,
        RoutingState::Forbidden => Reason::Forbidden,
        RoutingState::Unknown => Reason::TemporalUnavailable,
    };
    Some((reason, seen.routing.message.clone()))
}

pub(super) fn temporal(seen: &Observation) -> NewCondition {
    let kind = ConditionType::TemporalReachable;
    if let Some((reason, message)) = away(seen) {
        return condition(kind, false, reason, message);
    }
    let message = seen.routing.message.clone();
    condition(kind, true, Reason::TemporalReachable, message)
}
