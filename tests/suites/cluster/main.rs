//! Suites on a real cluster and a real Temporal server. Every test has its own namespaces and its own
//! operator, so all run side by side.

mod admission;
mod recorded;
mod rolling;
