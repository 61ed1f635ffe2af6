//! The scenario that faults are injected into: a Process is created, gets another image while a workflow is open on the
//! first version, is deleted; where all points are tried, it goes back to its first version before that. Each of the
//! phases ends with a world at rest, so that a fault in one is over before the next.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_faultproxy::{Rpc, RuleHandle, WriteReport};
use process_operator_harness::{
    complete, is_current, is_settled, json_payload, lifecycle_id, until,
};
use process_operator_workflows::contract::TYPE_LIFECYCLE;
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use tokio::sync::OnceCell;

use crate::drains::QUEUE;
use crate::picture::Picture;
use crate::points::Points;
use crate::world::{NAME, SOON, World};

/// Prefix of the workflow that is open on v1 in the roll.
const OPEN: &str = "open";

/// A part of a Process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Create,
    Roll,
    /// Only where all points are tried.
    Back,
    Delete,
}

impl Phase {
    pub(crate) const ALL: [Self; 4] = [Self::Create, Self::Roll, Self::Back, Self::Delete];

    /// The phases of a run.
    pub(crate) fn taken() -> impl Iterator<Item = Self> {
        let complete = complete();
        let all = Self::ALL.into_iter();
        all.filter(move |phase| complete || *phase != Self::Back)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Roll => "roll",
            Self::Back => "rollback",
            Self::Delete => "delete",
        })
    }
}

/// Installs the fault of a run in a phase.
pub(crate) type Arm = fn(&World, Phase, u64) -> RuleHandle;

/// One way through the scenario.
pub(crate) struct Passage {
    pub(crate) world: World,
    process: Option<Process>,
}

impl Passage {
    pub(crate) fn new(world: World) -> Self {
        world.env.guard_versions(NAME);
        Self {
            world,
            process: None,
        }
    }

    /// What a user does.
    async fn ask(&mut self, phase: Phase) -> Result<()> {
        let env = &self.world.env;
        match phase {
            Phase::Create => self.process = Some(self.world.create().await?),
            Phase::Roll => {
                env.open_crowd(QUEUE, OPEN, 1, false).await?;
                env.set_tag(NAME, "v2").await?;
            }
            Phase::Back => drop(env.set_tag(NAME, "v1").await?),
            Phase::Delete => {
                let api = env.api::<Process>();
                api.delete(NAME, &DeleteParams::default()).await?;
            }
        }
        Ok(())
    }

    async fn reached(&self, phase: Phase) -> Result<()> {
        match phase {
            Phase::Create | Phase::Back => at_rest(&self.world, "v1").await,
            Phase::Roll => {
                self.let_go().await?;
                at_rest(&self.world, "v2").await
            }
            Phase::Delete => gone(&self.world, self.process()?).await,
        }
    }

    /// Ends what is open on v1, once v2 takes what is new.
    async fn let_go(&self) -> Result<()> {
        let env = &self.world.env;
        env.wait_process(NAME, "v2 is current", SOON, |process| {
            is_current(process, "v2")
        })
        .await?;
        // It may have been told before, and be closed.
        let finish = vec![json_payload(&json!({}))];
        let id = format!("{OPEN}-0");
        let _ = env.temporal.signal(&env.apps, &id, "finish", finish).await;
        env.wait_crowd(OPEN, "Completed", 1, SOON).await
    }

    fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("created in the first phase")
    }

    /// A phase without a fault.
    pub(crate) async fn calm(&mut self, phase: Phase) -> Result<Picture> {
        self.ask(phase).await?;
        self.reached(phase).await?;
        Picture::take(&self.world, self.process()?).await
    }

    /// Looks at the end of a phase once more.
    pub(crate) async fn again(&self, phase: Phase) -> Result<Picture> {
        self.reached(phase).await?;
        Picture::take(&self.world, self.process()?).await
    }

    /// A phase in which the operator dies at the armed point, if the phase comes to it, and is
    /// started again at once. Tells what was hit.
    pub(crate) async fn killed(
        &mut self,
        phase: Phase,
        n: u64,
        arm: Arm,
    ) -> Result<(Option<String>, Picture)> {
        let rule = arm(&self.world, phase, n);
        self.ask(phase).await?;
        let hit = tokio::select! {
            done = self.reached(phase) => { done?; false }
            hit = rule.wait_done(1, SOON) => { hit?; true }
        };
        rule.remove();
        let hit = if hit {
            self.world.start(true).await?;
            self.reached(phase).await?;
            Some(what(&self.world, &rule))
        } else {
            None
        };
        Ok((hit, Picture::take(&self.world, self.process()?).await?))
    }
}

/// The request that a rule was applied to.
fn what(world: &World, rule: &RuleHandle) -> String {
    let kube = world.kube.records(..);
    let kube = kube.iter().find(|record| record.rule == Some(rule.id()));
    let temporal = world.temporal.records(..);
    let temporal = temporal
        .iter()
        .find(|record| record.rule == Some(rule.id()));
    let kube = kube.map(|record| {
        let request = &record.request;
        let sub = if request.subresource.is_empty() {
            ""
        } else {
            "/"
        };
        format!(
            "{} {}{sub}{}",
            request.verb, request.resource, request.subresource
        )
    });
    kube.or_else(|| temporal.map(|record| record.request.method.clone()))
        .unwrap_or_default()
}

/// Settled on a version, and no workflow has a task or child open: nothing more will be written,
/// Events that follow the status included.
pub(crate) async fn at_rest(world: &World, version: &str) -> Result<()> {
    at_rest_within(world, version, SOON).await
}

/// The same, after a fault that lasts.
pub(crate) async fn at_rest_within(world: &World, version: &str, within: Duration) -> Result<()> {
    let env = &world.env;
    until(
        &format!("settled on {version} and at rest"),
        within,
        async || {
            let process = env.api::<Process>().get(NAME).await?;
            ensure!(
                is_settled(&process, version),
                "status: {}",
                serde_json::to_string(&process.status)?
            );
            idle(world).await?;
            // What the last task wrote may be newer than the first look.
            let after = env.api::<Process>().get(NAME).await?;
            ensure!(
                after.metadata.resource_version == process.metadata.resource_version,
                "still changing"
            );
            Ok(())
        },
    )
    .await
}

/// Only lifecycles are open, and the last task of each is completed.
pub(crate) async fn idle(world: &World) -> Result<()> {
    let env = &world.env;
    for open in env
        .temporal
        .list(&env.control, "ExecutionStatus = 'Running'")
        .await?
    {
        let id = open
            .execution
            .map(|execution| execution.workflow_id)
            .unwrap_or_default();
        ensure!(id.starts_with("process/"), "{id} is open");
        let history = env.temporal.history(&env.control, &id).await?;
        let last = history
            .iter()
            .map(temporalio_common::protos::temporal::api::history::v1::HistoryEvent::event_type)
            .rfind(|kind| kind.as_str_name().contains("WORKFLOW_TASK"));
        ensure!(
            last == Some(EventType::WorkflowTaskCompleted),
            "{id} is at work: {last:?}"
        );
    }
    Ok(())
}

/// Gone with everything that was made for it: its lifecycle is closed and Temporal has no record.
pub(crate) async fn gone(world: &World, process: &Process) -> Result<()> {
    gone_within(world, process, SOON).await
}

/// The same, after a fault that lasts.
pub(crate) async fn gone_within(world: &World, process: &Process, within: Duration) -> Result<()> {
    let env = &world.env;
    until("the Process is gone", within, async || {
        ensure!(
            env.api::<Process>().get_opt(NAME).await?.is_none(),
            "still there"
        );
        let left = env.deployments(NAME).await?.len();
        ensure!(left == 0, "{left} Deployments left");
        Ok(())
    })
    .await?;
    env.temporal
        .wait_closed(&env.control, &lifecycle_id(process), SOON)
        .await?;
    let name = format!("{}/{NAME}", env.namespace);
    let record = env.temporal.worker_deployment(&env.apps, &name).await?;
    ensure!(record.is_none(), "records of {name} are left: {record:?}");
    Ok(())
}

/// What a run without faults does.
pub(crate) struct Reference {
    /// The operator's writes, by phase.
    pub(crate) writes: Vec<(Phase, WriteReport)>,
    /// Signals that the watcher sent, by phase.
    signals: Vec<(Phase, u64)>,
    pictures: Vec<(Phase, Picture)>,
}

impl Reference {
    /// The learning run, once for the whole suite.
    pub(crate) async fn get() -> Result<&'static Self> {
        static LEARNED: OnceCell<Reference> = OnceCell::const_new();
        LEARNED.get_or_try_init(Self::learn).await
    }

    async fn learn() -> Result<Self> {
        let started = Instant::now();
        let mut passage = Passage::new(World::new("learn").await?);
        let mut learned = Self {
            writes: Vec::new(),
            signals: Vec::new(),
            pictures: Vec::new(),
        };
        for phase in Phase::taken() {
            let world = &passage.world;
            let (mark, rpcs) = (world.kube.mark(), world.temporal.mark());
            learned.pictures.push((phase, passage.calm(phase).await?));
            if phase == Phase::Roll {
                passage.world.hold().await?;
            }
            let world = &passage.world;
            let mut report = world.kube.writes(mark..);
            report
                .writes
                .retain(|write| write.namespace == world.env.namespace);
            let signals = world
                .temporal
                .count(rpcs.., |record| tells_a_lifecycle(&record.request));
            learned.writes.push((phase, report));
            learned.signals.push((phase, signals as u64));
        }
        passage.world.finish().await?;
        learned.print(started.elapsed());
        Ok(learned)
    }

    fn print(&self, took: Duration) {
        let total: usize = self.writes.iter().map(|(_, report)| report.len()).sum();
        println!(
            "learning run: {total} writes without faults, {} s",
            took.as_secs()
        );
        for ((phase, report), (_, signals)) in self.writes.iter().zip(&self.signals) {
            println!("{phase}: {signals} signals, {report}");
        }
    }

    /// How many writes of each phase fulfil a condition.
    pub(crate) fn lengths(
        &self,
        wanted: impl Fn(&process_operator_faultproxy::WriteRecord) -> bool,
    ) -> Points {
        per_phase(&self.writes, |report| {
            report.writes.iter().filter(|write| wanted(write)).count() as u64
        })
    }

    /// How many signals the watcher sends in each phase.
    pub(crate) fn signals(&self) -> Points {
        per_phase(&self.signals, |count| *count)
    }

    /// Compares the end of a phase.
    pub(crate) fn check(&self, phase: Phase, picture: &Picture) -> Result<()> {
        let learned = self.pictures.iter().find(|(of, _)| *of == phase);
        let (_, learned) = learned.context("a phase that was learned")?;
        picture
            .same_as(learned)
            .with_context(|| format!("after {phase}"))
    }
}

/// The watcher starts a lifecycle, or signals one, starting it when it does not run.
pub(crate) fn tells_a_lifecycle(rpc: &Rpc) -> bool {
    let calls = ["StartWorkflowExecution", "SignalWithStartWorkflowExecution"];
    calls.contains(&rpc.method.as_str()) && rpc.mentions(TYPE_LIFECYCLE)
}

fn per_phase<T>(found: &[(Phase, T)], count: impl Fn(&T) -> u64) -> Points {
    Phase::ALL.map(|phase| {
        let of_phase = found.iter().filter(|(of, _)| *of == phase);
        of_phase.map(|(_, found)| count(found)).sum()
    })
}
