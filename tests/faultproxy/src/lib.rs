//! Fault injection for tests of the operator: proxies that it talks through.
//!
//! * [`KubeProxy`] stands before kube-apiserver, [`TemporalProxy`] before a Temporal frontend.
//!   Both record every request and what became of it, and do to chosen ones what a rule says:
//!   kill the operator before the server sees a request or after it has committed, answer
//!   errors, reset, hang, delay, cut. A server can be taken away and brought back.
//! * [`KubeProxy`] knows more: single watch events can be dropped or delayed, open watches ended,
//!   and a resource frozen, so that the operator sees the past.
//! * [`audit`] reads kube-apiserver's audit log, the proof that nothing was written.
//!
//! ```no_run
//! # async fn example(ca: Vec<u8>, kill: fn()) -> anyhow::Result<()> {
//! use std::time::Duration;
//! use process_operator_faultproxy::{Action, KubeProxy, KubeProxyConfig, RequestMatch};
//!
//! let proxy = KubeProxy::start(KubeProxyConfig::new("https://127.0.0.1:6443", ca)).await?;
//! // ... start the operator with proxy.url() as its API server, learn how many writes there are:
//! let learned = proxy.writes(..);
//! println!("{learned}");
//! for n in 1..=learned.len() as u64 {
//!     let killed = proxy.rule(RequestMatch::writes().nth(n), Action::kill_after(kill));
//!     // ... start the operator again, apply a change, and then:
//!     killed.wait_done(1, Duration::from_secs(60)).await?;
//!     proxy.clear_rules();
//!     // ... start the operator and check the invariants.
//! }
//! # Ok(())
//! # }
//! ```

mod action;
pub mod audit;
mod body;
mod front;
mod journal;
mod kube;
mod matcher;
mod proxy;
mod rules;
mod temporal;

pub use action::{Action, Hook};
pub use journal::{Mark, Outcome, Record};
pub use kube::{
    Answer, EventMatch, EventType, Kube, KubeProxy, KubeProxyConfig, KubeRequest, RequestMatch,
    Snapshot, Verb, WatchAction, WatchEnd, WatchEvent, WriteKind, WriteRecord, WriteReport,
};
pub use matcher::Matcher;
pub use proxy::{Protocol, Proxy};
pub use rules::{RuleHandle, RuleId};
pub use temporal::{
    GrpcCode, GrpcError, Rpc, RpcMatch, Temporal, TemporalProxy, TemporalProxyConfig,
};
