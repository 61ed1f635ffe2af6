//! Whether the steps of a plan are still to be taken.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use process_operator_crds::Process;
use process_operator_workflows::contract::ActInput;

use super::{Scene, read};
use crate::context::{Context, Recent};
use crate::error::Result;

/// After this long it is asked again, before the next write, whether the steps are still wanted. A process
/// that was stopped in the middle of them, or in the look before them, goes on where it was, and by then another one has
/// its task. Less than the time that Temporal gives a workflow task without a sign of life.
const STALE: Duration = Duration::from_secs(3);

/// The Process that the steps were planned for: as just observed by this process, or read again.
/// `None` when it has changed since.
pub(super) async fn current(context: &Context, input: &ActInput) -> Result<Option<Recent>> {
    if let Some(recent) = context.recall(&input.key.uid)
        && fits(&recent.process, input)
    {
        return Ok(Some(recent));
    }
    let asked_at = Instant::now();
    let found = read(context, &input.key).await?;
    let found = found.filter(|found| fits(found, input)).map(Arc::new);
    Ok(found.map(|process| Recent { process, asked_at }))
}

/// It is what the steps were planned for.
fn fits(process: &Process, input: &ActInput) -> bool {
    process.metadata.uid.as_deref() == Some(input.key.uid.as_str())
        && process.metadata.generation.unwrap_or(0) == input.generation
}

/// Whether the steps are still to be taken: asked of the API server when the last answer is old.
pub(super) async fn still_wanted(scene: &Scene<'_>, input: &ActInput) -> Result<bool> {
    let asked_at = *scene
        .wanted_at
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if asked_at.elapsed() < STALE {
        return Ok(true);
    }
    let found = Box::pin(crate::error::within(look_again(scene, input))).await?;
    Ok(found.is_some())
}

/// The Process as the API server shows it now, if the steps are still to be taken on it.
pub(super) async fn look_again(scene: &Scene<'_>, input: &ActInput) -> Result<Option<Process>> {
    let asked_at = Instant::now();
    let found = read(scene.context, scene.key).await?;
    let found = found.filter(|found| fits(found, input) && !outlived(found, input.decided));
    if found.is_some() {
        *scene
            .wanted_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = asked_at;
    }
    Ok(found)
}

/// Whether the status tells of something that was decided after this task had begun. Then the task was
/// given to another replica meanwhile, as when this one was stopped with it in its hands: what it
/// remembers is past, and Temporal will refuse what it makes of it. Both times are the server's.
pub(super) fn outlived(process: &Process, decided: Option<jiff::Timestamp>) -> bool {
    let told = process.status.iter().flat_map(|status| &status.history);
    decided.is_some_and(|decided| told.into_iter().any(|entry| entry.time.0 > decided))
}
