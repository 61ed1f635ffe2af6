//! The `ameide.io/v1` API of the Process operator.
//!
//! Everything that more than one part of the operator must agree on lives here and is pure: no
//! client, no clock, no I/O.
//!
//! * [`Process`], [`ProcessSpec`], [`ProcessStatus`]: the custom resource. Doc comments of these
//!   types are what `kubectl explain` prints, so they are written for users.
//! * [`crd`]: the CustomResourceDefinition that is committed as `crds/processes.ameide.io.yaml`.
//! * [`conditions`] and [`reason`]: condition types and reasons, and how conditions are merged.
//! * [`category`]: kinds of errors, each with one reason, one Event reason, one metric label.
//! * [`names`]: every name, label, annotation and id that the operator derives.
//! * [`convert`]: from the allow-listed worker fields to Kubernetes' own types.
//! * [`generated`] and [`docs`]: the files that are generated from all of this.

#![allow(
    clippy::doc_markdown,
    reason = "users read these comments in kubectl explain, where ConfigMap and Deployment are words"
)]

pub mod cases;
pub mod category;
pub mod conditions;
pub mod convert;
pub mod crd;
pub mod docs;
pub mod generated;
pub mod names;
pub mod reason;
mod schema;
pub mod spec;
pub mod status;

pub use category::ErrorCategory;
pub use conditions::{ConditionStatus, ConditionType, merge_conditions};
pub use reason::Reason;
pub use spec::{Process, ProcessSpec};
pub use status::ProcessStatus;

/// API group of all kinds of this operator.
pub const GROUP: &str = "ameide.io";

/// API version of [`Process`].
pub const VERSION: &str = "v1";
