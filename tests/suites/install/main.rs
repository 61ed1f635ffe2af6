//! The charts: what they render, and the operator that they install, as pods. Every release has
//! namespaces of its own and looks after one namespace only, so all run side by side. The one that looks after all
//! namespaces is a suite of its own, `everywhere.rs`.

#![allow(
    clippy::large_futures,
    reason = "each test is one task of its own, on the heap"
)]

mod admission;
mod api_key;
mod argocd;
mod connection;
mod image;
mod later;
mod monitoring;
mod network;
mod readme;
mod release;
mod render;
mod rights;
mod support;
mod upgrade;
mod values;
