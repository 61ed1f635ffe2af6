//! `kubectl process`: what it shows of real rollouts and drains, what verbs do and answer, what it finds
//! wrong. Every test has its own namespaces and its own operator.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod credentials;
mod gather;
mod looking;
mod pipes;
mod rights;
mod state;
mod support;
mod tree;
mod verbs;
mod verify;
