//! The proxies between real sockets: each rule is proven by what the client and the server see.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of this crate is a test"
)]

mod kube_faults;
mod kube_frozen;
mod kube_record;
mod kube_rewrite;
mod kube_watch;
mod lifecycle;
mod support;
mod temporal;
