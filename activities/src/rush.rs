//! Many Processes made at once: their Deployments first, what is told about them after that.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Nobody waits longer for others, and nobody is waited for longer. Long enough for a hundred on two cores, and well
/// below the time that a workflow task has.
const PATIENCE: Duration = Duration::from_secs(4);

/// Those Processes whose first Deployment is on its way.
#[derive(Debug)]
pub(crate) struct Rush {
    since: Mutex<HashMap<String, Instant>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

impl Default for Rush {
    fn default() -> Self {
        Self {
            since: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }
}

impl Rush {
    /// A Process is new: others may wait for it.
    pub(crate) fn enter(&self, uid: &str) {
        self.change(|since| {
            since.insert(uid.to_owned(), Instant::now());
        });
    }

    /// Its Deployment is written, or will not be for now.
    pub(crate) fn leave(&self, uid: &str) {
        self.change(|since| {
            since.remove(uid);
        });
    }

    /// Waits until nobody is in a hurry any more.
    pub(crate) async fn over(&self) {
        let mut count = self.count.subscribe();
        let due = Instant::now() + PATIENCE;
        // Nobody has to come back for its own time to be over.
        let _ = timeout_at(due, count.wait_for(|count| *count == 0)).await;
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, Instant>)) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut since);
        since.retain(|_, at| at.elapsed() < PATIENCE);
        self.count.send_if_modified(|count| {
            let before = std::mem::replace(count, since.len());
            before != since.len()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_when_there_is_nobody_to_wait_for() {
        let rush = Rush::default();
        let began = Instant::now();
        rush.over().await;
        rush.enter("a");
        rush.leave("a");
        rush.leave("never came");
        rush.over().await;
        assert!(began.elapsed() < PATIENCE);
    }

    #[tokio::test]
    async fn the_last_one_lets_all_others_go() {
        let rush = Rush::default();
        rush.enter("a");
        rush.enter("b");
        let left = Mutex::new(0);
        let told = async {
            rush.over().await;
            *left.lock().expect("sound")
        };
        let leaving = async {
            for uid in ["a", "b"] {
                tokio::task::yield_now().await;
                *left.lock().expect("sound") += 1;
                rush.leave(uid);
            }
        };
        assert_eq!(tokio::join!(told, leaving).0, 2);
    }

    #[tokio::test]
    async fn one_that_does_not_come_back_holds_nobody_up_for_long() {
        let rush = Rush::default();
        let began = Instant::now();
        rush.enter("a");
        rush.over().await;
        assert!(began.elapsed() >= PATIENCE);
        // The next one finds that it has gone.
        rush.enter("b");
        rush.leave("b");
        assert_eq!(*rush.count.borrow(), 0);
    }
}
