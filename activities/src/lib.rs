//! Activities: every effect the operator has on the outside, and every look it takes.
//!
//! One file per effect. Pure builders of the owned objects are in [`build`]; errors are given their
//! category in [`error`], once. Activities are idempotent: each may run again after a crash between
//! its effect and the record of it.

pub mod authorship;
pub mod build;
pub mod cache;
pub mod context;
pub mod definition;
pub mod dependencies;
pub mod dependents;
pub mod error;
pub mod events;
pub mod registry;
pub mod temporal;
pub mod watched;

mod act;
mod activities;
mod apply;
mod budget;
mod clock;
mod cron_jobs;
mod hindered;
mod logged;
pub mod newcomers;
mod observe;
mod pods;
mod remove;
pub mod routes;
mod sent;
mod shared;
mod shift;
mod status;
mod wait;

pub use activities::OperatorActivities;
pub use clock::DrainClock;
pub use context::{Context, Meter, WorkerDefaults};
