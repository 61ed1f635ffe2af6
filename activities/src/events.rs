//! Events about a Process, in `events.k8s.io/v1`.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use process_operator_crds::Process;
use process_operator_crds::conditions::truncate;
use process_operator_workflows::contract::EventType;

use crate::build::hash;
use crate::context::Context;
use crate::error::{Fault, Result};

/// Limit of `note` set by the API server.
const NOTE: usize = 1024;

/// Records an Event. Its name derives from `id`: recorded again after a crash, the API server
/// refuses the second one.
pub(crate) async fn record(
    context: &Context,
    process: &Process,
    id: &str,
    kind: EventType,
    reason: &str,
    action: &str,
    note: &str,
) -> Result<()> {
    let namespace = process.namespace().unwrap_or_default();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}.{}",
                process.name_any(),
                hash::short(id.as_bytes())
            )),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(jiff::Timestamp::now())),
        reporting_controller: Some("ameide.io/process-operator".into()),
        reporting_instance: Some(context.instance.clone()),
        action: Some(action.to_owned()),
        reason: Some(reason.to_owned()),
        note: Some(truncate(note, NOTE).to_owned()),
        type_: Some(match kind {
            EventType::Normal => "Normal".into(),
            EventType::Warning => "Warning".into(),
        }),
        regarding: Some(ObjectReference {
            api_version: Some("ameide.io/v1".into()),
            kind: Some("Process".into()),
            name: process.metadata.name.clone(),
            namespace: Some(namespace.clone()),
            uid: process.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(context.kube.clone(), &namespace);
    match api.create(&PostParams::default(), &event).await {
        Ok(_) => {
            count(context, process, reason);
            Ok(())
        }
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
        // An Event is for information; in a namespace on its way out it cannot be written.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 403 | 404 | 422) => {
            tracing::warn!(reason, "Event not recorded: {}", answer.message);
            Ok(())
        }
        Err(error) => Err(Fault::from(error).about("recording an Event")),
    }
}

/// Each Event is recorded by one replica, once: what it tells of is counted with it.
fn count(context: &Context, process: &Process, reason: &str) {
    context.meter.event(reason);
    let outcome = match reason {
        "VersionCurrent" => "completed",
        "RolloutFailed" => "failed",
        _ => return,
    };
    let status = process.status.as_ref();
    let rollout = status.and_then(|status| status.rollout.as_ref());
    if let Some(started) = rollout.and_then(|rollout| rollout.started_time.as_ref()) {
        let took = jiff::Timestamp::now().duration_since(started.0);
        context.meter.rollout(outcome, took.as_secs_f64());
    }
}
