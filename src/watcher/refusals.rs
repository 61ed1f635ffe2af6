//! Watches that the API server refuses, as when a right was taken away: the operator is deaf on that side,
//! although lists and everything else may be allowed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::watcher;

use super::Shared;
use crate::health::Part;

/// A watch that is opened again says nothing by itself: after so long without another refusal it is open.
/// More than the longest pause of the watcher between two tries.
const OPEN: Duration = Duration::from_secs(65);
/// Between two looks at the clock.
const LOOK: Duration = Duration::from_secs(5);

/// By kind: why, and when last.
#[derive(Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<BTreeMap<String, (String, Instant)>>>);

/// A watch has failed; remembered if it was refused.
pub(super) fn failed(shared: &Shared, kind: &str, error: &watcher::Error) {
    let (watcher::Error::InitialListFailed(why) | watcher::Error::WatchStartFailed(why)) = error
    else {
        return;
    };
    let kube::Error::Api(answer) = why else {
        return;
    };
    if !matches!(answer.code, 401 | 403) {
        return;
    }
    let mut known = shared
        .refusals
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    known.insert(kind.to_owned(), (answer.message.clone(), Instant::now()));
    drop(known);
    show(shared);
}

/// Forgets those that have passed, for ever.
pub(super) async fn run(shared: Shared) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut known = shared
            .refusals
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        known.retain(|_, (_, at)| at.elapsed() < OPEN);
        let passed = known.len() < before;
        drop(known);
        if passed {
            show(&shared);
        }
    }
}

/// What `/readyz` says of watches.
pub(super) fn show(shared: &Shared) {
    let known = shared
        .refusals
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some((kind, (why, _))) = known.first_key_value() {
        shared.readiness.down(Part::Watch, format!("{kind}: {why}"));
    } else if shared.complete(*shared.lists.borrow()) {
        shared.readiness.up(Part::Watch);
    } else {
        shared
            .readiness
            .down(Part::Watch, "the first lists are not complete");
    }
}
