//! Registries of definitions: asked here, each source once for all Processes that name it.
//!
//! What comes of it is written into a ConfigMap of each Process, and only when it is something else than
//! before. The lifecycles hear of it as they hear of any ConfigMap with a definition, and decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt as _};
use process_operator_activities::build::belongs;
use process_operator_activities::build::fetched::{self, Outcome};
use process_operator_activities::cache::Neighbour;
use process_operator_activities::registry::{Answer, Failure, Source};
use process_operator_crds::names;
use process_operator_workflows::contract::ProcessKey;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

pub(super) use self::kept::Known;
use self::kept::{about, common, keep, look, remember, says_already};
use super::{Shared, answered};
use crate::metrics::Metrics;

mod kept;

/// Pauses between tries of what failed.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Shortest time between two questions to one source, whatever happens to its ConfigMaps.
const BREATH: Duration = Duration::from_secs(1);
/// Over this time the first questions after a start are spread, for what is there already.
const SPREAD: Duration = Duration::from_secs(20);

/// Something that the tasks have to know.
#[derive(Debug)]
pub(super) enum News {
    /// The source with this mark is named by one Process more or less, or some ConfigMap lacks its content.
    Source(String),
    /// A Process names no registry any more.
    Left(ProcessKey),
}

/// A Process has come, changed or gone.
pub(super) fn seen(shared: &Shared, before: Option<&Neighbour>, now: Option<&Neighbour>) {
    let source = |process: Option<&Neighbour>| process.and_then(|process| process.source.clone());
    let leaves = |process: Option<&Neighbour>| process.is_none_or(|process| process.deleting);
    let (earlier, present) = (source(before), source(now));
    if earlier == present && leaves(before) == leaves(now) {
        return;
    }
    if let (None, Some(now), Some(_)) = (&present, now, &earlier) {
        left(shared, &now.key());
    }
    for source in [earlier, present].into_iter().flatten() {
        tell(shared, News::Source(source.mark()));
    }
}

/// There is a ConfigMap with a fetched definition for a Process that names no registry.
pub(super) fn left(shared: &Shared, key: &ProcessKey) {
    tell(shared, News::Left(key.clone()));
}

fn tell(shared: &Shared, news: News) {
    shared
        .registries_needed
        .send_if_modified(|needed| !std::mem::replace(needed, true));
    // Nobody listens while the operator stops.
    _ = shared.sources.send(news);
}

/// What the ConfigMap of a Process is now. A source is asked when its content is not there, and nothing
/// tells why.
pub(super) fn noted(
    shared: &Shared,
    process: &Neighbour,
    source: &Source,
    found: Option<&ConfigMap>,
) {
    let entry = remember(shared, process, &source.mark(), found);
    let lacks = entry.kept.checksum.is_none() && entry.kept.failure.is_none();
    if lacks && !entry.foreign && !process.deleting {
        tell(shared, News::Source(entry.mark));
    }
}

/// Keeps one task for each source.
pub(super) async fn run(shared: Shared, mut news: mpsc::UnboundedReceiver<News>) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<String, (Arc<Notify>, AbortHandle)> = HashMap::new();
    while let Some(first) = news.recv().await {
        let mut arrived = vec![first];
        while let Ok(next) = news.try_recv() {
            arrived.push(next);
        }
        let wanted = sources(&shared);
        running.retain(|mark, (_, task)| {
            let stays = wanted.contains_key(mark);
            if !stays {
                task.abort();
            }
            stays
        });
        for news in arrived {
            match news {
                News::Source(mark) => {
                    if let Some((poke, _)) = running.get(&mark) {
                        poke.notify_one();
                    }
                }
                News::Left(key) => {
                    tasks.spawn(forget(shared.clone(), key));
                }
            }
        }
        for mark in wanted.into_keys() {
            running.entry(mark.clone()).or_insert_with(|| {
                let poke = Arc::new(Notify::new());
                let task = tasks.spawn(follow(shared.clone(), mark, poke.clone()));
                (poke, task)
            });
        }
        while tasks.try_join_next().is_some() {}
        let processes = shared.cache.processes();
        let named = processes.iter().filter(|process| process.source.is_some());
        let named: BTreeSet<_> = named.map(about).collect();
        let mut known = shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|about, _| named.contains(about));
    }
}

/// What may be asked, by its mark.
fn sources(shared: &Shared) -> BTreeMap<String, Source> {
    let all = shared.cache.processes().into_iter();
    all.filter(|process| !process.deleting)
        .filter_map(|process| process.source)
        .filter(|source| shared.registries.forbids(source).is_none())
        .map(|source| (source.mark(), source))
        .collect()
}

/// The Processes that name a source, and how it is asked: as often as the most eager wants.
fn naming(shared: &Shared, mark: &str) -> Option<(Source, Vec<Neighbour>)> {
    let all = shared.cache.processes().into_iter();
    let of = |process: &Neighbour| {
        let source = process.source.as_ref();
        !process.deleting && source.is_some_and(|source| source.mark() == mark)
    };
    let found: Vec<Neighbour> = all.filter(of).collect();
    let source = found
        .iter()
        .filter_map(|process| process.source.clone())
        .min_by_key(|source| source.refresh)?;
    Some((source, found))
}

/// Asks one source, for as long as some Process names it.
async fn follow(shared: Shared, mark: String, poke: Arc<Notify>) {
    let mut turn = shared.turn.clone();
    let mut failures = 0;
    let mut asked: Option<Instant> = None;
    let mut due = Instant::now();
    loop {
        let poked = tokio::select! {
            () = tokio::time::sleep_until(due) => false,
            () = poke.notified() => true,
        };
        if let Some(asked) = asked.filter(|_| poked) {
            tokio::time::sleep_until(asked + BREATH).await;
        }
        if turn.wait_for(|mine| *mine).await.is_err() {
            return;
        }
        let Some((source, processes)) = naming(&shared, &mark) else {
            // About to be ended.
            due = Instant::now() + BACK_OFF.1;
            continue;
        };
        let entries = match look(&shared, &mark, &processes).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!("ConfigMaps with fetched definitions cannot be read: {error}");
                due = Instant::now() + varied(BACK_OFF.0 * 5);
                continue;
            }
        };
        if entries.iter().all(|entry| entry.foreign) {
            due = Instant::now() + source.refresh;
            continue;
        }
        let whole = entries
            .iter()
            .all(|entry| entry.foreign || entry.kept.checksum.is_some());
        let now = Instant::now();
        if whole && asked.is_none() {
            // Nobody waits for it: a restart is no reason to ask everybody at once.
            due = now + varied(SPREAD.min(source.refresh) / 2);
            asked = Some(now);
            continue;
        }
        if whole && poked && now < due {
            // It may be wanted more often than before.
            due = due.min(now + source.refresh);
            continue;
        }
        asked = Some(now);
        let etag = whole.then(|| common(&entries)).flatten();
        let answer = shared.registries.fetch(&source, etag.as_deref()).await;
        count(&shared, &answer);
        let once = whole && failures == 0;
        let told = tell_all(&shared, &mark, &processes, &answer, once).await;
        let pause = if answer.is_ok() && told {
            failures = 0;
            varied(source.refresh)
        } else {
            let longest = BACK_OFF.1.min(source.refresh);
            let pause = varied((BACK_OFF.0 * 2_u32.pow(failures.min(6))).min(longest));
            failures = failures.saturating_add(1);
            let wait = answer.err().and_then(|failure| failure.retry_after);
            pause.max(wait.unwrap_or_default())
        };
        due = Instant::now() + pause;
    }
}

fn count(shared: &Shared, answer: &Result<Answer, Failure>) {
    let result = match answer {
        Ok(Answer::Fetched(_)) => "ok",
        Ok(Answer::Unchanged) => "unchanged",
        Err(failure) => {
            tracing::info!("definition not fetched: {}", failure.message);
            failure.trouble.label()
        }
    };
    Metrics::count(&shared.metrics.definition_fetches, result);
}

/// Writes what has come of a question. `once`: what fails for the first time, while there is content to
/// use, is not told yet. `false` when something could not be written.
async fn tell_all(
    shared: &Shared,
    mark: &str,
    processes: &[Neighbour],
    answer: &Result<Answer, Failure>,
    once: bool,
) -> bool {
    let outcome = match answer {
        Ok(Answer::Fetched(definition)) => Outcome::Fetched(definition),
        Ok(Answer::Unchanged) => Outcome::Unchanged,
        Err(_) if once => return true,
        Err(failure) => Outcome::Failed(failure),
    };
    let mut all = true;
    for process in processes {
        if says_already(shared, process, mark, outcome) {
            continue;
        }
        if let Err(error) = keep(shared, process, mark, outcome).await {
            tracing::warn!(
                process = process.name,
                namespace = process.namespace,
                "definition not kept: {error}"
            );
            all = false;
        }
    }
    all
}

/// Deletes what a Process has left that names no registry any more.
async fn forget(shared: Shared, key: ProcessKey) {
    let mut turn = shared.turn.clone();
    if turn.wait_for(|mine| *mine).await.is_err() {
        return;
    }
    let now = shared.cache.process(&key.uid);
    if now.is_none_or(|now| now.source.is_some() || now.deleting) {
        return;
    }
    let api: Api<ConfigMap> = Api::namespaced(shared.client.clone(), &key.namespace);
    let name = names::fetched_name(&key.name);
    let gone = async {
        let Some(found) = answered(api.get_metadata_opt(&name)).await? else {
            return Ok(());
        };
        let component = found.labels().get(names::label::APP_COMPONENT);
        let fetched = component.is_some_and(|component| component == fetched::COMPONENT);
        if !fetched || !belongs(&key, &found.metadata) {
            return Ok(());
        }
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: found.uid(),
            ..Preconditions::default()
        });
        match answered(api.delete(&name, &params)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    };
    if let Err(error) = gone.await {
        // A later list of ConfigMaps finds it again.
        tracing::warn!(
            process = key.name,
            namespace = key.namespace,
            "left definition {name} not deleted: {error}"
        );
    }
}

/// A pause, a tenth more or less: replicas and sources that have begun together do not stay so.
fn varied(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 201;
    let permille = 900 + u32::try_from(random).unwrap_or_default();
    pause * permille / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_by_a_tenth_at_most() {
        for _ in 0..1000 {
            let pause = varied(Duration::from_secs(10));
            assert!(
                (Duration::from_secs(9)..=Duration::from_secs(11)).contains(&pause),
                "{pause:?}"
            );
        }
    }
}
