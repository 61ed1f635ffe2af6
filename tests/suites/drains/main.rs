//! How an old version ends: deadlines and their policies, orders of people, what comes after. Real
//! workflows run on real workers, on a real cluster and a real Temporal server.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod after;
mod deadline;
mod force;
mod histories;
mod many;
mod modes;
mod policies;
mod recorded;
mod sixty_days;
mod support;
