//! Events about a Process, in `events.k8s.io/v1`.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use process_operator_crds::Process;
use process_operator_crds::conditions::truncate;
use process_operator_workflows::contract::{EventType, ProcessKey};

use crate::build::hash;
use crate::context::Context;
use crate::error::{Fault, Result};

/// Limit of `note` set by the API server.
const NOTE: usize = 1024;

/// What is told in an Event about a Process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The name of the Event derives from it: recorded again, the API server refuses the second one.
    pub id: String,
    /// What it is about.
    pub key: ProcessKey,
    /// Normal or Warning.
    pub kind: EventType,
    /// For programs.
    pub reason: String,
    /// What was being done.
    pub action: String,
    /// For people. Cut to what the API server takes.
    pub text: String,
    /// Name and uid of the Deployment of the version it is about, if there is one.
    pub deployment: Option<(String, String)>,
}

impl Note {
    /// About the Process, by whoever has observed something. Every replica makes the same `id` of that, and the API
    /// server takes the first.
    pub fn new(id: String, key: ProcessKey, kind: EventType, reason: &str, text: String) -> Self {
        Self {
            id,
            key,
            kind,
            reason: reason.to_owned(),
            action: "Observe".to_owned(),
            text,
            deployment: None,
        }
    }
}

/// Creates an Event. `false` when it was there already.
pub async fn create(kube: &kube::Client, instance: &str, note: &Note) -> kube::Result<bool> {
    let key = &note.key;
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", key.name, hash::short(note.id.as_bytes()))),
            namespace: Some(key.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(jiff::Timestamp::now())),
        reporting_controller: Some("ameide.io/process-operator".into()),
        reporting_instance: Some(instance.to_owned()),
        action: Some(note.action.clone()),
        reason: Some(note.reason.clone()),
        note: Some(truncate(&note.text, NOTE).to_owned()),
        type_: Some(match note.kind {
            EventType::Normal => "Normal".into(),
            EventType::Warning => "Warning".into(),
        }),
        regarding: Some(ObjectReference {
            api_version: Some("ameide.io/v1".into()),
            kind: Some("Process".into()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(key.uid.clone()),
            ..ObjectReference::default()
        }),
        related: note.deployment.as_ref().map(|(name, uid)| ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some("Deployment".into()),
            name: Some(name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(kube.clone(), &key.namespace);
    match api.create(&PostParams::default(), &event).await {
        Ok(_) => Ok(true),
        // Not one that was refused for a conflict, as quotas do.
        Err(kube::Error::Api(answer)) if answer.reason == "AlreadyExists" => Ok(false),
        Err(error) => Err(error),
    }
}

/// Records an Event. Its name derives from the note's id: recorded again after a crash, it is the same one.
pub(crate) async fn record(context: &Context, process: &Process, note: &Note) -> Result<()> {
    let reason = &note.reason;
    match create(&context.kube, &context.instance, note).await {
        Ok(true) => {
            count(context, process, reason);
            Ok(())
        }
        Ok(false) => Ok(()),
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
