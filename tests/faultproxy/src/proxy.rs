//! What both proxies have in common.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::action::Action;
use crate::front::Front;
use crate::journal::{Journal, Mark, Record};
use crate::matcher::Matcher;
use crate::rules::{RuleHandle, RuleSet};

/// A protocol that a proxy understands: [`Kube`](crate::Kube) or [`Temporal`](crate::Temporal).
pub trait Protocol: Send + Sync + 'static {
    /// A request as it is recorded and matched.
    type Request: fmt::Debug + Send + Sync + 'static;
    /// An answer that the proxy can make up.
    type Answer: Clone + fmt::Debug + Send + Sync + 'static;
}

/// A proxy between one client and one server. Records every request and disturbs those that a
/// rule names. Dropping it cuts every connection; [`Proxy::stop`] lets answers finish first.
pub struct Proxy<P: Protocol> {
    pub(crate) front: Front,
    pub(crate) core: Arc<Core<P>>,
    pub(crate) protocol: Arc<P>,
}

/// The part of a proxy that its connections share.
pub(crate) struct Core<P: Protocol> {
    pub(crate) journal: Arc<Journal<P::Request>>,
    pub(crate) rules: RuleSet<P::Request, Action<P::Answer>>,
}

impl<P: Protocol> Core<P> {
    pub(crate) fn new() -> Self {
        Self {
            journal: Arc::new(Journal::new()),
            rules: RuleSet::new(),
        }
    }
}

impl<P: Protocol> Proxy<P> {
    /// The address clients connect to; the first one if there are several.
    pub fn addr(&self) -> SocketAddr {
        self.front.addrs()[0]
    }

    /// All addresses clients can connect to.
    pub fn addrs(&self) -> &[SocketAddr] {
        self.front.addrs()
    }

    /// The URL clients connect to.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Installs a rule. Of several that apply to a request, the one installed first decides.
    pub fn rule(&self, matcher: Matcher<P::Request>, action: Action<P::Answer>) -> RuleHandle {
        self.core.rules.add(matcher, action)
    }

    /// The position after the last request so far.
    pub fn mark(&self) -> Mark {
        self.core.journal.mark()
    }

    /// The requests in a window, such as `..`, `mark..` or `from..to`.
    pub fn records(&self, window: impl RangeBounds<Mark>) -> Vec<Record<P::Request>> {
        self.core.journal.select(&window, |_| true)
    }

    /// How many requests of a window fulfil a condition.
    pub fn count(
        &self,
        window: impl RangeBounds<Mark>,
        wanted: impl FnMut(&Record<P::Request>) -> bool,
    ) -> usize {
        self.core.journal.select(&window, wanted).len()
    }

    /// Counts all requests by a key.
    pub fn requests_by<K: Ord>(&self, key: impl Fn(&Record<P::Request>) -> K) -> BTreeMap<K, u64> {
        self.requests_by_in(.., key)
    }

    /// Counts the requests of a window by a key.
    pub fn requests_by_in<K: Ord>(
        &self,
        window: impl RangeBounds<Mark>,
        key: impl Fn(&Record<P::Request>) -> K,
    ) -> BTreeMap<K, u64> {
        self.core.journal.count_by(&window, key)
    }

    /// Waits for a request, past or to come, that fulfils a condition; a condition on the
    /// [outcome](Record::outcome) waits for that too. The error tells the last requests.
    pub async fn wait_for(
        &self,
        wanted: impl Fn(&Record<P::Request>) -> bool,
        within: Duration,
    ) -> Result<Record<P::Request>> {
        self.core.journal.wait_for(Mark(0), wanted, within).await
    }

    /// [`Proxy::wait_for`], looking only at requests after the mark.
    pub async fn wait_for_since(
        &self,
        since: Mark,
        wanted: impl Fn(&Record<P::Request>) -> bool,
        within: Duration,
    ) -> Result<Record<P::Request>> {
        self.core.journal.wait_for(since, wanted, within).await
    }

    /// Makes the server look gone: every connection is cut, and once this returns new ones are
    /// refused. The port stays reserved.
    pub async fn down(&self) {
        self.front.down().await;
    }

    /// Accepts connections again, on the same port.
    pub async fn up(&self) -> Result<()> {
        self.front.up().await
    }

    /// Ends the proxy: open watches end as the server would end them, answers under way get a
    /// second to finish, what is then left is cut.
    pub async fn stop(self) {
        self.front.stop().await;
    }
}

impl<P: Protocol> fmt::Debug for Proxy<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("addrs", &self.front.addrs())
            .field("rules", &self.core.rules)
            .finish_non_exhaustive()
    }
}
