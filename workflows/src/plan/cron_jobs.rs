//! Which CronJobs are made, changed and removed.

use super::{Plan, cron_job_mark};
use crate::contract::{Observation, RoutingState, State, Step};

/// They follow the Current version: before there is one, none is made, and while nobody says which it is
/// none is changed.
pub(super) fn keep(state: &mut State, seen: &Observation, plan: &mut Plan) {
    if seen.routing.state != RoutingState::Known {
        return;
    }
    for (name, job) in &seen.cron_jobs {
        let mark = cron_job_mark(name);
        if job.job.is_empty() {
            state.applied.remove(&mark);
            let uid = job.uid.as_ref().filter(|_| !job.deleting);
            plan.steps.extend(uid.map(|uid| Step::DeleteCronJob {
                name: name.clone(),
                uid: uid.clone(),
            }));
            continue;
        }
        let current = seen.routing.current.as_ref();
        let version = current.and_then(|current| seen.versions.get_key_value(current));
        let Some((current, version)) = version.filter(|_| !job.desired.is_empty()) else {
            continue;
        };
        let as_applied = state.applied.get(&mark) == Some(&job.fields);
        let as_wanted = job.desired == job.applied;
        // One on its way out is made again once it is gone; its deletion is signalled.
        if job.deleting || job.uid.is_some() && as_applied && as_wanted {
            continue;
        }
        plan.steps.push(Step::ApplyCronJob {
            name: name.clone(),
            job: job.job.clone(),
            uid: job.uid.clone(),
            current: current.clone(),
            kept_as: version.name.clone(),
        });
    }
}
