//! The operator among faults: it is killed at every point, lied to, refused, and left alone, and in
//! the end the world is as if nothing had been.
//!
//! Every world has its own namespaces, its own proxies before kube-apiserver and Temporal, and its
//! own operator. `FAULTS=complete` tries every injection point, `FAULT_POINT=n` a single one. Ignored
//! tests belong to the complete run: `cargo xtask test --faults` has both.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod answers;
mod apiserver_away;
mod by_hand;
mod canary;
mod carried;
mod claimed;
mod credentials;
mod crowd;
mod drains;
mod ending;
mod evicted;
mod first;
mod hostile;
mod kill_points;
mod late;
mod limits;
mod lost;
mod many;
mod midway;
mod misfit;
mod mute;
mod no_definition;
mod observer;
mod overtaken;
mod picture;
mod points;
mod policies;
mod property;
mod queue_drains;
mod recorded;
mod records;
mod references;
mod refusals;
mod restarts;
mod revoked;
mod rights;
mod scenario;
mod signals;
mod split;
mod status;
mod temporal_away;
mod turns;
mod two_operators;
mod unanswered;
mod unfit;
mod unwritten;
mod views;
mod world;
