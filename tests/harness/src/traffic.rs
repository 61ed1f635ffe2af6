//! A steady stream of workflows, each of which has to be answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use temporalio_client::tonic::{Code, Status};
use temporalio_common::protos::temporal::api::enums::v1::WorkflowTaskFailedCause;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use tokio::task::JoinHandle;

use crate::env::Env;
use crate::temporal::Temporal;

/// Workflows under way at once.
const AT_ONCE: usize = 8;
/// Histories that are read at the end, beside those of workflows that were slow.
const HISTORIES: usize = 200;
/// And side by side.
const READ_AT_ONCE: usize = 16;
/// An answer that takes longer is slow: a workflow task that fails again and again delays it.
const SLOW: Duration = Duration::from_secs(2);

/// Started until it is stopped.
pub struct Traffic {
    temporal: Temporal,
    apps: String,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    stream: JoinHandle<Vec<Started>>,
}

/// A workflow that was started, or was to be.
struct Started {
    id: String,
    /// Who has answered.
    by: Result<String>,
    took: Duration,
}

/// Ids of those whose histories are read: where they are many a sample, and all that were slow or lost.
fn looked_at(started: &[Started]) -> Vec<String> {
    let every = started.len().div_ceil(HISTORIES).max(1);
    let chosen = started
        .iter()
        .enumerate()
        .filter(|(n, it)| n.is_multiple_of(every) || it.took > SLOW || it.by.is_err());
    chosen.map(|(_, it)| it.id.clone()).collect()
}

/// Where a start goes.
#[derive(Clone)]
enum Queues {
    One(String),
    Shared(Box<Api<ConfigMap>>, String),
}

impl Queues {
    /// The queue of the n-th start.
    async fn choose(&self, n: u64) -> Result<String> {
        let (maps, name) = match self {
            Self::One(queue) => return Ok(queue.clone()),
            Self::Shared(maps, name) => (maps, name),
        };
        let data = maps.get(name).await?.data.unwrap_or_default();
        let percent = data
            .get("rampingPercent")
            .map_or(Ok(0), |text| text.parse())?;
        // Spread evenly: every hundredth of the starts is another one.
        let queue = if n * 37 % 100 < percent {
            data.get("rampingTaskQueue")
        } else {
            data.get("currentTaskQueue")
        };
        queue.cloned().context("the ConfigMap names no queue")
    }
}

/// What became of all of it.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// How many were answered by which build id.
    pub by_build: BTreeMap<String, usize>,
    /// What went wrong with the others.
    pub lost: Vec<String>,
    /// Workflow tasks that have failed, of those that were looked at; whether there was an answer all the same.
    pub failed_tasks: Vec<String>,
}

impl Answers {
    /// How many versions with this tag answered.
    pub fn of(&self, tag: &str) -> usize {
        self.by_build
            .iter()
            .filter(|(build_id, _)| build_id.starts_with(&format!("{tag}-")))
            .map(|(_, count)| count)
            .sum()
    }

    /// None was lost, none failed, and no worker failed a task on the way.
    pub fn all_answered(&self) -> Result<()> {
        ensure!(self.lost.is_empty(), "lost: {:?}", self.lost);
        self.no_task_failed()
    }

    /// However the workflows have ended, no worker failed a task of them: all of it replays, and each type is known.
    /// Not for a test whose workers, or whose Temporal, fail.
    pub fn no_task_failed(&self) -> Result<()> {
        let failed = &self.failed_tasks;
        ensure!(failed.is_empty(), "workflow tasks failed: {failed:?}");
        Ok(())
    }
}

impl Traffic {
    /// Starts a `Quick` about every `every` until it is stopped.
    pub fn start(env: &Env, queue: &str, every: Duration) -> Self {
        Self::to(env, Queues::One(queue.to_owned()), every)
    }

    /// The same, on the queue that a ConfigMap of the operator names at that moment.
    pub fn routed(env: &Env, config_map: &str, every: Duration) -> Self {
        Self::to(
            env,
            Queues::Shared(Box::new(env.api()), config_map.to_owned()),
            every,
        )
    }

    fn to(env: &Env, queues: Queues, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (temporal, apps) = (env.temporal.clone(), env.apps.clone());
        let (stopped, count) = (stop.clone(), answered.clone());
        let ticks = futures::stream::unfold(0_u64, move |n| {
            let stopped = stopped.clone();
            async move {
                tokio::time::sleep(every).await;
                (!stopped.load(Ordering::Relaxed)).then_some((n, n + 1))
            }
        });
        let stream = tokio::spawn(async move {
            ticks
                .map(|n| {
                    let (temporal, apps, queues) = (temporal.clone(), apps.clone(), queues.clone());
                    let count = count.clone();
                    async move {
                        let id = format!("stream-{n}");
                        let begun = Instant::now();
                        let answer = match queues.choose(n).await {
                            Ok(queue) => temporal.quick(&apps, &queue, &id).await,
                            Err(error) => Err(error),
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                        Started {
                            by: answer
                                .map(|answer| answer.build_id)
                                .map_err(|error| error.context(id.clone())),
                            id,
                            took: begun.elapsed(),
                        }
                    }
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await
        });
        Self {
            temporal: env.temporal.clone(),
            apps: env.apps.clone(),
            stop,
            answered,
            stream,
        }
    }

    /// How many were answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops starting, waits for what is under way, and reads how it went.
    pub async fn stop(self) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        let started = self.stream.await?;
        let ids = looked_at(&started);
        let mut answers = Answers {
            failed_tasks: self.temporal.failed_tasks(&self.apps, ids).await?,
            ..Answers::default()
        };
        for it in started {
            match it.by {
                Ok(build_id) => *answers.by_build.entry(build_id).or_default() += 1,
                Err(error) => answers.lost.push(format!("{error:#}")),
            }
        }
        Ok(answers)
    }
}

/// Why a workflow task has failed, if one has. The server writes that down also where something came in while the
/// workflow was about to end: then no worker has failed.
fn failed_task(events: &[HistoryEvent]) -> Option<String> {
    events.iter().find_map(|event| {
        let Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) = &event.attributes else {
            return None;
        };
        let cause = failed.cause();
        if cause == WorkflowTaskFailedCause::UnhandledCommand {
            return None;
        }
        let why = failed.failure.as_ref().map(|it| it.message.as_str());
        let (why, by) = (why.unwrap_or_default(), &failed.identity);
        Some(format!("{} by {by}: {why}", cause.as_str_name()))
    })
}

impl Temporal {
    /// Of these workflows those with a task that has failed, and why.
    async fn failed_tasks(&self, namespace: &str, ids: Vec<String>) -> Result<Vec<String>> {
        let read = futures::stream::iter(ids).map(|id| async move {
            match self.history(namespace, &id).await {
                Ok(events) => Ok(failed_task(&events).map(|why| format!("{id}: {why}"))),
                Err(error) => match error.downcast_ref::<Status>() {
                    // It could not even be started.
                    Some(status) if status.code() == Code::NotFound => Ok(None),
                    _ => Err(error.context(id)),
                },
            }
        });
        let read = read.buffer_unordered(READ_AT_ONCE);
        read.try_filter_map(|failed| std::future::ready(Ok(failed)))
            .try_collect()
            .await
    }

    /// Starts `count` workflows and says how many each build id answered.
    pub async fn starts(&self, namespace: &str, queue: &str, count: u64) -> Result<Answers> {
        let mut answers = Answers::default();
        let mut stream = futures::stream::iter(0..count)
            .map(|n| async move { self.quick(namespace, queue, &format!("start-{n}")).await })
            .buffer_unordered(16);
        while let Some(answer) = stream.next().await {
            match answer {
                Ok(answer) => *answers.by_build.entry(answer.build_id).or_default() += 1,
                Err(error) => answers.lost.push(format!("{error:#}")),
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(count: usize, slow: usize) -> Vec<Started> {
        let one = |n: usize| Started {
            id: format!("stream-{n}"),
            by: Ok("v1-00000001".into()),
            took: if n == slow { SLOW * 2 } else { SLOW / 2 },
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn few_are_all_looked_at_and_of_many_a_sample_and_what_was_slow() {
        assert!(looked_at(&started(0, 0)).is_empty());
        assert_eq!(looked_at(&started(HISTORIES, 7)).len(), HISTORIES);
        let many = looked_at(&started(HISTORIES * 10, 7));
        assert_eq!(many.len(), HISTORIES + 1);
        assert!(many.contains(&"stream-7".to_owned()));
    }
}
