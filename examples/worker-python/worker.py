"""A Temporal worker in Python for a Process. Everything it has to know comes from the environment."""

import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker, WorkerDeploymentConfig

from workflows import (
    Quick,
    TimersAndActivity,
    WaitForSignal,
    report,
    worker_facts,
)

# How long activities may go on after SIGTERM. Has to fit into terminationGracePeriodSeconds.
STOP_TIMEOUT = timedelta(seconds=10)

BEHAVIORS = {
    "Pinned": VersioningBehavior.PINNED,
    "AutoUpgrade": VersioningBehavior.AUTO_UPGRADE,
}


def deployment() -> WorkerDeploymentConfig | None:
    """The version that this worker polls as."""
    name = os.environ.get("TEMPORAL_DEPLOYMENT_NAME")
    build = os.environ.get("TEMPORAL_WORKER_BUILD_ID")
    # Both are set with WorkerVersioning; in the other modes the worker polls without a version.
    if not name or not build:
        return None
    behavior = os.environ.get("VERSIONING_BEHAVIOR", "Pinned")
    if behavior not in BEHAVIORS:
        sys.exit(f"environment variable VERSIONING_BEHAVIOR is {behavior!r}: it must be Pinned or AutoUpgrade")
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=name, build_id=build),
        use_worker_versioning=True,
        default_versioning_behavior=BEHAVIORS[behavior],
    )


def max_activities() -> int:
    """How many activities run at once."""
    text = os.environ.get("MAX_CONCURRENCY_PER_TENANT", "100")
    if not text.isdecimal() or int(text) < 1:
        sys.exit(f"environment variable MAX_CONCURRENCY_PER_TENANT is {text!r}: it must be a number above 0")
    return int(text)


async def main() -> None:
    # First of all: the first process of a container ignores signals it has no handler for.
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    queue = os.environ.get("TASK_QUEUE")
    if not queue:
        sys.exit("environment variable TASK_QUEUE is not set: it must hold the task queue to poll")
    version = deployment()
    # TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS_* and TEMPORAL_API_KEY.
    client = await Client.connect(**ClientConfig.load_client_connect_config())
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[Quick, WaitForSignal, TimersAndActivity],
        activities=[worker_facts, report],
        deployment_config=version,
        max_concurrent_activities=max_activities(),
        graceful_shutdown_timeout=STOP_TIMEOUT,
    )
    async with worker:
        logging.info("polling %s as %s", queue, version and version.version.build_id)
        await stop.wait()
        # On the way out it takes no new work and gives activities the time above.
        logging.info("stopping")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
    # Threads of the SDK go on while the interpreter cleans up, and may crash it then, with exit code 139.
    # All work is done: leave without cleaning up.
    logging.shutdown()
    os._exit(0)
