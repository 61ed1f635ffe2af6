//! Steps that nothing else depends on: their failure is told, and the rest is done all the same.

use process_operator_workflows::contract::{ActInput, ActOutcome, Step, StepFailure};

/// What has failed so far, and which Events were recorded.
#[derive(Default)]
pub(super) struct Aside {
    cron_jobs: Option<StepFailure>,
    /// One could not be recorded: the others wait with it.
    no_events: bool,
    recorded: Vec<String>,
}

impl Aside {
    /// Takes the failure of a step that nothing else depends on.
    pub(super) fn takes(&mut self, step: &Step, failure: &StepFailure) -> bool {
        match step {
            Step::ApplyCronJob { .. } | Step::DeleteCronJob { .. } => {
                match &mut self.cron_jobs {
                    None => self.cron_jobs = Some(failure.clone()),
                    Some(first) => {
                        first.message.push_str("; ");
                        first.message.push_str(&failure.message);
                    }
                }
                true
            }
            Step::Event { .. } => {
                self.no_events = true;
                true
            }
            _ => false,
        }
    }

    /// Whether a step is left: a status that does not tell what has failed, and Events that wait.
    pub(super) fn leaves(&self, step: &Step) -> bool {
        match step {
            Step::PublishStatus { .. } => self.cron_jobs.is_some(),
            Step::Event { .. } => self.no_events,
            _ => false,
        }
    }

    pub(super) fn done(&mut self, step: &Step) {
        self.recorded.extend(step.event());
    }

    /// Adds it to the outcome.
    pub(super) fn told(self, input: &ActInput, outcome: ActOutcome) -> ActOutcome {
        let events = input.steps.iter().filter_map(Step::event);
        let unrecorded = events.filter(|id| !self.recorded.contains(id)).collect();
        ActOutcome {
            aside: self.cron_jobs,
            unrecorded: Some(unrecorded),
            ..outcome
        }
    }
}

#[cfg(test)]
mod tests {
    use process_operator_crds::ErrorCategory;
    use process_operator_workflows::contract::{EventType, StatusView};

    use super::*;

    fn job(name: &str) -> Step {
        Step::DeleteCronJob {
            name: name.into(),
            uid: "c".into(),
        }
    }

    fn event(id: &str) -> Step {
        Step::Event {
            id: id.into(),
            kind: EventType::Normal,
            reason: "VersionCurrent".into(),
            action: "Route".into(),
            note: "v2".into(),
            build_id: String::new(),
        }
    }

    fn status() -> Step {
        Step::PublishStatus {
            status: Box::new(StatusView::default()),
        }
    }

    fn failure(message: &str) -> StepFailure {
        StepFailure::new(ErrorCategory::InvalidSpec, message)
    }

    #[test]
    fn cron_jobs_that_fail_are_told_together_and_the_status_waits_for_that() {
        let mut aside = Aside::default();
        assert!(!aside.leaves(&status()));
        assert!(aside.takes(&job("a"), &failure("first")));
        assert!(aside.takes(&job("b"), &failure("second")));
        assert!(!aside.takes(&status(), &failure("another")));
        assert!(aside.leaves(&status()) && !aside.leaves(&job("c")) && !aside.leaves(&event("e")));
        let outcome = aside.told(&ActInput::default(), ActOutcome::default());
        assert_eq!(outcome.aside, Some(failure("first; second")));
    }

    #[test]
    fn events_that_are_not_recorded_are_named_and_hold_nothing_up() {
        let steps = ["e1", "e2", "e3"].map(event).to_vec();
        let input = ActInput {
            steps,
            ..ActInput::default()
        };
        let mut aside = Aside::default();
        aside.done(&input.steps[0]);
        assert!(aside.takes(&input.steps[1], &failure("no")));
        assert!(aside.leaves(&input.steps[2]));
        assert!(!aside.leaves(&status()) && !aside.leaves(&Step::RemoveFinalizer));
        let outcome = aside.told(&input, ActOutcome::default());
        assert_eq!(outcome.unrecorded, Some(vec!["e2".into(), "e3".into()]));
        assert_eq!((outcome.aside, outcome.failure), (None, None));
    }
}
