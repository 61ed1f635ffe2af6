//! New Processes: their Deployments first, everything else after that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use process_operator_crds::Process;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Nobody waits longer for others, and nobody is waited for longer. Long enough for a hundred on two cores, and well
/// below the time that a workflow task has.
const PATIENCE: Duration = Duration::from_secs(4);

/// One whose first Deployment is on its way.
#[derive(Debug)]
struct Newcomer {
    since: Instant,
    /// As the watch has shown it, until somebody begins with it.
    shown: Option<Arc<Process>>,
    /// It is this replica that has begun with it.
    ours: bool,
}

/// Those Processes whose first Deployment is on its way.
#[derive(Debug)]
pub struct Newcomers {
    all: Mutex<HashMap<String, Newcomer>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

impl Default for Newcomers {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }
}

impl Newcomers {
    /// The watch shows a Process that nothing was done for yet. `first`: it was not there before.
    pub fn shown(&self, process: Process, first: bool) {
        let uid = process.metadata.uid.clone().unwrap_or_default();
        self.change(|all| {
            let new = || Newcomer {
                since: Instant::now(),
                shown: None,
                ours: false,
            };
            let found = if first {
                Some(all.entry(uid).or_insert_with(new))
            } else {
                all.get_mut(&uid)
            };
            if let Some(found) = found.filter(|found| !found.ours) {
                found.shown = Some(Arc::new(process));
            }
        });
    }

    /// The watch shows that something was done for it; by another replica, if this one has not begun with it.
    pub fn taken_up(&self, uid: &str) {
        self.change(|all| {
            if all.get(uid).is_some_and(|found| !found.ours) {
                all.remove(uid);
            }
        });
    }

    /// This replica begins with it: others may wait for it. The object, if the watch has just shown it and nobody has
    /// begun with it before.
    pub(crate) fn begin(&self, uid: &str) -> Option<Arc<Process>> {
        self.change(|all| {
            let begun = Newcomer {
                since: Instant::now(),
                shown: None,
                ours: true,
            };
            all.insert(uid.to_owned(), begun)
                .and_then(|before| before.shown)
        })
    }

    /// Its Deployment is written, or will not be for now; or it is gone.
    pub fn leave(&self, uid: &str) {
        self.change(|all| {
            all.remove(uid);
        });
    }

    /// Waits until nobody is in a hurry any more.
    pub(crate) async fn over(&self) {
        let mut count = self.count.subscribe();
        let due = Instant::now() + PATIENCE;
        // Nobody has to come back for its own time to be over.
        let _ = timeout_at(due, count.wait_for(|count| *count == 0)).await;
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, Newcomer>) -> T) -> T {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, newcomer| newcomer.since.elapsed() < PATIENCE);
        let result = change(&mut all);
        self.count.send_if_modified(|count| {
            let before = std::mem::replace(count, all.len());
            before != all.len()
        });
        result
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process(uid: &str, generation: i64) -> Process {
        serde_json::from_value(json!({
            "apiVersion": "ameide.io/v1", "kind": "Process",
            "metadata": { "name": "l2o", "uid": uid, "generation": generation },
            "spec": {
                "image": "i", "definitionRef": { "id": "d", "tenantId": "t" },
                "temporal": { "namespace": "n", "taskQueue": "q" },
            },
        }))
        .expect("a Process")
    }

    #[tokio::test]
    async fn nobody_waits_when_there_is_nobody_to_wait_for() {
        let newcomers = Newcomers::default();
        let began = Instant::now();
        newcomers.over().await;
        newcomers.begin("a");
        newcomers.leave("a");
        newcomers.leave("never came");
        newcomers.over().await;
        assert!(began.elapsed() < PATIENCE);
    }

    #[tokio::test]
    async fn the_last_one_lets_all_others_go() {
        let newcomers = Newcomers::default();
        newcomers.shown(process("a", 1), true);
        newcomers.begin("b");
        let left = Mutex::new(0);
        let told = async {
            newcomers.over().await;
            *left.lock().expect("sound")
        };
        let leaving = async {
            for uid in ["a", "b"] {
                tokio::task::yield_now().await;
                *left.lock().expect("sound") += 1;
                newcomers.leave(uid);
            }
        };
        assert_eq!(tokio::join!(told, leaving).0, 2);
    }

    #[tokio::test]
    async fn one_that_does_not_come_back_holds_nobody_up_for_long() {
        let newcomers = Newcomers::default();
        let began = Instant::now();
        newcomers.begin("a");
        newcomers.over().await;
        assert!(began.elapsed() >= PATIENCE);
        // The next one finds that it has gone.
        newcomers.begin("b");
        newcomers.leave("b");
        assert_eq!(*newcomers.count.borrow(), 0);
    }

    #[test]
    fn the_object_is_given_once_and_as_it_was_shown_last() {
        let newcomers = Newcomers::default();
        newcomers.shown(process("a", 1), true);
        newcomers.shown(process("a", 2), false);
        // Known for long: nothing was to be done for it.
        newcomers.shown(process("old", 2), false);
        let given = newcomers.begin("a").expect("the object");
        assert_eq!(given.metadata.generation, Some(2));
        newcomers.shown(process("a", 3), false);
        assert_eq!(newcomers.begin("a"), None, "a second try reads for itself");
        assert_eq!(newcomers.begin("old"), None);
    }

    #[test]
    fn what_another_replica_has_begun_with_is_waited_for_no_more() {
        let newcomers = Newcomers::default();
        newcomers.shown(process("theirs", 1), true);
        newcomers.shown(process("ours", 1), true);
        newcomers.begin("ours");
        newcomers.taken_up("theirs");
        newcomers.taken_up("ours");
        assert_eq!(*newcomers.count.borrow(), 1, "ours has no Deployment yet");
        newcomers.leave("ours");
        assert_eq!(*newcomers.count.borrow(), 0);
    }
}
