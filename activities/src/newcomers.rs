//! New Processes: their Deployments first, everything else after that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use process_operator_crds::Process;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Nobody waits longer for others, and nobody is waited for longer. Long enough for a hundred on two cores, and well
/// below the time that a workflow task has.
const PATIENCE: Duration = Duration::from_secs(4);
/// So many wait for those too that nobody has begun with; more would take the places at work that these need. Half of
/// what a replica has at work at once.
const ROOM: usize = 64;

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
#[derive(Debug, Default)]
pub struct Newcomers {
    all: Mutex<HashMap<String, Newcomer>>,
    /// How many there are.
    count: watch::Sender<Count>,
    /// How many wait for them.
    waiting: AtomicUsize,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    /// With which this replica has begun.
    begun: usize,
    /// That the watch has shown, and with which nobody has begun.
    shown: usize,
}

/// One that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        let mut count = self.count.subscribe();
        let due = Instant::now() + PATIENCE;
        let over = |count: &Count| {
            let room = waiting.0.load(Ordering::Relaxed) <= ROOM;
            count.begun == 0 && (count.shown == 0 || !room)
        };
        // Nobody has to come back for its own time to be over.
        let _ = timeout_at(due, count.wait_for(over)).await;
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, Newcomer>) -> T) -> T {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, newcomer| newcomer.since.elapsed() < PATIENCE);
        let result = change(&mut all);
        self.count.send_if_modified(|count| {
            let begun = all.values().filter(|newcomer| newcomer.ours).count();
            let shown = all.len() - begun;
            let now = Count { begun, shown };
            std::mem::replace(count, now) != now
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
        assert_eq!(*newcomers.count.borrow(), Count::default());
    }

    #[tokio::test]
    async fn those_who_wait_leave_room_for_those_who_are_to_come() {
        let newcomers = Newcomers::default();
        newcomers.shown(process("a", 1), true);
        let began = Instant::now();
        let many = futures::future::join_all((0..ROOM).map(|_| newcomers.over()));
        let mut many = std::pin::pin!(many);
        tokio::select! {
            biased;
            _ = &mut many => panic!("they wait"),
            () = newcomers.over() => {}
        }
        assert!(began.elapsed() < PATIENCE);
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
        let only_ours = Count { begun: 1, shown: 0 };
        assert_eq!(*newcomers.count.borrow(), only_ours, "without a Deployment");
        newcomers.leave("ours");
        assert_eq!(*newcomers.count.borrow(), Count::default());
    }
}
