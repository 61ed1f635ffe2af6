//! The life of a Process through crashes, meddling and outages, on a real cluster and a real
//! Temporal server. Every test has its own namespaces and its own operator.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod blocked;
mod byhand;
mod certificates;
mod crash;
mod deletion;
mod drift;
mod failing;
mod first;
mod key;
mod kstatus;
mod logs;
mod metrics;
mod outage;
mod pings;
mod pods;
mod profile;
mod queues;
mod restored;
mod settled;
mod signals;
mod support;
mod tags;
mod twice;
