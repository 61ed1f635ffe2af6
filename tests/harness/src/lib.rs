//! What a test, the demo and the benchmark need on a running testbed: a Kubernetes namespace and
//! Temporal namespaces of their own, an operator that looks after nothing else, waits for conditions
//! with a deadline, and the invariants that hold after every scenario.

mod again;
mod authority;
mod browser;
mod cli;
mod crowd;
mod deployments;
mod details;
mod ending;
mod env;
mod foreign;
mod front;
mod guard;
mod invariants;
mod leave;
mod look;
mod operator;
mod owners;
mod polls;
mod process;
mod prometheus;
mod recorded;
mod runs;
mod scene;
mod secrets;
mod temporal;
mod traffic;
mod ui;
mod verbs;
mod wait;
mod work;

pub use authority::{Authority, Issued};
pub use browser::Browser;
pub use cli::{Cli, Said, said};
pub use ending::PodGuard;
pub use env::Env;
pub use foreign::{Foreign, ForeignAccount};
pub use front::{TlsFront, takes_only};
pub use invariants::Invariants;
pub use look::lifecycle_id;
pub use operator::{Operator, OperatorOptions};
pub use process::{condition, is_current, is_settled, manifest};
pub use prometheus::Prometheus;
pub use scene::{QUIET, Scene, version};
pub use temporal::{Temporal, counts, json_payload, timers_fired, written_at};
pub use traffic::{Answers, Traffic};
pub use ui::{Tab, TemporalUi};
pub use wait::{complete, until};

use std::time::Duration;

/// Deadline of waits that take a moment on an idle machine: generous, since two cores carry a
/// cluster, a Temporal server and several tests at once.
pub const SOON: Duration = Duration::from_secs(90);
