//! What a lifecycle remembers, also across continue-as-new.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use process_operator_crds::ErrorCategory;
use serde::{Deserialize, Serialize};

use super::rollout::is_default;
use super::{
    Changed, ChildKind, DrainPolicy, DrainProgress, DrainStage, LastRequest, Pace, Progress, Stage,
    Step, StepFailure,
};

/// Memory of a lifecycle. All of it can be rebuilt from the world: a lifecycle terminated by hand
/// starts again with an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    /// The rollout in flight.
    pub rollout: Option<Rollout>,
    /// The target version, when its rollout failed.
    pub failed: Option<FailedVersion>,
    /// Retirements in flight, by build id.
    pub drains: BTreeMap<String, Drain>,
    /// The current version.
    pub current: Option<CurrentVersion>,
    /// The build id asked for, and since when.
    pub target: Option<(String, Timestamp)>,
    /// Field-set hash of each Deployment at our last apply, by name.
    pub applied: BTreeMap<String, String>,
    /// Children started so far; makes their ids unique.
    pub children: u32,
    /// How often each Event was told by this run; makes their ids unique, together with the run's.
    #[serde(skip)]
    pub events: BTreeMap<String, u32>,
    /// Transitions, oldest first, at most [`State::HISTORY`].
    pub history: Vec<Transition>,
    /// The failure that is being retried, and how often it was tried.
    pub trouble: Option<(StepFailure, u32)>,
    /// Signals of a kind that this release does not know, kept for a newer one.
    pub unknown: Vec<Changed>,
    /// Open children of an earlier lifecycle were looked for.
    pub adopted: bool,
    /// Digest last written to the memo.
    pub digest: String,
    /// Phase and build id last written to the search attributes.
    pub indexed: (String, String),
    /// Hash of the status last published, and the mark of the live status after it.
    pub published: Option<(String, String)>,
    /// Temporal namespace and Worker Deployment were used, so records may need cleaning.
    pub temporal_namespace: String,
    /// An earlier version is back by request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
    /// The last request by annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_request: Option<LastRequest>,
    /// Ids of requests by annotation that were handled, oldest first, at most [`State::REQUESTS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub handled: Vec<String>,
    /// What stands above all verbs, as last seen; verbs are judged by it.
    #[serde(skip_serializing_if = "Standing::is_plain")]
    pub standing: Standing,
    /// Routing is to be taken back from somebody else, by request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
    /// The deletion under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<super::DeletionState>,
    /// An Event has told what is wrong with the pods of the version that serves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub told_trouble: bool,
    /// Reason for which nothing new is deployed, as an Event has told it; empty while nothing stands
    /// against it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub told_block: String,
    /// When versions got new work after they had lost their traffic, by build id, where the drain that told so is gone:
    /// the next one counts from then.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resumed: BTreeMap<String, Timestamp>,
    /// Versions whose rollout by gates and steps has begun and never came to its end. The server may have seen one as
    /// Current for a moment, before that was taken back: it has not served all the same.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unproven: BTreeSet<String>,
    /// How often the spec has changed lately.
    #[serde(skip_serializing_if = "is_default")]
    pub pace: Pace,
    /// A restart that was asked for and is not done yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Events that are not recorded yet, oldest first, at most [`State::UNTOLD`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Step>,
}

/// Pods of one version are to be restarted. One that is tried again is the same one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Restart {
    /// Build id of the version that was current then.
    pub build_id: String,
    /// When it was asked for.
    pub at: Timestamp,
}

/// What of the Process stands above verbs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Standing {
    /// `spec.suspend`.
    pub suspended: bool,
    /// `spec.rollout.paused`.
    pub paused: bool,
    /// Who else manages the Worker Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// Each version has a task queue of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_queues: bool,
    /// [`super::Settings::rules`].
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub rules: u32,
}

impl Standing {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// An earlier version that serves in place of the spec's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Undone {
    /// The spec's version, which is not wanted.
    pub from: String,
    /// The version in its place.
    pub to: String,
    /// On whose behalf and why.
    pub why: String,
}

/// What people read in the conditions, and what a lifecycle without memory reads there.
impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, why } = self;
        write!(f, "{to}{SERVES}{from}, {why}{UNTIL}")
    }
}

const SERVES: &str = " serves in place of the spec's ";
const UNTIL: &str = "; change the spec, or request `retry`";

impl Undone {
    /// From the text that people read; `None` when it is another one.
    pub fn from_text(text: &str) -> Option<Self> {
        let (to, rest) = text.split_once(SERVES)?;
        let (from, rest) = rest.split_once(", ")?;
        Some(Self {
            from: from.to_owned(),
            to: to.to_owned(),
            why: rest.strip_suffix(UNTIL)?.to_owned(),
        })
    }
}

impl State {
    /// How many transitions are kept.
    pub const HISTORY: usize = 10;
    /// How many undecodable or unknown signals are kept.
    pub const UNKNOWN: usize = 20;
    /// How many ids of handled requests are kept.
    pub const REQUESTS: usize = 20;
    /// How many Events are kept until they are recorded; of more, the oldest are dropped.
    pub const UNTOLD: usize = 50;

    /// Whoever refused the last look or step asked not to be asked again for a while.
    pub fn must_wait(&self) -> bool {
        let failure = self.trouble.as_ref().map(|(failure, _)| failure);
        failure.is_some_and(|failure| failure.retry_after_seconds.is_some())
    }

    /// Ids of the children in flight.
    pub fn children(&self) -> impl Iterator<Item = (String, ChildKind)> + '_ {
        let rollout = self
            .rollout
            .iter()
            .map(|rollout| (rollout.id.clone(), ChildKind::Rollout));
        rollout.chain(
            self.drains
                .values()
                .map(|drain| (drain.id.clone(), ChildKind::Drain)),
        )
    }

    /// Forgets a child.
    pub fn forget(&mut self, id: &str) {
        self.rollout = self.rollout.take().filter(|rollout| rollout.id != id);
        let drain = self.drains.iter().find(|(_, drain)| drain.id == id);
        if let Some(build_id) = drain.map(|(build_id, _)| build_id.clone()) {
            self.drop_drain(&build_id);
        }
    }

    /// Forgets the drain of a version, but for what its deadline is counted from.
    pub fn drop_drain(&mut self, build_id: &str) -> Option<Drain> {
        let drain = self.drains.remove(build_id)?;
        if drain.since() > drain.since {
            self.resumed.insert(build_id.to_owned(), drain.since());
        }
        Some(drain)
    }

    /// An id for the next Event about something. Made of what a repeated workflow task knows too,
    /// never of a clock, nor of a place among others: a task that is done again after a crash may
    /// find more to tell, and must tell the same again under the same ids.
    pub fn event_id(&mut self, uid: &str, run_id: &str, about: &str) -> String {
        let told = self.events.entry(about.to_owned()).or_default();
        *told += 1;
        format!("{uid}/{run_id}/{about}/{told}")
    }

    /// Keeps Events until they are recorded.
    pub fn owe(&mut self, events: impl IntoIterator<Item = Step>) {
        self.untold.extend(events);
        let excess = self.untold.len().saturating_sub(Self::UNTOLD);
        self.untold.drain(..excess);
    }

    /// These Events were recorded, but for some; all of them, as far as an operator knows that did not say.
    pub fn told(&mut self, events: &[String], unrecorded: Option<&[String]>) {
        let left = unrecorded.unwrap_or_default();
        self.untold.retain(|step| {
            step.event()
                .is_some_and(|id| !events.contains(&id) || left.contains(&id))
        });
    }

    /// Appends to the history, dropping the oldest entry when full.
    pub fn record(&mut self, transition: Transition) {
        self.history.push(transition);
        let excess = self.history.len().saturating_sub(Self::HISTORY);
        self.history.drain(..excess);
    }
}

/// A rollout in flight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact"
)]
pub struct Rollout {
    /// Workflow id of the child.
    pub id: String,
    /// The version it brings live.
    pub build_id: String,
    /// When it began.
    pub since: Timestamp,
    /// When its workers must serve.
    pub deadline: Timestamp,
    /// It was told to stop.
    pub cancelled: bool,
    /// How many steps it has.
    #[serde(skip_serializing_if = "is_default")]
    pub steps: u32,
    /// How far it has come, as far as it has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Who paused it and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// It was told to pause.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub told_paused: bool,
    /// The progress that history and Events have told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noted: Option<Progress>,
    /// What it told since, oldest first, at most [`Rollout::UNNOTED`]: a lifecycle that was away for
    /// a while hears of several steps at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unnoted: Vec<Progress>,
    /// It takes the routing back from somebody else, by request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
    /// That its version is current has been told, by a look that came before its report.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub told_current: bool,
    /// It shares new executions with what serves, or waits beside it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shares: bool,
}

impl Rollout {
    /// It looks at the routing before each change, and holds when that is somebody else's.
    pub fn holds(&self) -> bool {
        let by_hand = |progress: &Progress| progress.stage == Stage::WaitingForPromotion;
        // What a lifecycle without memory has found under way tells by itself what it is.
        self.shares || self.steps > 0 || self.progress.as_ref().is_some_and(by_hand)
    }

    /// How many reports are kept until they are told; of more, the oldest are dropped.
    pub const UNNOTED: usize = 20;

    /// Takes over what the rollout tells. To a lifecycle that has found it under way it also tells
    /// what was known before.
    pub fn take_in(&mut self, progress: Progress) {
        if self.steps == 0 {
            self.steps = progress.steps;
        }
        if self.progress.is_none() && progress.paused && !self.told_paused {
            self.told_paused = true;
            self.paused = Some("since before this run of the lifecycle".into());
        }
        self.unnoted.push(progress.clone());
        let excess = self.unnoted.len().saturating_sub(Self::UNNOTED);
        self.unnoted.drain(..excess);
        self.progress = Some(progress);
    }
}

/// A retirement in flight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Drain {
    /// Workflow id of the child.
    pub id: String,
    /// Deployment of the version.
    pub deployment_name: String,
    /// Image of the version.
    pub image: String,
    /// When the version stopped taking new workflows, as far as the server told; otherwise when the
    /// retirement began.
    pub since: Timestamp,
    /// It was told to stop.
    pub cancelled: bool,
    /// The policy that it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<DrainPolicy>,
    /// How far it has come, as far as it has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<DrainProgress>,
    /// Number of the message that told it.
    #[serde(skip_serializing_if = "is_default")]
    pub heard: u32,
}

impl Drain {
    /// Workflows may still need the version's pods.
    pub fn is_draining(&self) -> bool {
        self.progress
            .as_ref()
            .is_none_or(DrainProgress::is_draining)
    }

    /// It has said that nothing needs the version's pods any more.
    pub fn has_stopped(&self) -> bool {
        self.progress
            .as_ref()
            .is_some_and(DrainProgress::has_stopped)
    }

    /// It has said that workflows need the version's pods.
    pub fn is_held(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| {
            progress.stage == DrainStage::Waiting && progress.open != Some(0)
        })
    }

    /// When the version stopped taking new workflows, as far as is known.
    pub fn since(&self) -> Timestamp {
        self.progress
            .as_ref()
            .map_or(self.since, |progress| progress.since)
    }
}

/// The version that new executions go to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CurrentVersion {
    /// Build id.
    pub build_id: String,
    /// Since when.
    pub since: Timestamp,
}

/// A target version whose rollout failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedVersion {
    /// Build id.
    pub build_id: String,
    /// Why.
    pub category: ErrorCategory,
    /// For people.
    pub message: String,
    /// Its Deployment was available at that time: becoming available again is no news.
    #[serde(default)]
    pub available: bool,
}

/// One line of `status.history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Transition {
    /// When.
    pub time: Timestamp,
    /// What happened; also the reason of the Event.
    pub what: String,
    /// The version it is about.
    pub build_id: String,
    /// Why, for people.
    pub reason: String,
    /// Who asked; `process-operator` when nobody did.
    pub actor: String,
}
