//! Workflow code of the Process operator, and the pure decisions behind it.
//!
//! A stranger's map:
//!
//! * [`contract`]: every payload that crosses between watcher, workflows and activities.
//! * [`plan`]: the decisions, as pure functions over those payloads; no SDK in sight.
//! * [`lifecycle`], [`rollout`], [`drain`]: the workflows, which only wait, call and remember.
//!
//! This crate depends on no Kubernetes client, no async runtime and no Temporal client, so that
//! workflow code cannot do I/O by construction. State is kept in `BTreeMap`s and every payload is
//! additive (`#[serde(default)]`), so that histories written by an older release keep replaying.

pub mod address;
pub mod contract;
pub mod drain;
pub mod lifecycle;
pub mod plan;
pub mod rollout;

mod support;
mod underway;
