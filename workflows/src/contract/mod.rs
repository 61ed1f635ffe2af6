//! Payloads and names shared by the watcher, the workflows and the activities.
//!
//! Everything here ends up in workflow histories that live for weeks: fields are only ever added,
//! always with a default, and nothing here may carry a value of a Secret or of an env variable.

mod activities;
mod carried;
mod deletion;
mod drain;
mod drain_works;
mod observation;
mod pace;
mod requests;
mod rollout;
mod settings;
mod signals;
mod state;
mod steps;

pub use activities::{
    Act, ActInput, CleanRecords, CleanRecordsInput, CleanRecordsOutcome, CloseRuns, CountOpen,
    EndOpen, EvidenceInput, EvidenceOutcome, Expected, GateInput, GateOutcome, Judge, KeepDrained,
    Observe, ObserveInput, RetireVersion, RunGate, SetCurrent, SetCurrentInput, SetWeight,
    SetWeightInput, SetWeightOutcome, StopVersion, Tell, TellInput, WaitDrained, WaitServing,
    WaitServingInput, WaitServingOutcome, WatchEvidence,
};
pub use carried::{Carried, LifecycleInput};
pub use deletion::{
    CloseBy, CloseRunsInput, CloseRunsOutcome, DeletionProgress, DeletionStage, DeletionState,
    DeletionView, LateStarts, open_on,
};
pub use drain::{
    DrainMemory, DrainNote, DrainPolicy, DrainProgress, DrainStage, DrainTold, EndAction, Ending,
    Force, after,
};
pub use drain_works::{
    CountOpenInput, CountOpenOutcome, EndOpenInput, EndOpenOutcome, KeepDrainedInput,
    KeepDrainedOutcome, Known, RetireInput, RetireOutcome, StopVersionInput, StopVersionOutcome,
    WaitDrainedInput, WaitDrainedOutcome,
};
pub use observation::{
    CronJobView, Decided, DefinitionFailure, DefinitionView, DependenciesView, DeploymentView,
    KeptApart, Observation, ProcessView, Routing, RoutingState, VersionState, VersionView,
};
pub use pace::Pace;
pub use requests::{Annotation, Answer, LastRequest, Request, Verb, VerbArgs};
pub use rollout::{Order, Progress, RolloutOrder, RolloutPolicy, RolloutProgress, Stage};
pub use settings::Settings;
pub use signals::{ChangeKind, Changed, ChildFinished, ChildKind, ChildOutcome};
pub use state::{
    CurrentVersion, Drain, FailedVersion, Restart, Rollout, Standing, State, Transition, Undone,
};
pub use steps::{ActOutcome, EventType, RolloutView, StatusView, Step, StepFailure, VersionStatus};

pub use process_operator_crds::names::ProcessKey;
pub use process_operator_crds::names::queue::{
    MAIN as QUEUE_MAIN, ROUTING as QUEUE_ROUTING, WAITS as QUEUE_WAITS,
};

/// Workflow type of the lifecycle of one Process.
pub const TYPE_LIFECYCLE: &str = "ProcessLifecycle";
/// Workflow types of its children.
pub const TYPES_CHILDREN: [&str; 2] = ["ProcessRollout", "ProcessDrain"];

/// Signal that tells a lifecycle that something it looks at may have changed.
pub const SIGNAL_CHANGED: &str = "changed";

/// Signal by which a rollout tells its lifecycle how far it has come.
pub const SIGNAL_PROGRESS: &str = "progress";

/// Signal by which a drain tells its lifecycle how far it has come.
pub const SIGNAL_DRAIN_PROGRESS: &str = "drain-progress";

/// Signal by which a deletion tells its lifecycle how far it has come.
pub const SIGNAL_DELETION: &str = "deletion";

/// Memo key of the digest that the sweep compares; see [`crate::plan::digest`].
pub const MEMO_DIGEST: &str = "processOperatorDigest";

/// Search attribute: `metadata.name` of the Process.
pub const SA_NAME: &str = "ProcessName";
/// Search attribute: `metadata.namespace` of the Process.
pub const SA_NAMESPACE: &str = "ProcessKubernetesNamespace";
/// Search attribute: one word for where the Process stands, for lists in the Temporal UI.
pub const SA_PHASE: &str = "ProcessPhase";
/// Search attribute: the build id a workflow is about.
pub const SA_BUILD_ID: &str = "ProcessBuildId";
