//! The operator dies by SIGKILL at every point where it tells or asks somebody something.

use anyhow::Result;
use process_operator_faultproxy::{Action, RpcMatch, RuleHandle, WriteRecord};

use crate::points::Loop;
use crate::scenario::{Phase, Reference, tells_a_lifecycle};
use crate::world::World;

fn is_status(write: &WriteRecord) -> bool {
    write.kind.subresource == "status"
}

/// F01.
#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_write_it_finishes_after_a_restart() -> Result<()> {
    let lengths = Reference::get().await?.lengths(|_| true);
    let arm = |world: &World, _: Phase, n| {
        let writes = world.writes().nth(n);
        world.kube.rule(writes, Action::kill_before(world.killer()))
    };
    let test = "killed_before_a_write";
    Loop {
        name: "f01",
        test,
        arm,
    }
    .run(lengths)
    .await
}

/// F02.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_write_whose_answer_it_never_saw_it_does_nothing_twice() -> Result<()> {
    let lengths = Reference::get().await?.lengths(|_| true);
    let arm = |world: &World, _: Phase, n| {
        let writes = world.writes().nth(n);
        world.kube.rule(writes, Action::kill_after(world.killer()))
    };
    let test = "killed_after_a_write";
    Loop {
        name: "f02",
        test,
        arm,
    }
    .run(lengths)
    .await
}

/// F04. The world's observer sees every status that is written.
#[tokio::test(flavor = "multi_thread")]
async fn killed_around_a_status_write_no_condition_moves_without_reason() -> Result<()> {
    let lengths = Reference::get().await?.lengths(is_status);
    let arm = |world: &World, _: Phase, n: u64| -> RuleHandle {
        let writes = world.writes().subresource("status").nth(n);
        // Both sides of the same write would cost twice the time: the parity of the point chooses.
        let action = if n.is_multiple_of(2) {
            Action::kill_before(world.killer())
        } else {
            Action::kill_after(world.killer())
        };
        world.kube.rule(writes, action)
    };
    let test = "killed_around_a_status_write";
    Loop {
        name: "f04",
        test,
        arm,
    }
    .run(lengths)
    .await
}

/// F03, first half: the event was seen, the signal was not sent.
#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_signal_the_change_is_found_again() -> Result<()> {
    let lengths = Reference::get().await?.signals();
    let arm = |world: &World, _: Phase, n| {
        let signals = RpcMatch::any().when(tells_a_lifecycle).nth(n);
        world
            .temporal
            .rule(signals, Action::kill_before(world.killer()))
    };
    let test = "killed_before_a_signal";
    Loop {
        name: "f03",
        test,
        arm,
    }
    .run(lengths)
    .await
}

/// F03, second half: the workflow runs already, and nobody is there to do its tasks.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_signal_the_workflow_goes_on() -> Result<()> {
    let lengths = Reference::get().await?.signals();
    let arm = |world: &World, _: Phase, n| {
        let signals = RpcMatch::any().when(tells_a_lifecycle).nth(n);
        world
            .temporal
            .rule(signals, Action::kill_after(world.killer()))
    };
    let test = "killed_after_a_signal";
    Loop {
        name: "f03b",
        test,
        arm,
    }
    .run(lengths)
    .await
}
