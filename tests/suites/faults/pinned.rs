//! I3 and I4: what runs on a version ends there, whatever happens to the operator meanwhile. Only then its pods go, and
//! only then a Process that is being deleted.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use process_operator_crds::Process;
use process_operator_harness::{PodGuard, condition, is_current, until};
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;

use crate::scenario::Phase;
use crate::world::{NAME, SOON, World};

/// The task queue of the Process of a scenario.
const QUEUE: &str = "l2o-tq";

/// A workflow that stays open on a version until the operator waits for it, and a guard over the pods meanwhile.
pub(crate) struct Pinned {
    id: String,
    /// Tag of the version.
    on: &'static str,
    guard: PodGuard,
}

impl Pinned {
    /// On the version that the phase takes the traffic from, which is this one.
    pub(crate) async fn start(world: &World, phase: Phase, on: &'static str) -> Result<Self> {
        let env = &world.env;
        let id = format!("{phase}-open");
        env.temporal.start_waiting(&env.apps, QUEUE, &id).await?;
        let guard = PodGuard::start(env, NAME, QUEUE);
        // The time of a deletion is in whole seconds: what was started in the same one is told as a late start.
        let started = jiff::Timestamp::now().as_second();
        until("another second has begun", SOON, async || {
            let now = jiff::Timestamp::now().as_second();
            ensure!(now > started, "{now}");
            Ok(())
        })
        .await?;
        Ok(Self { id, on, guard })
    }

    /// Waits until the operator says that it waits for it, and lets it end. May be given up and called again, as when
    /// the operator dies.
    pub(crate) async fn let_end(&self, world: &World, phase: Phase) -> Result<()> {
        let env = &world.env;
        let status = env.temporal.run_status(&env.apps, &self.id).await?;
        if status == WorkflowExecutionStatus::Completed {
            return Ok(());
        }
        let waits = |process: &Process| match phase {
            Phase::Delete => condition(process, "Ready")
                .2
                .contains("waiting for 1 running workflow"),
            _ => is_current(process, phase.tag()) && condition(process, "Draining").0 == "True",
        };
        let what = format!("it waits for {}", self.id);
        env.wait_process(NAME, &what, SOON, waits).await?;
        let prefix = format!("{}-", self.on);
        let deployments = env.deployments(NAME).await?;
        let serving = deployments
            .iter()
            .find(|deployment| build_id(deployment).starts_with(&prefix));
        let serving = serving.with_context(|| format!("I3: no Deployment of {}", self.on))?;
        let wanted = serving.spec.as_ref().and_then(|spec| spec.replicas);
        ensure!(wanted == Some(1), "I3: {} has {wanted:?} pods", self.on);
        let output = env.temporal.finish_waiting(&env.apps, &self.id).await?;
        ensure!(
            output.completed_on.starts_with(&prefix),
            "I3: {} ended elsewhere: {output:?}",
            self.id
        );
        Ok(())
    }

    /// No pod was stopped under it.
    pub(crate) fn hold(self) -> Result<()> {
        self.guard.hold()
    }
}

/// The build id that a Deployment is of.
pub(crate) fn build_id(deployment: &Deployment) -> &str {
    let labels = deployment.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("ameide.io/build-id"))
        .map_or("", String::as_str)
}
