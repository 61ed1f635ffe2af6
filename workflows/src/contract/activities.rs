//! Typed names of the activities. They are implemented in crate `process-operator-activities`;
//! here are only their names and payloads, so that workflow code cannot reach an implementation.

use jiff::Timestamp;
use process_operator_crds::ErrorCategory;
use serde::{Deserialize, Serialize};
use temporalio_workflow::common::ActivityDefinition;

use process_operator_crds::spec::{Analysis, Versioning};

use super::drain_works::{
    CountOpenInput, CountOpenOutcome, EndOpenInput, EndOpenOutcome, KeepDrainedInput,
    KeepDrainedOutcome, RetireInput, RetireOutcome, StopVersionInput, StopVersionOutcome,
    WaitDrainedInput, WaitDrainedOutcome,
};
use super::{
    ActOutcome, CloseRunsInput, CloseRunsOutcome, DrainTold, LateStarts, Observation, ProcessKey,
    RolloutProgress, Step, StepFailure,
};

macro_rules! activity {
    ($(#[$doc:meta])* $marker:ident, $name:literal, $input:ty => $output:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $marker;

        impl ActivityDefinition for $marker {
            type Input = $input;
            type Output = $output;

            fn name(&self) -> &'static str {
                $name
            }
        }
    };
}

activity!(
    /// Reads everything a decision needs. Local: reads are not worth history events.
    Observe, "observe", ObserveInput => Observation
);
activity!(
    /// Carries out a list of steps on Kubernetes. Local.
    Act, "act", ActInput => ActOutcome
);
activity!(
    /// Waits until a version's pods are ready and poll on its task queue. Heartbeats.
    WaitServing, "wait-serving", WaitServingInput => WaitServingOutcome
);
activity!(
    /// Makes a version Current.
    SetCurrent, "set-current", SetCurrentInput => ()
);
activity!(
    /// Sets or takes back the share of new executions that a version takes, and waits until all
    /// task queues know it. Heartbeats.
    SetWeight, "set-weight", SetWeightInput => SetWeightOutcome
);
activity!(
    /// Runs a gate workflow to its end. Heartbeats.
    RunGate, "run-gate", GateInput => GateOutcome
);
activity!(
    /// Watches the executions and pods of a version until something speaks against it. Heartbeats.
    WatchEvidence, "watch-evidence", EvidenceInput => EvidenceOutcome
);
activity!(
    /// Waits until enough executions of a version have closed. Heartbeats.
    Judge, "judge", EvidenceInput => EvidenceOutcome
);
activity!(
    /// Waits until the server reports a version drained. Heartbeats.
    WaitDrained, "wait-drained", WaitDrainedInput => WaitDrainedOutcome
);
activity!(
    /// Counts the workflows that hold a version, before something is done to them.
    CountOpen, "count-open", CountOpenInput => CountOpenOutcome
);
activity!(
    /// Ends the workflows that hold a version, or moves them, until none is left. Heartbeats.
    EndOpen, "end-open", EndOpenInput => EndOpenOutcome
);
activity!(
    /// Waits until a drained version has work again, or some time has passed. Heartbeats.
    KeepDrained, "keep-drained", KeepDrainedInput => KeepDrainedOutcome
);
activity!(
    /// Stops the pods of a drained version.
    StopVersion, "stop-version", StopVersionInput => StopVersionOutcome
);
activity!(
    /// Deletes a retired version's Deployment, ControllerRevision and server record. Heartbeats.
    RetireVersion, "retire-version", RetireInput => RetireOutcome
);
activity!(
    /// Tells a lifecycle how far a child of it has come. Local: a signal of the child's would cost it a workflow
    /// task.
    Tell, "tell", TellInput => ()
);
activity!(
    /// Ends what a Process that is being deleted still runs: pauses schedules, then waits until no
    /// workflow is open, and ends what is when it is told to. Heartbeats.
    CloseRuns, "close-runs", CloseRunsInput => CloseRunsOutcome
);
activity!(
    /// Cleans the server's records of a deleted Process. Heartbeats.
    CleanRecords, "clean-records", CleanRecordsInput => CleanRecordsOutcome
);

/// Input of [`Observe`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObserveInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Also look for open children of an earlier lifecycle.
    pub adopt: bool,
    /// How often what came before this has failed without a break.
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub tries: u32,
    /// What the Deployment of a new Process depends on is enough; see [`Observation::first`].
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub first: bool,
    /// Other new Processes that have no Deployment yet go first.
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub behind: bool,
}

/// Input of [`Act`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ActInput {
    /// Which Process.
    pub key: ProcessKey,
    /// The generation that the steps were planned for.
    pub generation: i64,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// When the workflow task began in which that was decided, by the server's clock. `None` from an
    /// operator that did not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Timestamp>,
    /// How often what came before this has failed without a break.
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub tries: u32,
    /// Nothing was made for this Process before.
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub first: bool,
}

/// Input of [`Tell`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TellInput {
    /// Whose lifecycle.
    pub key: ProcessKey,
    /// How far a drain has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainTold>,
}

/// Names of one version in both worlds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WaitServingInput {
    /// Which Process.
    pub key: ProcessKey,
    /// The version.
    pub build_id: String,
    /// Its Deployment.
    pub deployment_name: String,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// Their task queue.
    pub task_queue: String,
    /// When to give up.
    pub deadline: Timestamp,
    /// The version that serves, whose task queues the new one must poll too. Empty: none does.
    /// `None`, from an operator that did not look: only [`Self::task_queue`] counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// What keeps versions apart.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
    /// What the lifecycle is told, with what keeps pods from being ready put in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce: Option<RolloutProgress>,
}

/// Outcome of [`WaitServing`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WaitServingOutcome {
    /// The version serves its queue.
    pub serving: bool,
    /// Workers that do not say their version poll that queue too, and none that do were there before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub beside_unversioned: bool,
    /// Why it does not, when it does not.
    pub category: Option<ErrorCategory>,
    /// For people.
    pub message: String,
}

/// Input of [`SetCurrent`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SetCurrentInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The version to route to.
    pub build_id: String,
    /// Task queue of the workers; empty from an operator that did not wait for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task_queue: String,
    /// What the routing must be; otherwise somebody else has changed it. `None`: whatever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// Take the Worker Deployment over, whoever manages it: somebody has decided so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
    /// What keeps versions apart.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
    /// Seconds in which pods must become ready, where a change of routing is a change of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_within: Option<i64>,
    /// Told to the lifecycle, with the reason put in, when the server does not let the change through for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<RolloutProgress>,
}

/// The routing as a rollout left it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Expected {
    /// Build id of the Current version; empty when there is none.
    pub current: String,
    /// Percentage that the version of the rollout takes; 0 before it takes any.
    pub weight: i32,
    /// Further percentages that are as good: those of other steps, for a watch that spans them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub or: Vec<i32>,
}

/// Input of [`SetWeight`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SetWeightInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The version.
    pub build_id: String,
    /// Task queue of the workers.
    pub task_queue: String,
    /// Percentage of new executions; 0 takes it back, when the version still has some.
    pub percent: i32,
    /// See [`SetCurrentInput::expected`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// Take the Worker Deployment over, whoever manages it: somebody has decided so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
    /// Told to the lifecycle when it is done, with the time filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce: Option<RolloutProgress>,
    /// Seconds of the pause that begins then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_seconds: Option<i64>,
    /// What keeps versions apart.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
    /// See [`SetCurrentInput::ready_within`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_within: Option<i64>,
    /// With [`Self::percent`] 0: what becomes Current again where the version is that; empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_to: Option<String>,
    /// With a share: what is made Current before that, where something else is; empty: none. Somebody has decided to
    /// take the routing back. `None`: whatever is Current stays that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Told to the lifecycle, with the reason put in, when the server does not let the change through for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<RolloutProgress>,
}

/// Outcome of [`SetWeight`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SetWeightOutcome {
    /// When all task queues knew it.
    pub at: Timestamp,
}

/// Input of [`RunGate`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GateInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// Their task queue.
    pub task_queue: String,
    /// The version that the workflow is pinned to.
    pub build_id: String,
    /// Workflow id of the gate.
    pub workflow_id: String,
    /// Workflow type.
    pub workflow_type: String,
    /// Seconds it may take.
    pub timeout_seconds: i64,
    /// Whose `input` it is given: 0 for `rollout.gate`, otherwise the step.
    pub step: u32,
    /// Weight of that step, which a spec that was changed meanwhile may not have there any more. 0: before any
    /// step, or from an operator that did not look.
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub weight: i32,
    /// What keeps versions apart.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
}

/// Outcome of [`RunGate`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GateOutcome {
    /// It completed.
    pub passed: bool,
    /// How it ended, for people.
    pub message: String,
}

/// Input of [`WatchEvidence`] and [`Judge`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EvidenceInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The version.
    pub build_id: String,
    /// Its Deployment.
    pub deployment_name: String,
    /// Its task queue.
    pub task_queue: String,
    /// Since when the version takes executions.
    pub since: Timestamp,
    /// What is asked of them.
    pub analysis: Analysis,
    /// The routing while they are watched.
    pub expected: Expected,
    /// Told to the lifecycle with what is missing, while the evidence is inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce: Option<RolloutProgress>,
    /// What keeps versions apart.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
}

/// Outcome of [`WatchEvidence`] and [`Judge`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EvidenceOutcome {
    /// What speaks against the version, or against going on.
    pub against: Option<StepFailure>,
    /// The evidence in words.
    pub message: String,
}

/// Input of [`CleanRecords`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CleanRecordsInput {
    /// The Process that is gone.
    pub key: ProcessKey,
    /// Temporal namespace of its workers.
    pub temporal_namespace: String,
    /// Workflows that were started while it went. `None` from an operator that did not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<LateStarts>,
}

/// Outcome of [`CleanRecords`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CleanRecordsOutcome {
    /// Version records deleted.
    pub deleted: Vec<String>,
    /// Version records left, with the reason (abandoned runs, a successor).
    pub left: std::collections::BTreeMap<String, String>,
    /// A successor of the same name has claimed the Worker Deployment.
    pub claimed: bool,
    /// Workflows started while the Process went: terminated, or left open without workers.
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub late: u64,
}
