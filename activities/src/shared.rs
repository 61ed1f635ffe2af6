//! One look that many wait for.
//!
//! A hundred Processes that are deleted together ask the same question about one Temporal namespace,
//! whose server answers ten of that kind a second.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::error::Result;

/// Answers a question for all who asked before the look for it began.
#[derive(Debug, Default)]
pub(crate) struct SharedLook<T> {
    asked: AtomicU64,
    /// Up to which question the answer is good.
    answer: Mutex<(u64, Option<T>)>,
}

impl<T: Clone> SharedLook<T> {
    /// The answer of a look that began after this was asked: one's own or somebody else's.
    pub(crate) async fn ask(&self, look: impl Future<Output = Result<T>>) -> Result<T> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut held = self.answer.lock().await;
        if held.0 >= mine
            && let Some(answer) = &held.1
        {
            return Ok(answer.clone());
        }
        let good_for = self.asked.load(Ordering::SeqCst);
        let answer = look.await?;
        // Kept only as long as somebody waits for it.
        let waited_for = good_for > mine;
        *held = (good_for, waited_for.then(|| answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use process_operator_crds::ErrorCategory;

    use super::*;
    use crate::error::Fault;

    #[tokio::test]
    async fn those_who_wait_share_the_look_that_began_after_they_asked() {
        let shared = Arc::new(SharedLook::<u64>::default());
        let looks = Arc::new(AtomicU64::new(0));
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (shared, looks) = (shared.clone(), looks.clone());
            asking.spawn(async move {
                let look = async {
                    let n = looks.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok(n)
                };
                shared.ask(look).await
            });
        }
        let answers = asking.join_all().await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(
            looks.load(Ordering::SeqCst),
            2,
            "the first one's, then one for all"
        );
        assert_eq!(
            shared.ask(async { Ok(7) }).await,
            Ok(7),
            "later is another look"
        );
    }

    #[tokio::test]
    async fn a_look_that_fails_is_done_again_by_the_next() {
        let shared = SharedLook::<u64>::default();
        let away = Fault::new(ErrorCategory::TemporalUnavailable, "away");
        let failed = shared.ask(async { Err(away.clone()) }).await;
        assert_eq!(failed, Err(away));
        assert_eq!(shared.ask(async { Ok(1) }).await, Ok(1));
    }
}
