//! The life of a Process through crashes, meddling and outages, on a real cluster and a real
//! Temporal server. Every test has its own namespaces and its own operator.

mod crash;
mod drift;
mod support;
