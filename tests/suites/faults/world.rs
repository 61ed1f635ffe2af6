//! A world with proxies in it: what the operator asks of Kubernetes and Temporal goes through them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use process_operator_crds::Process;
use process_operator_faultproxy::{
    KubeProxy, KubeProxyConfig, RequestMatch, TemporalProxy, TemporalProxyConfig,
};
use process_operator_harness::{Env, Invariants, Operator, OperatorOptions, manifest};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::observer::Observer;

/// Deadline of waits: two cores carry several worlds with an operator each.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// Nothing may happen for so long after a scenario.
pub(crate) const QUIET: Duration = Duration::from_secs(5);
/// Name of the Process that scenarios are about.
pub(crate) const NAME: &str = "l2o";

/// Worlds at once, over all tests of the suite: more only make each other slow.
static ROOM: Semaphore = Semaphore::const_new(4);

/// The operators of a world, one after the other; the last one may run.
#[derive(Default)]
pub(crate) struct Crew {
    all: Mutex<Vec<Arc<Operator>>>,
}

impl Crew {
    fn all(&self) -> Vec<Arc<Operator>> {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, operator: Operator) -> Arc<Operator> {
        let operator = Arc::new(operator);
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&operator));
        operator
    }

    /// SIGKILL for the one that runs.
    pub(crate) fn kill(&self) {
        if let Some(operator) = self.all().last() {
            operator.kill();
        }
    }
}

/// Proxies before the servers of a world.
async fn proxies(env: &Env) -> Result<(KubeProxy, TemporalProxy)> {
    let state = env.testbed.state();
    let ca = state
        .ca_file
        .as_ref()
        .context("the testbed's API server has a certificate")?;
    let kube = KubeProxyConfig::new(&state.apiserver_url, std::fs::read(ca)?);
    let temporal = TemporalProxyConfig::new(&env.temporal_address);
    Ok((
        KubeProxy::start(kube).await?,
        TemporalProxy::start(temporal).await?,
    ))
}

/// One of several operators, behind proxies of its own: what is done to one is not done to another.
pub(crate) struct Replica {
    pub(crate) operator: Arc<Operator>,
    pub(crate) kube: KubeProxy,
    pub(crate) temporal: TemporalProxy,
}

/// Namespaces, proxies and operators of one run of a scenario.
pub(crate) struct World {
    // Dropped in this order: the operators go before what they talk to.
    pub(crate) crew: Arc<Crew>,
    pub(crate) observer: Observer,
    pub(crate) kube: KubeProxy,
    pub(crate) temporal: TemporalProxy,
    pub(crate) env: Env,
    pub(crate) invariants: Invariants,
    _room: SemaphorePermit<'static>,
}

impl World {
    /// A world without an operator.
    pub(crate) async fn empty(name: &str) -> Result<Self> {
        let room = ROOM.acquire().await?;
        let env = Env::new(name).await?;
        let (kube, temporal) = proxies(&env).await?;
        Ok(Self {
            crew: Arc::default(),
            observer: Observer::start(&env, NAME),
            kube,
            temporal,
            invariants: Invariants::start(&env)?,
            env,
            _room: room,
        })
    }

    /// With an operator that is ready.
    pub(crate) async fn new(name: &str) -> Result<Self> {
        let world = Self::empty(name).await?;
        world.start(true).await?;
        Ok(world)
    }

    /// Starts an operator behind the proxies; with `ready`, waits until it says that it is.
    pub(crate) async fn start(&self, ready: bool) -> Result<()> {
        self.start_with(ready, &[]).await
    }

    /// The same, with arguments of its own.
    pub(crate) async fn start_with(&self, ready: bool, args: &[&str]) -> Result<()> {
        let options = OperatorOptions {
            unready: !ready,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..OperatorOptions::default()
        };
        self.start_as(options).await?;
        Ok(())
    }

    /// The same, as the options say.
    pub(crate) async fn start_as(&self, options: OperatorOptions) -> Result<Arc<Operator>> {
        let options = OperatorOptions {
            kube_server: Some(self.kube.url()),
            temporal_address: Some(self.temporal.addr().to_string()),
            ..options
        };
        Ok(self.crew.add(Operator::start(&self.env, options).await?))
    }

    /// Starts one of several replicas, once its proxies are prepared.
    pub(crate) async fn replica(
        &self,
        n: usize,
        prepare: impl FnOnce(&KubeProxy, &TemporalProxy),
    ) -> Result<Replica> {
        let (kube, temporal) = proxies(&self.env).await?;
        prepare(&kube, &temporal);
        let options = OperatorOptions {
            kube_server: Some(kube.url()),
            temporal_address: Some(temporal.addr().to_string()),
            instance: Some(format!("operator-{n}")),
            ..OperatorOptions::default()
        };
        Ok(Replica {
            operator: self.crew.add(Operator::start(&self.env, options).await?),
            kube,
            temporal,
        })
    }

    /// Creates the Process on v1, with values that may be told nowhere.
    pub(crate) async fn create(&self) -> Result<Process> {
        let mut wanted = manifest(&self.env, NAME, "v1");
        self.env.with_secrets(&mut wanted).await?;
        self.env.apply(&wanted).await
    }

    /// The operator that runs.
    pub(crate) fn operator(&self) -> Result<Arc<Operator>> {
        self.crew.all().pop().context("no operator was started")
    }

    /// What kills the operator from within a proxy.
    pub(crate) fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        let crew = Arc::clone(&self.crew);
        move || crew.kill()
    }

    /// The operator's writes in this world. Its Lease is left out: it is renewed by the clock.
    pub(crate) fn writes(&self) -> RequestMatch {
        RequestMatch::writes().namespace(&self.env.namespace)
    }

    /// The invariants of every scenario.
    pub(crate) async fn hold(&self) -> Result<()> {
        self.observer.hold()?;
        let operators = self.crew.all();
        let operators: Vec<&Operator> = operators.iter().map(AsRef::as_ref).collect();
        self.invariants.hold(&self.env, &operators, QUIET).await
    }

    /// The end of a scenario with a Process: nothing more happens, and it goes with everything that was
    /// made for it.
    pub(crate) async fn leave(self) -> Result<()> {
        self.observer.hold()?;
        let operators = self.crew.all();
        let operators: Vec<&Operator> = operators.iter().map(AsRef::as_ref).collect();
        self.invariants.leave(&self.env, &operators, NAME).await?;
        self.observer.hold()?;
        let Self { crew, env, .. } = self;
        crew.kill();
        env.remove().await
    }

    /// The end of every scenario that passed.
    pub(crate) async fn finish(self) -> Result<()> {
        self.hold().await?;
        let Self { crew, env, .. } = self;
        crew.kill();
        env.remove().await
    }

    /// Where to look when a scenario failed.
    pub(crate) fn traces(&self) -> String {
        let logs: Vec<String> = self
            .crew
            .all()
            .iter()
            .map(|operator| operator.log.display().to_string())
            .collect();
        format!("namespace {}, logs {}", self.env.namespace, logs.join(", "))
    }
}
