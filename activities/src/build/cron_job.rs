//! The CronJob for an entry of `spec.cronJobs`.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{Affinity, EnvVar, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use process_operator_crds::{names, spec};
use process_operator_workflows::contract::ProcessKey;

use super::revision::Kept;
use super::{hash, owner, template};

/// Name of the container.
pub const CONTAINER: &str = "job";

/// Builds the complete set of fields that we own, with the hash of it as annotation. What the pods are
/// made of comes from the version that `kept` keeps, as its workers run.
pub fn cron_job(key: &ProcessKey, job: &spec::CronJob, kept: &Kept) -> CronJob {
    let name = names::cron_job_name(&key.name, &job.name);
    let labels = labels(key, job, kept);
    let mut built = CronJob {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels.clone()),
            owner_references: Some(vec![owner(key)]),
            ..ObjectMeta::default()
        },
        spec: Some(CronJobSpec {
            schedule: job.schedule.clone(),
            time_zone: job.time_zone.clone(),
            concurrency_policy: Some(job.concurrency_policy.as_str().to_owned()),
            suspend: Some(job.suspend),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels.clone()),
                    ..ObjectMeta::default()
                }),
                spec: Some(JobSpec {
                    active_deadline_seconds: job.active_deadline_seconds,
                    template: pods(job, kept, labels),
                    ..JobSpec::default()
                }),
            },
            ..CronJobSpec::default()
        }),
        ..CronJob::default()
    };
    // Maps are ordered, so the same object always serialises to the same bytes.
    let applied = hash::short(&serde_json::to_vec(&built).unwrap_or_default());
    built.metadata.annotations = Some(BTreeMap::from([(
        super::deployment::APPLIED.to_owned(),
        applied,
    )]));
    built
}

/// Without the build id by which a Deployment finds its pods, and whoever looks for a version's.
fn labels(key: &ProcessKey, job: &spec::CronJob, kept: &Kept) -> BTreeMap<String, String> {
    let mut labels = template::labels(key, &kept.build_id);
    labels.remove(names::label::BUILD_ID);
    let own = [
        (names::label::APP_NAME, "process-cron-job"),
        (names::label::APP_COMPONENT, "cron-job"),
        (names::label::CRON_JOB, job.name.as_str()),
        (names::label::PURPOSE, job.purpose.as_str()),
        (names::label::PROCESS_UID, key.uid.as_str()),
    ];
    labels.extend(own.map(|(label, value)| (label.to_owned(), value.to_owned())));
    labels
}

fn pods(job: &spec::CronJob, kept: &Kept, mut labels: BTreeMap<String, String>) -> PodTemplateSpec {
    // Whatever finds workers by it, an anti-affinity or a disruption budget, is about workers: one that keeps
    // them apart would keep a run off each of their nodes.
    labels.remove(names::label::PROCESS);
    let worker = kept.template.spec.clone().unwrap_or_default();
    let of_worker = worker.containers.into_iter();
    let mut container = of_worker
        .into_iter()
        .find(|container| container.name == template::CONTAINER)
        .unwrap_or_default();
    container.name = CONTAINER.into();
    if let Some(image) = &job.image {
        container.image = Some(image.clone());
    }
    let some = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    container.command = some(&job.command);
    container.args = some(&job.args);
    if let Some(resources) = &job.resources {
        container.resources = Some(resources.clone().into());
    }
    container.ports = None;
    container.liveness_probe = None;
    container.readiness_probe = None;
    let told = [
        (names::env::PROCESS_CRON_JOB, job.name.as_str()),
        (names::env::PROCESS_CRON_JOB_PURPOSE, job.purpose.as_str()),
    ];
    let env = container.env.get_or_insert_default();
    env.extend(told.map(|(name, value)| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    }));
    let annotations = kept.template.metadata.clone();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: annotations.and_then(|metadata| metadata.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            restart_policy: Some("Never".into()),
            // Where a worker may run its job may; how workers lie to each other and to other pods is not about it.
            affinity: on_nodes(worker.affinity),
            topology_spread_constraints: None,
            ..worker
        }),
    }
}

/// What an affinity says of nodes.
fn on_nodes(affinity: Option<Affinity>) -> Option<Affinity> {
    let node_affinity = affinity?.node_affinity?;
    Some(Affinity {
        node_affinity: Some(node_affinity),
        ..Affinity::default()
    })
}

/// The hash that a CronJob carries.
pub fn applied(found: &CronJob) -> String {
    super::deployment::applied_of(&found.metadata)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        Container, ContainerPort, NodeAffinity, PodAffinity, PodAntiAffinity, Probe,
    };

    use super::*;

    fn key() -> ProcessKey {
        ProcessKey {
            namespace: "apps".into(),
            name: "l2o".into(),
            uid: "u-1".into(),
        }
    }

    fn kept() -> Kept {
        let worker = Container {
            name: template::CONTAINER.into(),
            image: Some("worker:v1".into()),
            command: Some(vec!["/worker".into()]),
            env: Some(vec![EnvVar {
                name: "TASK_QUEUE".into(),
                value: Some("q".into()),
                ..EnvVar::default()
            }]),
            ports: Some(vec![ContainerPort::default()]),
            liveness_probe: Some(Probe::default()),
            ..Container::default()
        };
        Kept {
            build_id: "v1-0".into(),
            template: PodTemplateSpec {
                spec: Some(PodSpec {
                    containers: vec![worker],
                    service_account_name: Some("worker".into()),
                    ..PodSpec::default()
                }),
                ..PodTemplateSpec::default()
            },
        }
    }

    fn job(change: &serde_json::Value) -> spec::CronJob {
        let mut job = serde_json::json!({
            "name": "sla", "purpose": "SLACheck", "schedule": "*/5 * * * *", "args": ["check"],
        });
        if let (Some(job), Some(change)) = (job.as_object_mut(), change.as_object()) {
            job.extend(change.clone());
        }
        serde_json::from_value(job).expect("a cron job")
    }

    #[test]
    fn it_is_the_worker_with_other_words_and_without_what_only_workers_have() {
        let built = cron_job(&key(), &job(&serde_json::json!({})), &kept());
        assert_eq!(built.metadata.name.as_deref(), Some("l2o-sla"));
        let spec = built.spec.expect("a spec");
        let template = spec.job_template.spec.expect("a job").template;
        let labels = template.metadata.expect("metadata").labels.expect("labels");
        assert!(!labels.contains_key(names::label::BUILD_ID), "{labels:?}");
        let pod = template.spec.expect("a pod");
        assert_eq!(pod.service_account_name.as_deref(), Some("worker"));
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
        let container = &pod.containers[0];
        assert_eq!(container.image.as_deref(), Some("worker:v1"));
        assert_eq!(container.command, None);
        assert_eq!(container.args, Some(vec!["check".to_owned()]));
        assert!(container.ports.is_none() && container.liveness_probe.is_none());
        let env: Vec<_> = container.env.iter().flatten().collect();
        let names: Vec<_> = env.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(
            names,
            ["TASK_QUEUE", "PROCESS_CRON_JOB", "PROCESS_CRON_JOB_PURPOSE"]
        );
    }

    fn pod_template(kept: &Kept) -> PodTemplateSpec {
        let built = cron_job(&key(), &job(&serde_json::json!({})), kept);
        let spec = built.spec.expect("a spec").job_template.spec;
        spec.expect("a job").template
    }

    #[test]
    fn it_stays_away_from_no_pod_and_no_worker_stays_away_from_it() {
        let mut kept = kept();
        let spec = kept.template.spec.as_mut().expect("a spec");
        spec.affinity = Some(Affinity {
            node_affinity: Some(NodeAffinity::default()),
            pod_affinity: Some(PodAffinity::default()),
            pod_anti_affinity: Some(PodAntiAffinity::default()),
        });
        let pods = pod_template(&kept);
        let affinity = pods.spec.and_then(|pod| pod.affinity);
        let of_nodes = Affinity {
            node_affinity: Some(NodeAffinity::default()),
            ..Affinity::default()
        };
        assert_eq!(affinity, Some(of_nodes));
        let labels = pods.metadata.and_then(|it| it.labels).expect("labels");
        assert!(!labels.contains_key(names::label::PROCESS), "{labels:?}");
        assert_eq!(labels[names::label::APP_PART_OF], "l2o");
        // The objects are found by it.
        let built = cron_job(&key(), &job(&serde_json::json!({})), &kept);
        let runs = built.spec.and_then(|spec| spec.job_template.metadata);
        for metadata in [Some(built.metadata), runs] {
            let labels = metadata.and_then(|it| it.labels).expect("labels");
            assert_eq!(labels[names::label::PROCESS], "l2o");
        }

        let spec = kept.template.spec.as_mut().expect("a spec");
        spec.affinity.as_mut().expect("an affinity").node_affinity = None;
        let pods = pod_template(&kept);
        assert_eq!(pods.spec.and_then(|pod| pod.affinity), None);
    }

    #[test]
    fn every_field_changes_the_hash() {
        let before = applied(&cron_job(&key(), &job(&serde_json::json!({})), &kept()));
        for change in [
            serde_json::json!({ "name": "sla2" }),
            serde_json::json!({ "purpose": "Cleanup" }),
            serde_json::json!({ "schedule": "@daily" }),
            serde_json::json!({ "timeZone": "Europe/Berlin" }),
            serde_json::json!({ "image": "tool:v1" }),
            serde_json::json!({ "command": ["/tool"] }),
            serde_json::json!({ "args": ["other"] }),
            serde_json::json!({ "concurrencyPolicy": "Replace" }),
            serde_json::json!({ "activeDeadlineSeconds": 60 }),
            serde_json::json!({ "suspend": true }),
            serde_json::json!({ "resources": { "limits": { "memory": "64Mi" } } }),
        ] {
            let after = applied(&cron_job(&key(), &job(&change), &kept()));
            assert_ne!(before, after, "{change}");
        }
    }
}
