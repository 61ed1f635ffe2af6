//! What people see and do in the Temporal UI: a real Chromium on the testbed's real Temporal UI, in front
//! of real rollouts and drains.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod force;
mod pages;
mod support;
mod views;
