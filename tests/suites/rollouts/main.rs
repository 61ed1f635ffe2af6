//! How a new version takes over: canaries, gates, evidence, verbs. Real workflows run throughout, on
//! a real cluster and a real Temporal server.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod away;
mod canary;
mod changes;
mod crash;
mod failing;
mod gates;
mod lost;
mod meddling;
mod modes;
mod queues;
mod rate;
mod recorded;
mod requests;
mod stages;
mod stages_cut;
mod stages_short;
mod steps;
mod support;
mod timeouts;
mod verbs;
