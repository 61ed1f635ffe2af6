//! What the facts mean. Pure.

mod temporal;

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::{ConditionType, Process, Reason, names};
use serde::Serialize;

use super::{Installation, Leases, Told, fixes};
use crate::model::{Objects, Tree, VersionState, tree};
use crate::phase::{Word, condition};

/// An operator looks at a change within a second or two; by then it should have.
const NOTICED: SignedDuration = SignedDuration::from_secs(30);

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Worth a look.
    Warn,
    /// Wrong.
    Fail,
    /// Could not be looked at.
    Skip,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    /// The Process, or the installation.
    pub(super) about: String,
    /// What was looked at.
    #[allow(clippy::struct_field_names, reason = "its name in the output")]
    pub(super) check: &'static str,
    /// How it went.
    pub(super) level: Level,
    /// What was seen.
    pub(super) told: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) fix: String,
}

/// The outcome of a check before it is known what it is about.
struct Outcome(Level, String, String);

fn ok(told: impl Into<String>) -> Outcome {
    Outcome(Level::Ok, told.into(), String::new())
}

fn skip(told: impl Into<String>) -> Outcome {
    Outcome(Level::Skip, told.into(), String::new())
}

fn warn(told: impl Into<String>, fix: impl Into<String>) -> Outcome {
    Outcome(Level::Warn, told.into(), fix.into())
}

fn fail(told: impl Into<String>, fix: impl Into<String>) -> Outcome {
    Outcome(Level::Fail, told.into(), fix.into())
}

fn named(about: &str, checks: Vec<(&'static str, Outcome)>) -> Vec<Check> {
    let check = |(check, Outcome(level, told, fix))| Check {
        about: about.to_owned(),
        check,
        level,
        told,
        fix,
    };
    checks.into_iter().map(check).collect()
}

/// The installation alone.
pub(super) fn installation(seen: &Installation, namespace: &str, now: Timestamp) -> Vec<Check> {
    let mut checks = vec![("kind", kind(seen))];
    if !seen.unknown_kind {
        checks.push(("operator", operator(seen, namespace, None, now)));
    }
    named("installation", checks)
}

/// One Process on an installation.
pub(super) fn process(
    seen: &Installation,
    namespace: &str,
    objects: &Objects,
    told: Option<&Told>,
    now: Timestamp,
) -> Vec<Check> {
    let process = &objects.process;
    let tree = tree(objects);
    let mut checks = vec![
        ("kind", kind(seen)),
        ("operator", operator(seen, namespace, Some(process), now)),
        ("seen", noticed(process, &tree, now)),
        ("temporal", reachable(process, told)),
        ("namespace", temporal_namespace(process, told)),
        (
            "definition",
            of_condition(process, ConditionType::DefinitionResolved),
        ),
        (
            "dependencies",
            of_condition(process, ConditionType::DependenciesReady),
        ),
        ("spec", blocked(process)),
        ("image", of_condition(process, ConditionType::MutableTag)),
        ("workers", workers(objects, &tree)),
        ("rollout", rollout(process)),
    ];
    if let Some(told) = told.filter(|told| told.unreachable.is_none()) {
        checks.extend(
            told.pollers
                .as_ref()
                .map(|found| ("polling", temporal::polling(found, &tree))),
        );
        checks.extend(
            told.routing
                .as_ref()
                .map(|found| ("routing", temporal::routing(found, &tree))),
        );
        checks.extend(
            told.probe
                .as_ref()
                .map(|found| ("probe", temporal::probe(found))),
        );
    }
    named(&format!("{}/{}", tree.namespace, tree.name), checks)
}

fn kind(seen: &Installation) -> Outcome {
    if seen.unknown_kind {
        return fail(
            "the cluster does not know the kind Process",
            "kubectl apply -f crds/processes.ameide.io.yaml",
        );
    }
    ok("the cluster serves the kind Process")
}

fn operator(
    seen: &Installation,
    namespace: &str,
    process: Option<&Process>,
    now: Timestamp,
) -> Outcome {
    let Leases::Seen(leases) = &seen.leases else {
        return skip(format!("no right to list Leases in namespace {namespace}"));
    };
    let fix = format!(
        "start the operator, and look at its log; its namespace is {namespace} unless --operator-namespace says otherwise"
    );
    let workflow = process.and_then(|process| process.status.as_ref()?.workflow.as_ref());
    let wanted = workflow.map(|workflow| names::lease_name(&workflow.namespace));
    let mut candidates = leases
        .iter()
        .filter(|(name, _, _)| wanted.as_ref().is_none_or(|wanted| wanted == name));
    let fresh = |at: Option<Timestamp>, seconds: i32| {
        at.is_some_and(|at| now.duration_since(at).as_secs() <= 2 * i64::from(seconds))
    };
    if let Some((name, _, _)) = candidates
        .clone()
        .find(|(_, at, seconds)| fresh(*at, *seconds))
    {
        return ok(format!("it renews Lease {name}"));
    }
    // It is renewed with what Temporal answers.
    let away = process
        .is_some_and(|process| condition(process, ConditionType::TemporalReachable).0 == "False");
    match candidates.next() {
        Some((name, _, _)) if away => skip(format!("Lease {name} rests while Temporal is away")),
        Some((name, Some(at), _)) => fail(format!("Lease {name} was renewed last at {at}"), fix),
        _ => fail(
            format!("no operator keeps a Lease in namespace {namespace}"),
            fix,
        ),
    }
}

fn noticed(process: &Process, tree: &Tree, now: Timestamp) -> Outcome {
    if tree.phase.word != Word::Pending {
        return ok("the operator has seen the last change");
    }
    let written = process.metadata.managed_fields.iter().flatten();
    let written = written
        .filter(|entry| entry.subresource.is_none())
        .filter_map(|entry| entry.time.as_ref());
    let last = written.map(|at| at.0).max();
    let fix = "see whether an operator runs and watches this namespace (--watch-namespace)";
    match last {
        Some(at) if now.duration_since(at) < NOTICED => warn(tree.phase.words.clone(), ""),
        Some(at) => fail(format!("{}, since {at}", tree.phase.words), fix),
        None => fail(tree.phase.words.clone(), fix),
    }
}

fn reachable(process: &Process, told: Option<&Told>) -> Outcome {
    if let Some(why) = told.and_then(|told| told.unreachable.as_ref()) {
        return fail(
            format!("from here: {why}"),
            "correct --temporal-address, or look after the server and the network between",
        );
    }
    of_condition(process, ConditionType::TemporalReachable)
}

fn temporal_namespace(process: &Process, told: Option<&Told>) -> Outcome {
    let name = &process.spec.temporal.namespace;
    let fix = || fixes::of(Reason::NamespaceNotFound.as_str(), "");
    match told.and_then(|told| told.namespace.as_ref()) {
        Some(Ok(true)) => return ok(format!("Temporal namespace {name} exists")),
        Some(Ok(false)) => {
            return fail(format!("Temporal namespace {name} does not exist"), fix());
        }
        Some(Err(why)) => return skip(format!("Temporal namespace {name}: {why}")),
        None => {}
    }
    let (status, reason, message) = condition(process, ConditionType::Stalled);
    match (status, reason) {
        ("True", reason) if reason == Reason::NamespaceNotFound.as_str() => fail(message, fix()),
        ("", _) => skip("the operator has not said yet"),
        _ => ok(format!("nothing is said against Temporal namespace {name}")),
    }
}

/// A condition as it stands.
fn of_condition(process: &Process, kind: ConditionType) -> Outcome {
    let (status, reason, message) = condition(process, kind);
    let told = match message {
        "" => reason.to_owned(),
        message => format!("{reason}: {message}"),
    };
    let well = if kind.positive() { "True" } else { "False" };
    match status {
        "" => skip("the operator has not said yet"),
        status if status == well => ok(told),
        _ if kind == ConditionType::MutableTag => warn(told, fixes::of(reason, "")),
        "Unknown" => warn(told, ""),
        _ => fail(
            told,
            fixes::of(reason, &process.metadata.name.clone().unwrap_or_default()),
        ),
    }
}

/// Reasons that keep a spec from being carried out at all.
const BLOCKS: [Reason; 6] = [
    Reason::TaskQueueConflict,
    Reason::DeploymentOwnedElsewhere,
    Reason::InvalidSpec,
    Reason::QuotaExceeded,
    Reason::Forbidden,
    Reason::Conflict,
];

fn blocked(process: &Process) -> Outcome {
    let (status, reason, message) = condition(process, ConditionType::Stalled);
    let name = process.metadata.name.clone().unwrap_or_default();
    if status == "True" && BLOCKS.iter().any(|block| block.as_str() == reason) {
        return fail(format!("{reason}: {message}"), fixes::of(reason, &name));
    }
    if process.spec.suspend {
        return warn(
            "the operator does not act",
            fixes::of(Reason::Suspended.as_str(), &name),
        );
    }
    ok("nothing keeps it from being carried out")
}

/// Pods of the version that serves, or of the first one.
fn workers(objects: &Objects, tree: &Tree) -> Outcome {
    let unseen = |kind: &str| tree.unseen.iter().any(|it| it == kind);
    let broken = tree.versions.iter().flat_map(|version| &version.pods);
    if let Some(pod) = broken.clone().find(|pod| pod.broken()) {
        let pulls = pod.state.contains("Pull") || pod.state.contains("Image");
        let fix = if pulls {
            "correct spec.image, or give spec.imagePullSecrets for it".to_owned()
        } else {
            format!(
                "`kubectl process logs {} --version BUILD_ID` tells what the worker wrote",
                tree.name
            )
        };
        let told = format!("pod {}: {} {}", pod.name, pod.state, pod.message);
        return fail(told.trim_end(), fix);
    }
    if objects.process.spec.replicas == 0 {
        return warn(
            "spec.replicas is 0",
            fixes::of(Reason::ScaledToZero.as_str(), ""),
        );
    }
    let serving = tree
        .versions
        .iter()
        .find(|version| version.state == VersionState::Current);
    match serving.or_else(|| tree.versions.first()) {
        None => skip("there is no version yet"),
        Some(_) if unseen("deployments") => {
            of_condition(&objects.process, ConditionType::WorkersReady)
        }
        Some(version) => match &version.deployment {
            Some(it) if it.ready >= it.replicas => ok(format!(
                "{}/{} pods of {} are ready",
                it.ready, it.replicas, version.build_id
            )),
            Some(it) => fail(
                format!(
                    "{}/{} pods of {} are ready",
                    it.ready, it.replicas, version.build_id
                ),
                fixes::of(Reason::WorkersUnavailable.as_str(), ""),
            ),
            None => fail(
                format!("version {} has no Deployment", version.build_id),
                "see whether an operator runs: it makes a lost Deployment again",
            ),
        },
    }
}

/// What stands still or was given up.
fn rollout(process: &Process) -> Outcome {
    let name = process.metadata.name.clone().unwrap_or_default();
    for kind in [ConditionType::Stalled, ConditionType::Degraded] {
        let (status, reason, message) = condition(process, kind);
        if status == "True" {
            return fail(format!("{reason}: {message}"), fixes::of(reason, &name));
        }
    }
    let (status, reason, message) = condition(process, ConditionType::Progressing);
    match status {
        "" => skip("the operator has not said yet"),
        "True" => warn(
            format!("under way: {reason}: {message}"),
            fixes::of(reason, &name),
        ),
        _ => ok(format!("{reason}: {message}")),
    }
}

#[cfg(test)]
mod tests;
