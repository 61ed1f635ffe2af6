//! I6: what Temporal routes, looked at past the proxies all the time, beside what the status says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, condition};
use temporalio_common::protos::temporal::api::deployment::v1::{
    WorkerDeploymentInfo, WorkerDeploymentVersion,
};
use tokio::task::JoinHandle;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// A look takes no longer: the server may be held still.
const LOOK: Duration = Duration::from_secs(2);
/// The status may say later what was done: the operator may have been killed in between.
const BEHIND: Duration = Duration::from_secs(10);
/// How the operator calls itself in front of its other names.
const OURS: &str = "process-operator";

/// One routing, from when it was first seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Routed {
    at: Instant,
    current: String,
    /// Version and percentage.
    ramping: Option<(String, f32)>,
    /// Who made it so.
    by: String,
}

impl Routed {
    fn of(info: WorkerDeploymentInfo) -> Self {
        let build_id = |version: Option<WorkerDeploymentVersion>| {
            version.map(|version| version.build_id).unwrap_or_default()
        };
        let routing = info.routing_config.unwrap_or_default();
        let percentage = routing.ramping_version_percentage;
        let ramping = build_id(routing.ramping_deployment_version);
        Self {
            at: Instant::now(),
            current: build_id(routing.current_deployment_version),
            ramping: (percentage > 0.0).then_some((ramping, percentage)),
            by: info.last_modifier_identity,
        }
    }

    fn same(&self, other: &Self) -> bool {
        (&self.current, &self.ramping, &self.by) == (&other.current, &other.ramping, &other.by)
    }
}

/// Looks until dropped.
pub(crate) struct Sampler {
    seen: Arc<Mutex<Vec<Routed>>>,
    task: JoinHandle<()>,
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sampler {
    pub(crate) fn start(env: &Env, name: &str) -> Self {
        let seen = Arc::<Mutex<Vec<Routed>>>::default();
        let (temporal, apps) = (env.temporal.clone(), env.apps.clone());
        let deployment = format!("{}/{name}", env.namespace);
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                let mut ticks = tokio::time::interval(EVERY);
                loop {
                    ticks.tick().await;
                    let look = temporal.worker_deployment(&apps, &deployment);
                    let Ok(Ok(Some(info))) = tokio::time::timeout(LOOK, look).await else {
                        continue;
                    };
                    let now = Routed::of(info);
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if !seen.last().is_some_and(|last| last.same(&now)) {
                        seen.push(now);
                    }
                }
            }
        });
        Self { seen, task }
    }

    /// What was routed, against all states of the Process with the moments in which they were seen.
    pub(crate) fn hold(&self, states: &[(Instant, Process)]) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        holds(&seen, states)
    }
}

fn target(process: &Process) -> Option<&str> {
    let target = process.status.as_ref()?.target_version.as_ref()?;
    Some(&target.build_id)
}

fn holds(seen: &[Routed], states: &[(Instant, Process)]) -> Result<()> {
    let mut known = BTreeSet::new();
    for (_, state) in states {
        let Some(told) = &state.status else {
            continue;
        };
        let versions = [&told.current_version, &told.target_version];
        known.extend(versions.into_iter().flatten().map(|it| it.build_id.clone()));
    }
    let mut before: Option<&Routed> = None;
    for now in seen.iter().filter(|now| now.by.starts_with(OURS)) {
        let ramping = now.ramping.as_ref().map(|(build_id, _)| build_id);
        for version in [Some(&now.current), ramping].into_iter().flatten() {
            ensure!(
                version.is_empty() || known.contains(version),
                "I6: {version} is routed to and was never in the status: {now:?}"
            );
        }
        within_its_step(now, states)?;
        if let Some(before) = before {
            grows(before, now, states)?;
        }
        before = Some(now);
    }
    Ok(())
}

/// No more than the step that comes next says.
fn within_its_step(now: &Routed, states: &[(Instant, Process)]) -> Result<()> {
    let Some((build_id, percentage)) = &now.ramping else {
        return Ok(());
    };
    let about = states
        .iter()
        .filter(|(at, state)| *at <= now.at + BEHIND && target(state) == Some(build_id.as_str()));
    let most = about.filter_map(|(_, state)| {
        let rollout = state.status.as_ref()?.rollout.as_ref();
        let step = rollout.map_or(0, |rollout| rollout.step);
        let next = usize::try_from(step).unwrap_or_default() + 1;
        let steps = state.spec.rollout.steps.iter().take(next);
        steps.map(|step| step.weight).max()
    });
    let Some(most) = most.max() else {
        return Ok(());
    };
    ensure!(
        f64::from(*percentage) <= f64::from(most),
        "I6: {percentage} % for {build_id}, whose steps say {most} by then"
    );
    Ok(())
}

/// The share of a version only grows, unless it is taken back as a whole, or the rollout was begun anew or changed.
fn grows(before: &Routed, now: &Routed, states: &[(Instant, Process)]) -> Result<()> {
    let (Some((was_of, was)), Some((is_of, is))) = (&before.ramping, &now.ramping) else {
        return Ok(());
    };
    if was_of != is_of || before.current != now.current || is >= was {
        return Ok(());
    }
    let about: Vec<_> = states
        .iter()
        .filter(|(at, _)| (before.at..=now.at + BEHIND).contains(at))
        .map(|(_, state)| state)
        .collect();
    let step = |state: &Process| {
        let rollout = state.status.as_ref().and_then(|it| it.rollout.as_ref());
        rollout.map_or(0, |rollout| rollout.step)
    };
    let anew = about
        .windows(2)
        .any(|pair| step(pair[0]) > step(pair[1]) || pair[0].spec.rollout != pair[1].spec.rollout);
    let stalled = about
        .iter()
        .any(|state| condition(state, "Stalled").0 == "True");
    ensure!(
        anew || stalled,
        "I6: the share of {is_of} went from {was} % to {is} %"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(at: Instant, step: i32) -> (Instant, Process) {
        let process = json!({
            "apiVersion": "ameide.io/v1", "kind": "Process", "metadata": { "name": "l2o" },
            "spec": {
                "image": "worker:v2", "definitionRef": { "id": "L2O", "tenantId": "t" },
                "temporal": { "namespace": "apps", "taskQueue": "l2o" },
                "rollout": { "strategy": "Canary", "steps": [{ "weight": 20 }, { "weight": 60 }] },
            },
            "status": {
                "currentVersion": { "buildId": "v1-a" }, "targetVersion": { "buildId": "v2-b" },
                "rollout": { "stage": "Pausing", "step": step },
            },
        });
        (at, serde_json::from_value(process).unwrap())
    }

    fn routed(at: Instant, current: &str, ramping: Option<(&str, f32)>) -> Routed {
        Routed {
            at,
            current: current.into(),
            ramping: ramping.map(|(build_id, percentage)| (build_id.into(), percentage)),
            by: format!("{OURS}/uid"),
        }
    }

    #[test]
    fn the_weights_of_the_steps_in_their_order_are_right() {
        let at = Instant::now();
        let states = [state(at, 0), state(at, 1), state(at + 2 * BEHIND, 2)];
        let seen = [
            routed(at, "v1-a", None),
            routed(at, "v1-a", Some(("v2-b", 20.0))),
            routed(at + 2 * BEHIND, "v1-a", Some(("v2-b", 60.0))),
            routed(at + 2 * BEHIND, "v2-b", None),
        ];
        holds(&seen, &states).unwrap();
    }

    #[test]
    fn more_than_the_step_less_than_before_and_strangers_are_wrong() {
        let at = Instant::now();
        let wrong = |seen: &[Routed], states: &[(Instant, Process)]| {
            holds(seen, states).unwrap_err().to_string()
        };
        let ahead = [routed(at, "v1-a", Some(("v2-b", 60.0)))];
        let told = wrong(&ahead, &[state(at, 0), state(at + 2 * BEHIND, 2)]);
        assert!(told.contains("60 % for v2-b"), "{told}");
        let back = [
            routed(at, "v1-a", Some(("v2-b", 60.0))),
            routed(at, "v1-a", Some(("v2-b", 20.0))),
        ];
        let told = wrong(&back, &[state(at, 2)]);
        assert!(told.contains("from 60 % to 20 %"), "{told}");
        // Begun anew.
        holds(&back, &[state(at, 2), state(at, 1)]).unwrap();
        let told = wrong(&[routed(at, "v0-c", None)], &[state(at, 1)]);
        assert!(told.contains("v0-c is routed to"), "{told}");
        let other = Routed {
            by: "ada".into(),
            ..routed(at, "v0-c", None)
        };
        holds(&[other], &[state(at, 1)]).unwrap();
    }
}
