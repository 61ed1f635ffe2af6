//! Suites on a real cluster and a real Temporal server. Every test has its own namespaces and its own
//! operator, so all run side by side.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod admission;
mod bounds;
mod cron_jobs;
mod cron_jobs_rolling;
mod definition;
mod dependencies;
mod eventing;
mod languages;
mod recorded;
mod registry;
mod rolling;
mod scope;
mod told;
