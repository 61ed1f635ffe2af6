//! A steady stream of workflows, each of which has to be answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use tokio::task::JoinHandle;

use crate::env::Env;
use crate::temporal::Temporal;

/// Workflows under way at once.
const AT_ONCE: usize = 8;

/// Started until it is stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    stream: JoinHandle<Vec<Result<(String, String)>>>,
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

    /// None was lost, and none failed.
    pub fn all_answered(&self) -> Result<()> {
        ensure!(self.lost.is_empty(), "lost: {:?}", self.lost);
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
                        let answer = match queues.choose(n).await {
                            Ok(queue) => temporal.quick(&apps, &queue, &id).await,
                            Err(error) => Err(error),
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                        answer
                            .map(|answer| (id.clone(), answer.build_id))
                            .map_err(|error| error.context(id))
                    }
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await
        });
        Self {
            stop,
            answered,
            stream,
        }
    }

    /// How many were answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops starting, and waits for what is under way.
    pub async fn stop(self) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = Answers::default();
        for answer in self.stream.await? {
            match answer {
                Ok((_, build_id)) => *answers.by_build.entry(build_id).or_default() += 1,
                Err(error) => answers.lost.push(format!("{error:#}")),
            }
        }
        Ok(answers)
    }
}

impl Temporal {
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
