//! Looks at the executions and pods of a version that takes a share of new executions.

use std::time::Duration;

use process_operator_crds::ErrorCategory;
use process_operator_crds::spec::Analysis;
use process_operator_workflows::contract::{EvidenceInput, EvidenceOutcome, StepFailure};

use super::passing;
use crate::context::Context;
use crate::error::{Fault, Result, within};
use crate::temporal::executions::{self, Closed, Executions};
use crate::temporal::{describe, lifecycle, routing};
use crate::{pods, routes};

/// What one look shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Evidence {
    closed: Closed,
    /// Executions whose workflow tasks fail again and again.
    troubled: Vec<String>,
    /// Why pods do not run, in the kubelet's words.
    pods: Option<String>,
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// The version must not go on.
    Against(String),
    /// Too little has closed: tenths of what is needed, and in words.
    Inconclusive(i64, String),
    /// It may go on.
    Enough(String),
}

fn judge_by(evidence: &Evidence, analysis: &Analysis) -> Verdict {
    if let Some(pods) = &evidence.pods {
        return Verdict::Against(format!("its pods fail{pods}"));
    }
    let troubled = evidence.troubled.len();
    if i32::try_from(troubled).unwrap_or(i32::MAX) > analysis.max_task_failures {
        let sample: Vec<&str> = evidence
            .troubled
            .iter()
            .take(3)
            .map(String::as_str)
            .collect();
        return Verdict::Against(format!(
            "workflow tasks of {troubled} running executions fail again and again (at most {} may): {}",
            analysis.max_task_failures,
            sample.join(", ")
        ));
    }
    let Closed { completed, failed } = evidence.closed;
    let closed = completed + failed;
    let least = i64::from(analysis.min_workflows);
    let facts = format!("{failed} of {closed} closed executions failed");
    // Counted against the least number that is asked for: what is too much already cannot become
    // little enough by waiting for the rest.
    let base = closed.max(least);
    if failed * 100 > i64::from(analysis.max_failure_percent) * base {
        return Verdict::Against(format!(
            "{facts} (at most {} % may)",
            analysis.max_failure_percent
        ));
    }
    if closed < least {
        return Verdict::Inconclusive(
            closed * 10 / least,
            format!("{closed} executions have closed, {least} are needed"),
        );
    }
    Verdict::Enough(facts)
}

async fn look(context: &Context, input: &EvidenceInput) -> Result<Evidence> {
    if let Some(fault) = disturbed(context, input).await? {
        return Err(fault);
    }
    let namespace = &input.temporal_namespace;
    let (key, build_id, since) = (&input.key, &input.build_id, input.since);
    let pods = pods::failing(context, &key.namespace, &key.name, build_id).await;
    let Some(of) = Executions::of(key, input.versioning, build_id, &input.task_queue) else {
        return Ok(Evidence {
            pods,
            ..Evidence::default()
        });
    };
    let counted = input.analysis.max_failure_percent < 100 || input.analysis.min_workflows > 0;
    let closed = if counted {
        executions::closed(context, namespace, &of, key, since).await?
    } else {
        Closed::default()
    };
    Ok(Evidence {
        closed,
        troubled: executions::troubled(context, namespace, &of, since).await?,
        pods,
    })
}

/// What somebody else has made of the routing.
async fn disturbed(context: &Context, input: &EvidenceInput) -> Result<Option<Fault>> {
    let (key, build_id) = (&input.key, &input.build_id);
    if !input.versioning.is_default() {
        let stored = within(routes::read(context, key)).await?;
        return Ok(routes::disturbed(key, &stored, build_id, &input.expected));
    }
    let deployment = key.worker_deployment();
    let found = describe(context, &input.temporal_namespace, &deployment).await?;
    Ok(found.and_then(|(info, _)| routing::disturbed(context, &info, build_id, &input.expected)))
}

fn against(category: ErrorCategory, message: String) -> EvidenceOutcome {
    EvidenceOutcome {
        against: Some(StepFailure::new(category, message)),
        ..EvidenceOutcome::default()
    }
}

/// One look. What passes is looked at again later; a changed routing is an outcome.
async fn verdict(
    context: &Context,
    input: &EvidenceInput,
) -> std::result::Result<Option<Verdict>, Fault> {
    let seen = passing(look(context, input).await)?;
    Ok(seen.map(|evidence| judge_by(&evidence, &input.analysis)))
}

fn disturbance(fault: Fault) -> Result<EvidenceOutcome> {
    if fault.category == ErrorCategory::RoutingChanged {
        return Ok(against(fault.category, fault.message));
    }
    Err(fault)
}

/// Looks until something speaks against the version.
pub(crate) async fn watch(context: &Context, input: &EvidenceInput) -> Result<EvidenceOutcome> {
    loop {
        tokio::time::sleep(interval(&input.analysis)).await;
        match verdict(context, input).await {
            Ok(Some(Verdict::Against(message))) => {
                return Ok(against(ErrorCategory::AnalysisFailed, message));
            }
            Ok(_) => {}
            Err(fault) => return disturbance(fault),
        }
    }
}

/// Looks until there is evidence enough, and says what is missing meanwhile.
pub(crate) async fn judge(
    context: &Context,
    input: &EvidenceInput,
    occasion: &str,
) -> Result<EvidenceOutcome> {
    let mut said = None;
    loop {
        match verdict(context, input).await {
            Ok(Some(Verdict::Against(message))) => {
                return Ok(against(ErrorCategory::AnalysisFailed, message));
            }
            Ok(Some(Verdict::Enough(message))) => {
                return Ok(EvidenceOutcome {
                    against: None,
                    message,
                });
            }
            Ok(Some(Verdict::Inconclusive(tenths, message))) => {
                // At most ten times, whatever the interval: each is a signal in the lifecycle's history.
                if let Some(mut announce) = input.announce.clone()
                    && said < Some(tenths)
                {
                    announce.progress.message = message;
                    let occasion = format!("{occasion}/{tenths}");
                    lifecycle::announce(context, &input.key, &announce, &occasion).await;
                    said = Some(tenths);
                }
            }
            Ok(None) => {}
            Err(fault) => return disturbance(fault),
        }
        tokio::time::sleep(interval(&input.analysis)).await;
    }
}

fn interval(analysis: &Analysis) -> Duration {
    Duration::from_secs(
        u64::try_from(analysis.interval_seconds)
            .unwrap_or(30)
            .max(1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(completed: i64, failed: i64) -> Evidence {
        Evidence {
            closed: Closed { completed, failed },
            ..Evidence::default()
        }
    }

    fn analysis(min_workflows: i32, max_failure_percent: i32) -> Analysis {
        Analysis {
            min_workflows,
            max_failure_percent,
            ..Analysis::default()
        }
    }

    #[test]
    fn too_little_is_neither_good_nor_bad() {
        for (completed, least) in [(0, 1), (9, 10)] {
            let verdict = judge_by(&evidence(completed, 0), &analysis(least, 5));
            assert!(matches!(verdict, Verdict::Inconclusive(..)), "{verdict:?}");
        }
    }

    #[test]
    fn how_much_is_there_is_told_in_tenths_of_what_is_needed() {
        for least in [1, 3, 10, 25, 100_000] {
            let told: std::collections::BTreeSet<_> = (0..i64::from(least))
                .map(
                    |closed| match judge_by(&evidence(closed, 0), &analysis(least, 5)) {
                        Verdict::Inconclusive(tenths, _) => tenths,
                        verdict => panic!("{closed} of {least}: {verdict:?}"),
                    },
                )
                .collect();
            let most = usize::try_from(least.min(10)).unwrap();
            assert_eq!(told.len(), most, "{least}: {told:?}");
        }
    }

    #[test]
    fn a_share_of_failures_is_measured_against_what_is_asked_for() {
        for (completed, failed, least, most, expected) in [
            (10, 0, 10, 5, "enough"),
            (0, 0, 0, 5, "enough"),
            (95, 5, 10, 5, "enough"),
            (94, 6, 10, 5, "against"),
            // One of ten is too much, whatever the other nine do.
            (0, 1, 10, 5, "against"),
            // One of twenty is not, so the rest is waited for.
            (0, 1, 20, 5, "inconclusive"),
            (0, 5, 0, 100, "enough"),
            (0, 1, 0, 0, "against"),
        ] {
            let verdict = judge_by(&evidence(completed, failed), &analysis(least, most));
            let found = match verdict {
                Verdict::Against(_) => "against",
                Verdict::Inconclusive(..) => "inconclusive",
                Verdict::Enough(_) => "enough",
            };
            assert_eq!(found, expected, "{completed} {failed} {least} {most}");
        }
    }

    #[test]
    fn pods_and_workflow_tasks_speak_before_results() {
        let failing = Evidence {
            pods: Some(": pod p CrashLoopBackOff".into()),
            ..evidence(100, 0)
        };
        let verdict = judge_by(&failing, &analysis(0, 100));
        assert_eq!(
            verdict,
            Verdict::Against("its pods fail: pod p CrashLoopBackOff".into())
        );
        let stuck = Evidence {
            troubled: vec!["order-1".into()],
            ..evidence(100, 0)
        };
        let Verdict::Against(message) = judge_by(&stuck, &analysis(0, 100)) else {
            panic!("one is too many");
        };
        assert!(message.contains("order-1"), "{message}");
        let lenient = Analysis {
            max_task_failures: 1,
            ..analysis(0, 100)
        };
        assert!(matches!(judge_by(&stuck, &lenient), Verdict::Enough(_)));
    }
}
