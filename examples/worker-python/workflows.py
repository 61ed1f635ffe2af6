"""Workflows and activities, the same three as in the workers in Go and Rust."""

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow


@dataclass
class Facts:
    """What a worker knows of itself."""

    pod: str
    build_id: str
    definition_id: str
    tenant_id: str


@activity.defn(name="WorkerFacts")
async def worker_facts() -> Facts:
    """Says which worker this is."""
    return Facts(
        pod=os.environ.get("HOSTNAME", ""),
        build_id=os.environ.get("TEMPORAL_WORKER_BUILD_ID", ""),
        definition_id=os.environ.get("PROCESS_DEFINITION_ID", ""),
        tenant_id=os.environ.get("PROCESS_TENANT_ID", ""),
    )


async def ask_worker() -> Facts:
    """Asks the worker by a local activity: its answer becomes part of the history. Workflow code that read
    the environment would get another answer when another worker replays it."""
    return await workflow.execute_local_activity(worker_facts, start_to_close_timeout=timedelta(seconds=5))


@workflow.defn
class Quick:
    """Ends at once and says which worker ran it."""

    @workflow.run
    async def run(self) -> Facts:
        return await ask_worker()


@dataclass
class Waited:
    """Which builds ran a workflow."""

    started_on: str
    completed_on: str
    completed_pod: str


@workflow.defn
class WaitForSignal:
    """Stays open until the signal `finish`, as a long business process would."""

    def __init__(self) -> None:
        self.finished = False

    @workflow.run
    async def run(self) -> Waited:
        first = await ask_worker()
        await workflow.wait_condition(lambda: self.finished)
        last = await ask_worker()
        return Waited(first.build_id, last.build_id, last.pod)

    @workflow.signal
    def finish(self) -> None:
        self.finished = True


@dataclass
class Task:
    """What TimersAndActivity has to do."""

    timer_ms: int = 0
    activity_ms: int = 0


@dataclass
class Reported:
    """Where an activity ended."""

    pod: str
    build_id: str
    attempt: int


@activity.defn(name="Report")
async def report(total_ms: int) -> Reported:
    """Works for a while. Heartbeats carry the time already spent: when this pod is lost, the next attempt
    goes on from there."""
    info = activity.info()
    spent = int(info.heartbeat_details[0]) if info.heartbeat_details else 0
    while spent < total_ms:
        step = min(1000, total_ms - spent)
        # Raises when the run is cancelled, or when the time after SIGTERM is over.
        await asyncio.sleep(step / 1000)
        spent += step
        activity.heartbeat(spent)
    facts = await worker_facts()
    return Reported(facts.pod, facts.build_id, info.attempt)


@dataclass
class Done:
    """What TimersAndActivity did."""

    started_on: str
    report: Reported


@workflow.defn
class TimersAndActivity:
    """Waits for a timer and then for an activity that takes its time."""

    @workflow.run
    async def run(self, task: Task) -> Done:
        first = await ask_worker()
        await workflow.sleep(task.timer_ms / 1000)
        reported = await workflow.execute_activity(
            report,
            task.activity_ms,
            start_to_close_timeout=timedelta(milliseconds=task.activity_ms, minutes=1),
            heartbeat_timeout=timedelta(seconds=5),
        )
        return Done(first.build_id, reported)
