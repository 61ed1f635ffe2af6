//! The proxies between real sockets: each rule is proven by what the client and the server see.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests are tests too"
)]

mod kube_faults;
mod kube_frozen;
mod kube_record;
mod kube_watch;
mod lifecycle;
mod support;
mod temporal;
