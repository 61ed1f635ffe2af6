//! How Processes go: with workflows open, by each policy and each kind of deletion, in the middle of
//! everything else, with parts of the world missing. On a real cluster and a real Temporal server.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod away;
mod cascade;
mod dependents;
mod many;
mod midway;
mod modes;
mod policies;
mod recorded;
mod schedules;
mod support;
mod waiting;
