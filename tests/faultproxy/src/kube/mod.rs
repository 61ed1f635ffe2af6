//! The proxy before kube-apiserver.

mod answer;
mod exchange;
mod frozen;
mod matching;
mod request;
mod rewrite;
mod selector;
mod upstream;
mod watch;
mod writes;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use self::answer::Answer;
pub use self::frozen::Snapshot;
pub use self::matching::{EventMatch, RequestMatch};
pub(crate) use self::request::stores_nothing;
pub use self::request::{KubeRequest, Verb};
pub use self::watch::{EventType, WatchAction, WatchEnd, WatchEvent};
pub use self::writes::{WriteKind, WriteRecord, WriteReport};

use self::exchange::serve_request;
use self::frozen::Freezer;
use self::rewrite::Rewriter;
use self::upstream::Upstream;
use self::watch::Watches;
use crate::front::{Conn, Front, Io, Serve};
use crate::journal::Mark;
use crate::proxy::{Core, Protocol, Proxy};
use crate::rules::RuleHandle;

/// A proxy before kube-apiserver: plain HTTP/1.1 in, HTTPS out. The client's `Authorization`
/// header is passed on, so the proxy needs and has no rights of its own.
pub type KubeProxy = Proxy<Kube>;

/// The protocol of kube-apiserver.
pub struct Kube {
    upstream: Upstream,
    watches: Arc<Watches>,
    freezer: Arc<Freezer>,
    rewriter: Arc<Rewriter>,
}

impl Protocol for Kube {
    type Request = KubeRequest;
    type Answer = Answer;
}

/// Where a [`KubeProxy`] stands.
#[derive(Clone, Debug)]
pub struct KubeProxyConfig {
    server: String,
    ca_pem: Vec<u8>,
    listen: Vec<SocketAddr>,
}

impl KubeProxyConfig {
    /// In front of this server (`https://host:port`), whose certificate this CA signed, on a
    /// free port of 127.0.0.1.
    pub fn new(server: &str, ca_pem: impl Into<Vec<u8>>) -> Self {
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        Self {
            server: server.to_owned(),
            ca_pem: ca_pem.into(),
            listen,
        }
    }

    /// On these addresses instead; port 0 means a free one.
    #[must_use]
    pub fn listen(mut self, addrs: &[SocketAddr]) -> Self {
        self.listen = addrs.to_vec();
        self
    }
}

impl Proxy<Kube> {
    /// Starts listening.
    pub async fn start(config: KubeProxyConfig) -> Result<Self> {
        ensure!(
            !config.listen.is_empty(),
            "a proxy needs an address to listen on"
        );
        let core = Arc::new(Core::<Kube>::new());
        let kube = Arc::new(Kube {
            upstream: Upstream::new(&config.server, &config.ca_pem)?,
            watches: Arc::new(Watches::new()),
            freezer: Arc::default(),
            rewriter: Arc::default(),
        });
        let serve: Serve = {
            let (kube, core) = (Arc::clone(&kube), Arc::clone(&core));
            Arc::new(move |io, conn| {
                serve_connection(Arc::clone(&kube), Arc::clone(&core), io, conn).boxed()
            })
        };
        let front = Front::start(&config.listen, CancellationToken::new(), serve).await?;
        Ok(Self {
            front,
            core,
            protocol: kube,
        })
    }

    /// Installs a rule about single events inside watch streams, those already open included.
    pub fn watch_rule(&self, matcher: EventMatch, action: WatchAction) -> RuleHandle {
        self.protocol.watches.rules.add(matcher, action)
    }

    /// Removes all rules, about requests and about watch events. What is frozen stays frozen.
    pub fn clear_rules(&self) {
        self.core.rules.clear();
        self.protocol.watches.rules.clear();
    }

    /// The watches that are open at present.
    pub fn open_watches(&self) -> Vec<Arc<KubeRequest>> {
        self.protocol.watches.requests()
    }

    /// Ends the open watches that fulfil the matcher's conditions, and says how many.
    pub fn end_watches(&self, which: &RequestMatch, how: WatchEnd) -> usize {
        self.protocol.watches.end(which, how)
    }

    /// How many reads and how many writes ([`KubeRequest::is_write`]) a window saw.
    pub fn reads_and_writes(&self, window: impl RangeBounds<Mark>) -> (usize, usize) {
        let records = self.records(window);
        let writes = records
            .iter()
            .filter(|record| record.request.is_write())
            .count();
        (records.len() - writes, writes)
    }

    /// The writes of a window.
    pub fn writes(&self, window: impl RangeBounds<Mark>) -> WriteReport {
        WriteReport::new(
            &self
                .core
                .journal
                .select(&window, |record| record.request.is_write()),
        )
    }

    /// All objects of a resource, given as `deployments` or `deployments.apps`, as they are now.
    ///
    /// Asks the server with the rights of the client that was seen last, for the whole cluster
    /// or, if that is forbidden, for the namespaces in which the resource was asked for.
    pub async fn snapshot(&self, resource: &str) -> Result<Snapshot> {
        let seen = self
            .core
            .journal
            .select(&(..), |record| record.request.is_about(resource));
        let request = &seen
            .last()
            .with_context(|| format!("{resource} was never asked for: make the Snapshot by hand"))?
            .request;
        let base = match request.group.as_str() {
            "" => format!("/api/{}", request.version),
            group => format!("/apis/{group}/{}", request.version),
        };
        let plural = &request.resource;
        let (mut code, all) = self
            .protocol
            .upstream
            .read(&format!("{base}/{plural}"))
            .await?;
        let mut lists = vec![all];
        if code == 403 {
            let namespaces: BTreeSet<_> = seen
                .iter()
                .map(|record| record.request.namespace.as_str())
                .filter(|namespace| !namespace.is_empty())
                .collect();
            let mut scoped = Vec::new();
            for namespace in namespaces {
                let path = format!("{base}/namespaces/{namespace}/{plural}");
                let (scoped_code, list) = self.protocol.upstream.read(&path).await?;
                code = scoped_code;
                if scoped_code != 200 {
                    scoped = vec![list];
                    break;
                }
                scoped.push(list);
            }
            if !scoped.is_empty() {
                lists = scoped;
            }
        }
        let told = |lists: &[Value]| lists.first().map_or_else(String::new, Value::to_string);
        ensure!(code == 200, "listing {resource}: {code} {}", told(&lists));
        Snapshot::read(plural, &request.group, &lists)
            .with_context(|| format!("listing {resource}: no list: {}", told(&lists)))
    }

    /// Freezes a resource as it is now ([`KubeProxy::snapshot`], then [`KubeProxy::freeze_at`]).
    /// Gives the number of objects in the view.
    pub async fn freeze(&self, resource: &str) -> Result<usize> {
        let snapshot = self.snapshot(resource).await?;
        let objects = snapshot.objects().len();
        self.freeze_at(snapshot);
        Ok(objects)
    }

    /// Serves this view of a resource from now on, as a server that lags behind would: gets and
    /// lists are answered from it, watches are open and silent, writes pass.
    pub fn freeze_at(&self, snapshot: Snapshot) {
        self.protocol.freezer.freeze(snapshot);
    }

    /// Lets a resource, given as `deployments` or `deployments.apps`, be seen as it is again.
    /// Watches that were silent catch up with what happened meanwhile.
    pub fn thaw(&self, resource: &str) {
        self.protocol.freezer.thaw(resource);
    }

    /// Shows the objects of a resource, given as `deployments` or `deployments.apps`, otherwise than they
    /// are stored, in answers and in watches, until [`KubeProxy::show_as_stored`].
    pub fn rewrite(&self, resource: &str, change: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.protocol.rewriter.add(resource, Arc::new(change));
    }

    /// Shows a resource as it is stored again. Watches tell only what happens from then on.
    pub fn show_as_stored(&self, resource: &str) {
        self.protocol.rewriter.remove(resource);
    }

    /// Ends every disturbance: rules are removed, frozen resources thawed, all is shown as it is stored, the
    /// proxy is up.
    pub async fn heal(&self) -> Result<()> {
        self.clear_rules();
        self.protocol.freezer.thaw_all();
        self.protocol.rewriter.clear();
        self.up().await
    }
}

async fn serve_connection(kube: Arc<Kube>, core: Arc<Core<Kube>>, io: Io, conn: Conn) {
    let service = service_fn(|request| {
        serve_request(Arc::clone(&kube), Arc::clone(&core), conn.clone(), request)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // An error means that the client went away or that a rule ended the connection.
        _ = connection.as_mut() => {}
        () = conn.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
