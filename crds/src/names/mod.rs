//! Every name that the operator derives.
//!
//! All of it is frozen by golden tests: objects, workflows and versions of running systems carry
//! these names, so a change here is a migration, never a clean-up.
//!
//! | what | form |
//! |---|---|
//! | version hash | 8 hex digits over the user's input ([`version_hash`]) |
//! | build id | `<tag or digest, cleaned>-<hash>`, at most 63 characters |
//! | Deployment, ControllerRevision | `<process>-<hash>` |
//! | with `versioning: None`: Deployments | `<process>`, `<process>-canary` |
//! | with `versioning: TaskQueuePerVersion`: task queue | `<taskQueue>-<hash>` |
//! | with both: ConfigMap | `<process>-routing` |
//! | ConfigMap with a version's definition | `<process>-<hash>-definition` |
//! | CronJob | `<process>-<name>` |
//! | Worker Deployment in Temporal | `<namespace>/<process>` |
//! | lifecycle workflow | `process/<namespace>/<process>/<uid>` |
//! | rollout workflow | `rollout/<namespace>/<process>/<uid>/<build id>/<attempt>` |
//! | drain workflow | `drain/<namespace>/<process>/<uid>/<build id>/<n>` |
//! | Lease of operators | `process-operator-temporal-<Temporal namespace, cleaned>` |
//! | manager identity in Temporal | `process-operator/<cluster uid>/<process uid>` |

mod ids;
mod keys;
mod version;

pub use ids::{IdError, ManagerIdentity, ProcessKey, WorkflowId};
pub use keys::{
    annotation, canary_name, cron_job_name, definition_name, env, fetched_name, finalizer, label,
    lease_name, manager, port, queue, routing_name, selector, sentinel_name, track, track_selector,
    volume,
};
pub use version::{
    BuildId, Version, VersionHash, child_name, tag_may_move, task_queue, version_hash,
    version_input,
};

/// Longest `metadata.name` of a Process; a CEL rule of the CRD says the same.
pub const MAX_PROCESS_NAME: usize = 40;

/// Longest build id. It is the value of a label.
pub const MAX_BUILD_ID: usize = 63;
