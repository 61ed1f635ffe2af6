//! F28: whoever does the work of a drain stops in the middle of it, another replica takes over, and
//! then what the first had begun goes on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use nix::sys::signal::Signal;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, RequestMatch, RpcMatch, RuleHandle, Verb};
use process_operator_harness::{counts, is_current, lifecycle_id, until};
use serde_json::json;

use crate::drains::{count, counted, on_v1, open_more, tells, told};
use crate::scenario::at_rest;
use crate::world::{NAME, Replica, SOON, World};

/// Until the test lets it go.
const HELD: Duration = Duration::from_secs(600);

/// Two replicas that share the work: one does the activities, the other one the workflow tasks, and the
/// activities when the first is gone.
struct Pair {
    first: Replica,
    second: Replica,
    idle: RuleHandle,
}

impl Pair {
    async fn start(world: &World) -> Result<Self> {
        // Silent polls, as those of workers that have nothing to do.
        let polls = |of: &str| RpcMatch::method(&format!("Poll{of}TaskQueue"));
        let first = world
            .replica(0, |_, temporal| {
                temporal.rule(polls("Workflow"), Action::Hang(None));
            })
            .await?;
        let mut idle = None;
        let second = world
            .replica(1, |_, temporal| {
                idle = Some(temporal.rule(polls("Activity"), Action::Hang(None)));
            })
            .await?;
        Ok(Self {
            first,
            second,
            idle: idle.context("prepared")?,
        })
    }

    /// The first stops with the request in its hands that the rule holds back, and is as good as dead to
    /// Temporal; the second takes over.
    async fn take_over(&self, held: &RuleHandle) -> Result<()> {
        held.wait_hits(1, SOON).await?;
        self.first.operator.signal(Signal::SIGSTOP)?;
        self.idle.remove();
        Ok(())
    }

    /// The request arrives after all, and then the first goes on as if nothing had been.
    async fn go_on(&self, held: &RuleHandle) -> Result<()> {
        held.remove();
        held.wait_done(1, SOON).await?;
        self.first.operator.signal(Signal::SIGCONT)?;
        ensure!(!self.second.operator.ended(), "the second runs");
        Ok(())
    }
}

/// It deletes a Deployment whose name somebody else's has by then: the uid tells them apart.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn a_late_deletion_does_not_reach_a_deployment_of_the_same_name() -> Result<()> {
    let world = World::empty("f28delete").await?;
    let pair = Pair::start(&world).await?;
    let env = &world.env;
    on_v1(&world, &json!({}), 0).await?;
    let deletes = RequestMatch::any()
        .verb(Verb::Delete)
        .resource("deployments")
        .namespace(&env.namespace);
    let late = pair.first.kube.rule(deletes.first(1), Action::Delay(HELD));
    env.set_tag(NAME, "v2").await?;
    pair.take_over(&late).await?;
    // The other one retires v1, and then v1 comes back under the same name.
    tells(env, "VersionRetired").await?;
    env.set_tag(NAME, "v1").await?;
    env.wait_process(NAME, "v1 is current again", SOON, |process| {
        is_current(process, "v1")
    })
    .await?;
    let of_v1 = async || {
        let all = env.deployments(NAME).await?;
        let found = all
            .into_iter()
            .find(|it| it.labels()["ameide.io/build-id"].starts_with("v1-"));
        found.context("v1 has no Deployment")
    };
    let made = of_v1().await?;

    pair.go_on(&late).await?;
    at_rest(&world, "v1").await?;
    let records = pair.first.kube.records(..);
    let answer = records
        .iter()
        .find(|record| record.rule == Some(late.id()))
        .and_then(|record| record.outcome.code());
    ensure!(
        matches!(answer, Some(404 | 409)),
        "the late deletion was answered {answer:?}"
    );
    ensure!(
        of_v1().await?.uid() == made.uid(),
        "it was meant for another one"
    );
    world.leave().await
}

/// It terminates a workflow whose id another run has by then: the run id tells them apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_termination_does_not_reach_a_new_run_of_the_same_id() -> Result<()> {
    const OPEN: usize = 8;
    let world = World::empty("f28end").await?;
    let pair = Pair::start(&world).await?;
    let env = &world.env;
    let policy = json!({ "timeoutSeconds": 1, "onTimeout": "Terminate" });
    on_v1(&world, &policy, OPEN).await?;
    let ends = RpcMatch::method("TerminateWorkflowExecution").nth(3);
    let late = pair.first.temporal.rule(ends, Action::Delay(HELD));
    env.set_tag(NAME, "v2").await?;
    pair.take_over(&late).await?;
    counted(env, "old", "Terminated", OPEN).await?;
    tells(env, "VersionRetired").await?;
    open_more(env, "old", OPEN).await?;

    pair.go_on(&late).await?;
    at_rest(&world, "v2").await?;
    ensure!(
        count(env, "old", "Running").await? == OPEN,
        "the new runs are not what was asked for"
    );
    let process = env.api::<Process>().get(NAME).await?;
    for once in ["DrainTimedOut", "WorkflowsEnded", "VersionRetired"] {
        let told = told(&process, once);
        ensure!(told.len() == 1, "{once}: {told:?}");
    }
    world.leave().await
}

/// It is given a workflow task that reaches it when others have done all that followed: what it would
/// publish from its memory is past.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_workflow_task_publishes_nothing() -> Result<()> {
    let world = World::empty("f28task").await?;
    let env = &world.env;
    let second = world.replica(1, |_, _| ()).await?;
    let process = on_v1(&world, &json!({}), 0).await?;
    let mut held = None;
    let first = world
        .replica(0, |_, temporal| {
            let polls = RpcMatch::method("PollWorkflowTaskQueue");
            held = Some(temporal.rule(polls, Action::DelayAnswer(HELD)));
        })
        .await?;
    let held = held.context("prepared")?;
    second.operator.kill();
    env.set_tag(NAME, "v2").await?;
    // On the queue of the one that is gone, and then in the hands of the one that does not get it.
    let lifecycle = lifecycle_id(&process);
    until(
        "the task was given to the first in vain",
        SOON,
        async || {
            let history = env.temporal.history(&env.control, &lifecycle).await?;
            let lost = counts(&history)
                .get("EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT")
                .copied();
            ensure!(lost >= Some(2), "{lost:?} tasks ran out of time");
            Ok(())
        },
    )
    .await?;
    let third = world.replica(2, |_, _| ()).await?;
    at_rest(&world, "v2").await?;
    let processes = env.api::<Process>();
    let before = processes.get(NAME).await?.status;

    let refused = first.temporal.rule(
        RpcMatch::method("RespondWorkflowTaskCompleted"),
        Action::Pass,
    );
    held.remove();
    refused.wait_done(1, SOON).await?;
    world.hold().await?;
    let after = processes.get(NAME).await?.status;
    ensure!(after == before, "{after:?} was {before:?}");
    ensure!(!third.operator.ended(), "the third runs");
    world.leave().await
}
