//! Changes of routing where Temporal does not hold it: see [`crate::routes`].

use jiff::Timestamp;
use process_operator_crds::spec::Versioning;
use process_operator_crds::{ErrorCategory, names};
use process_operator_workflows::contract::{ProcessKey, SetCurrentInput, SetWeightInput, after};

use crate::context::Context;
use crate::error::{Fault, Result, within};
use crate::pods;
use crate::routes::{self, Routes, Stored};
use crate::sent::Sent;
use crate::wait::{left, serving};

/// Sends all new executions to a version. Repeating it changes nothing. With `versioning: None` the
/// pods of the version that serves are replaced first; when that does not succeed they are put back.
pub(crate) async fn set_current(
    context: &Context,
    input: &SetCurrentInput,
    begun: Timestamp,
    sent: &Sent,
) -> Result<()> {
    let (key, build_id) = (&input.key, &input.build_id);
    let scope = (input.versioning, input.task_queue.as_str(), sent);
    let mut stored = within(routes::read(context, key)).await?;
    if let Some(expected) = &input.expected
        && stored.routes.current != *build_id
        && let Some(fault) = routes::disturbed(key, &stored, build_id, expected)
    {
        return Err(fault);
    }
    let replaces = !stored.routes.current.is_empty() && stored.routes.current != *build_id;
    if input.versioning == Versioning::None && replaces {
        let promoting = Routes {
            promoting: build_id.clone(),
            ..stored.routes.clone()
        };
        stored = put(context, key, scope, stored, promoting).await?;
        let ready = pods_ready(
            context,
            key,
            &key.name,
            build_id,
            (begun, input.ready_within),
        );
        if let Err(fault) = ready.await {
            if fault.category == ErrorCategory::ProgressDeadlineExceeded {
                let back = without(&stored.routes, build_id);
                put(context, key, scope, stored, back).await?;
            }
            return Err(fault);
        }
    }
    let mut wanted = Routes {
        current: build_id.clone(),
        served: stored.routes.served.clone(),
        ..Routes::default()
    };
    if stored.routes.current != *build_id {
        let now = Timestamp::now();
        if replaces {
            wanted.served.insert(stored.routes.current.clone(), now);
        }
        wanted.served.insert(build_id.clone(), now);
    }
    put(context, key, scope, stored, wanted).await.map(|_| ())
}

/// Sets the share of a version, or takes it back. Repeating it changes nothing. With
/// `versioning: None` it ends when the pods of the share are ready.
pub(crate) async fn set_weight(
    context: &Context,
    input: &SetWeightInput,
    begun: Timestamp,
    sent: &Sent,
) -> Result<()> {
    let (key, build_id) = (&input.key, &input.build_id);
    let scope = (input.versioning, input.task_queue.as_str(), sent);
    let stored = within(routes::read(context, key)).await?;
    if input.percent == 0 {
        let wanted = taken_back(&stored.routes, build_id, input.back_to.as_deref());
        return put(context, key, scope, stored, wanted).await.map(|_| ());
    }
    let done = stored.routes.ramping == *build_id && stored.routes.percent == input.percent;
    if let Some(expected) = &input.expected
        && !done
        && let Some(fault) = routes::disturbed(key, &stored, build_id, expected)
    {
        return Err(fault);
    }
    let wanted = shared(&stored.routes, input, Timestamp::now());
    put(context, key, scope, stored, wanted).await?;
    if input.versioning == Versioning::None {
        let canary = names::canary_name(&key.name);
        pods_ready(context, key, &canary, build_id, (begun, input.ready_within)).await?;
    }
    Ok(())
}

/// The routing with a share for a version.
fn shared(routes: &Routes, input: &SetWeightInput, now: Timestamp) -> Routes {
    // A rollout that takes the routing back knows what it took its share from.
    let expected = input.expected.as_ref().filter(|_| input.take_over);
    let current = input
        .current
        .as_ref()
        .or(expected.map(|expected| &expected.current))
        .unwrap_or(&routes.current);
    let mut served = routes.served.clone();
    // What somebody else has put there was given workflows, which are to be drained.
    let replaced = &routes.current;
    if !replaced.is_empty() && ![current, &input.build_id].contains(&replaced) {
        served.insert(replaced.clone(), now);
    }
    Routes {
        current: current.clone(),
        ramping: input.build_id.clone(),
        percent: input.percent,
        promoting: String::new(),
        served,
    }
}

/// The routing without a share for a version.
fn without(routes: &Routes, build_id: &str) -> Routes {
    let mut left = routes.clone();
    if left.ramping == build_id {
        left.ramping = String::new();
        left.percent = 0;
    }
    if left.promoting == build_id {
        left.promoting = String::new();
    }
    left
}

/// The routing without anything for a version. One that was current for a moment has served: what it was given
/// is still to be drained.
fn taken_back(routes: &Routes, build_id: &str, back_to: Option<&str>) -> Routes {
    let mut left = without(routes, build_id);
    if let Some(back_to) = back_to
        && left.current == build_id
        && back_to != build_id
    {
        back_to.clone_into(&mut left.current);
    }
    left
}

/// Writes what differs, and says what is stored then.
async fn put(
    context: &Context,
    key: &ProcessKey,
    (versioning, task_queue, sent): (Versioning, &str, &Sent),
    stored: Stored,
    wanted: Routes,
) -> Result<Stored> {
    if stored.routes == wanted {
        return Ok(stored);
    }
    let written = within(async {
        let scope = (versioning, task_queue);
        routes::write(context, key, scope, &stored, &wanted, sent).await?;
        routes::read(context, key).await
    });
    Box::pin(written).await
}

/// Waits until a Deployment has the pods of a version, all of them ready. The lifecycle makes them,
/// told by the change of the routing.
async fn pods_ready(
    context: &Context,
    key: &ProcessKey,
    name: &str,
    build_id: &str,
    (begun, seconds): (Timestamp, Option<i64>),
) -> Result<()> {
    let seconds = seconds.unwrap_or(600);
    let time = left(after(begun, seconds));
    let ready = serving::available(context, key, name, Some(build_id));
    if let Ok(result) = tokio::time::timeout(time, ready).await {
        return result;
    }
    let seen = context.cache.workload(&key.namespace, name);
    let (ready, all) = seen.map_or((0, 0), |seen| (seen.ready_replicas, seen.replicas));
    let of = pods::Of {
        namespace: &key.namespace,
        process: &key.name,
        build_id,
        deployment: name,
    };
    let why = pods::trouble(context, of).await;
    Err(Fault::new(
        ErrorCategory::ProgressDeadlineExceeded,
        format!(
            "progress deadline exceeded: {ready}/{all} pods of {name} are ready in {seconds} s{why}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_share_is_taken_back() {
        let routes = Routes {
            current: "v1".into(),
            ramping: "v2".into(),
            percent: 25,
            promoting: "v2".into(),
            ..Routes::default()
        };
        let left = without(&routes, "v2");
        let nothing_ramps = Routes {
            current: "v1".into(),
            ..Routes::default()
        };
        assert_eq!(left, nothing_ramps);
        assert_eq!(without(&routes, "v3"), routes);
    }

    #[test]
    fn a_share_leaves_current_as_it_is_unless_it_takes_the_routing_back() {
        let (before, now) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let by_hand = |current: &str| Routes {
            current: current.into(),
            served: [("v1".into(), before)].into(),
            ..Routes::default()
        };
        let asks = |current: Option<&str>| SetWeightInput {
            build_id: "v2".into(),
            percent: 10,
            take_over: true,
            current: current.map(str::to_owned),
            ..SetWeightInput::default()
        };
        let shared_by = |current: &str, served: &[(&str, Timestamp)]| Routes {
            current: current.into(),
            ramping: "v2".into(),
            percent: 10,
            served: served.iter().map(|(id, at)| ((*id).into(), *at)).collect(),
            ..Routes::default()
        };
        assert_eq!(
            shared(&by_hand("v9"), &asks(None), now),
            shared_by("v9", &[("v1", before)])
        );
        assert_eq!(
            shared(&by_hand("v9"), &asks(Some("v1")), now),
            shared_by("v1", &[("v1", before), ("v9", now)])
        );
        // The version of the rollout itself: it has a share as before, and has not served.
        assert_eq!(
            shared(&by_hand("v2"), &asks(Some("v1")), now),
            shared_by("v1", &[("v1", before)])
        );
        assert_eq!(
            shared(&by_hand("v1"), &asks(Some("v1")), now),
            shared_by("v1", &[("v1", before)])
        );
    }

    #[test]
    fn a_promotion_that_got_through_is_taken_back_where_that_is_asked_for() {
        let at = Timestamp::UNIX_EPOCH;
        let promoted = Routes {
            current: "v2".into(),
            served: [("v1".into(), at), ("v2".into(), at)].into(),
            ..Routes::default()
        };
        assert_eq!(taken_back(&promoted, "v2", None), promoted);
        assert_eq!(taken_back(&promoted, "v2", Some("v2")), promoted);
        assert_eq!(taken_back(&promoted, "v3", Some("v1")), promoted);
        let back = Routes {
            current: "v1".into(),
            ..promoted.clone()
        };
        assert_eq!(taken_back(&promoted, "v2", Some("v1")), back);
    }
}
