//! What the log lines of an activity have in common. The span around it is the worker's, who knows the workflow; which
//! Process it is about only the activity knows. Names and numbers only: nothing of a spec belongs here.

use process_operator_workflows::contract::ProcessKey;
use tracing::Span;

/// The Process that the present activity is about.
pub(crate) fn about(key: &ProcessKey) {
    Span::current()
        .record("namespace", key.namespace.as_str())
        .record("process", key.name.as_str());
}

/// The generation of it that is looked at or acted for.
pub(crate) fn generation(generation: i64) {
    Span::current().record("generation", generation);
}
