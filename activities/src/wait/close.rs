//! Ends what a Process that is being deleted still runs.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{
    CloseBy, CloseRunsInput, CloseRunsOutcome, DeletionProgress, StepFailure,
};

use super::{Pace, left};
use crate::context::Context;
use crate::error::{Fault, Result};
use crate::temporal::open::{self, Whose};
use crate::temporal::policy::{self, EndAction};
use crate::temporal::{describe, foreign_manager, lifecycle, routing, schedules, visibility};

/// The index is behind: nothing is open when it says so twice, so far apart.
const TWICE: Duration = Duration::from_secs(1);
/// How often pausing schedules is tried before it is left: it must not keep a Process for ever.
const TRIES: u32 = 5;
/// What a worker would have taken by now, were there one.
const UNTAKEN: SignedDuration = SignedDuration::from_secs(5);

/// One deletion at work.
struct Work<'a> {
    context: &'a Context,
    input: &'a CloseRunsInput,
    whose: Whose,
    progress: DeletionProgress,
    told: DeletionProgress,
    /// How often pausing schedules may still be tried; 0 when it is done or given up.
    pausing: u32,
    /// The ramp is taken back.
    unramped: bool,
    /// What was started before has been asked to end.
    asked: Option<Timestamp>,
}

pub(crate) async fn close(context: &Context, input: &CloseRunsInput) -> Result<CloseRunsOutcome> {
    let progress = DeletionProgress {
        stage: input.stage,
        ..DeletionProgress::default()
    };
    let mut work = Work {
        context,
        input,
        whose: Whose::new(&input.key, &input.task_queue, &input.queues),
        told: progress.clone(),
        progress,
        pausing: if input.pause_schedules { TRIES } else { 0 },
        unramped: false,
        asked: None,
    };
    let most = Duration::from_secs(if input.end.is_some() { 5 } else { 15 });
    let mut pace = Pace::new(Duration::from_secs(1), most);
    let mut nothing = 0;
    loop {
        match work.look().await {
            Ok(Looked::Managed(by)) => {
                return Ok(CloseRunsOutcome {
                    managed_by: Some(by),
                    ..work.outcome()
                });
            }
            Ok(Looked::Open) => nothing = 0,
            Ok(Looked::Nothing) => nothing += 1,
            Err(fault) if fault.category == ErrorCategory::NamespaceNotFound => {
                return Ok(CloseRunsOutcome {
                    closed: true,
                    namespace_gone: true,
                    ..work.outcome()
                });
            }
            Err(fault) => work.trouble(fault)?,
        }
        let left = input.until.map(left);
        let over = left == Some(Duration::ZERO);
        if work.pausing == 0 && (nothing > 1 || nothing == 1 && over) {
            return Ok(CloseRunsOutcome {
                closed: true,
                ..work.outcome()
            });
        }
        if over {
            return Ok(work.outcome());
        }
        if nothing == 0 {
            work.tell().await;
        }
        let rest = if nothing == 1 { TWICE } else { pace.next() };
        tokio::time::sleep(rest.min(left.unwrap_or(Duration::MAX))).await;
    }
}

/// When the deletion began, as exactly as it is known: Kubernetes leaves out the part of the second, and who was
/// there at once saw it within that second. What was started before is not late.
fn began(input: &CloseRunsInput) -> Timestamp {
    let latest = input.since.saturating_add(SignedDuration::from_secs(1));
    let latest = latest.unwrap_or(input.since);
    input
        .began
        .map_or(latest, |began| began.clamp(input.since, latest))
}

/// What one look has shown.
enum Looked {
    Nothing,
    Open,
    /// Somebody else manages the Worker Deployment.
    Managed(String),
}

impl Work<'_> {
    fn namespace(&self) -> &str {
        &self.input.temporal_namespace
    }

    fn outcome(&self) -> CloseRunsOutcome {
        CloseRunsOutcome {
            progress: self.progress.clone(),
            ..CloseRunsOutcome::default()
        }
    }

    /// What passes is waited out, and told.
    fn trouble(&mut self, fault: Fault) -> Result<()> {
        if !fault.category.retryable() {
            return Err(fault);
        }
        tracing::info!(category = fault.category.metric_label(), "{fault}; waiting");
        self.progress.trouble = Some(self.context.count(fault).into());
        Ok(())
    }

    /// Tells the lifecycle what is new.
    async fn tell(&mut self) {
        if self.progress != self.told {
            lifecycle::tell(self.context, &self.input.key, &self.progress).await;
            self.told = self.progress.clone();
        }
    }

    async fn look(&mut self) -> Result<Looked> {
        self.pause().await?;
        let open = open::count(self.context, self.namespace(), &self.whose).await?;
        let changed = self.progress.open != Some(open);
        self.progress.open = Some(open);
        if open == 0 {
            self.progress.trouble = None;
            self.progress.late = 0;
            self.progress.oldest = None;
            self.progress.sample = Vec::new();
            return Ok(Looked::Nothing);
        }
        let mut refused = None;
        // What is due is done before anything else is looked at.
        if let Some(end) = self.input.end {
            if let Some(manager) = self.managed_elsewhere().await? {
                return Ok(Looked::Managed(manager));
            }
            refused = self.end(end).await?;
        } else {
            self.unramp().await?;
        }
        if changed {
            self.read_more().await?;
        }
        if self.pausing == 0 {
            self.progress.trouble = refused;
        }
        Ok(Looked::Open)
    }

    /// What is more than a number.
    async fn read_more(&mut self) -> Result<()> {
        let query = self.whose.query();
        // A run in which an older one has gone on counts too: the index of the server (1.32) does not
        // know the first run of a chain.
        let late = format!("{query} AND StartTime > '{}'", began(self.input));
        let (late, found) = tokio::try_join!(
            visibility::count(self.context, self.namespace(), &late),
            policy::survey(self.context, self.namespace(), &query),
        )?;
        self.progress.oldest = found.oldest;
        self.progress.late = late;
        self.progress.sample = found.sample;
        Ok(())
    }

    /// Pauses schedules. What stands against it is told, and does not hold the rest up.
    async fn pause(&mut self) -> Result<()> {
        if self.pausing == 0 {
            return Ok(());
        }
        let (key, queues) = (&self.input.key, &self.whose.queues);
        match schedules::pause(self.context, self.namespace(), key, queues).await {
            Ok(paused) => {
                self.progress.paused = paused;
                self.progress.trouble = None;
                self.pausing = 0;
            }
            Err(fault) if fault.category == ErrorCategory::NamespaceNotFound => return Err(fault),
            Err(fault) => {
                self.pausing -= 1;
                let fault = fault.about("pausing schedules");
                self.progress.trouble = Some(self.context.count(fault).into());
            }
        }
        Ok(())
    }

    /// Takes the share of a version that was being rolled out back, if the rollout has not.
    async fn unramp(&mut self) -> Result<()> {
        if !self.unramped {
            routing::unramp(self.context, self.namespace(), &self.input.key).await?;
            self.unramped = true;
        }
        Ok(())
    }

    /// Who else manages the Worker Deployment: what runs on it is not ours to end then.
    async fn managed_elsewhere(&self) -> Result<Option<String>> {
        let deployment = self.input.key.worker_deployment();
        let found = describe(self.context, self.namespace(), &deployment).await?;
        Ok(found.and_then(|(info, _)| foreign_manager(self.context, &info.manager_identity)))
    }

    /// Ends what is open. What refuses is told.
    async fn end(&mut self, how: CloseBy) -> Result<Option<StepFailure>> {
        let (context, key) = (self.context, &self.input.key);
        let identity = context.manager_identity(&key.uid);
        let reason = format!(
            "Process {}/{} is deleted, spec.deletion.onTimeout",
            key.namespace, key.name
        );
        let now = Timestamp::now();
        if how == CloseBy::Cancel && self.asked.is_some() {
            let before = now.checked_sub(UNTAKEN).unwrap_or(now);
            let why = (reason.as_str(), identity.as_str());
            let namespace = self.namespace();
            let ended =
                open::terminate_untaken(context, namespace, &self.whose, why, before).await?;
            self.progress.acted += ended;
        }
        let mut query = self.whose.query();
        let action = match how {
            CloseBy::Terminate => EndAction::Terminate,
            CloseBy::Cancel => {
                // Once is enough for each; what was started since has not been asked yet.
                if let Some(asked) = self.asked {
                    query = policy::started_since(&query, asked);
                }
                EndAction::Cancel
            }
        };
        let ended = policy::end_executions(
            context,
            self.namespace(),
            &query,
            action,
            &reason,
            &identity,
        )
        .await?;
        // Later ones are told as late starts.
        if how == CloseBy::Terminate || self.asked.is_none() {
            self.progress.acted += ended.acted;
        }
        self.asked = Some(now);
        Ok((ended.refused > 0).then(|| {
            StepFailure::new(
                ErrorCategory::Conflict,
                format!("{} refuse: {}", ended.refused, ended.why),
            )
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_began_when_it_was_seen_within_the_second_that_kubernetes_tells() {
        let at = |time: &str| time.parse::<Timestamp>().expect("a time");
        let since = at("2026-11-29T21:43:47Z");
        let of = |seen: Option<&str>| {
            began(&CloseRunsInput {
                since,
                began: seen.map(at),
                ..CloseRunsInput::default()
            })
        };
        let within = "2026-11-29T21:43:47.6Z";
        assert_eq!(of(Some(within)), at(within));
        let latest = at("2026-11-29T21:43:48Z");
        assert_eq!(of(Some("2026-11-29T21:50:00Z")), latest, "it was away");
        assert_eq!(of(None), latest);
        assert_eq!(of(Some("2026-11-29T21:43:40Z")), since, "clocks differ");
    }
}
