use serde_json::json;

use super::*;

#[test]
fn what_fails_goes_into_what_was_published_and_nothing_else_changes() {
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "Settled", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let process: Process = serde_json::from_value(json!({
        "apiVersion": "ameide.io/v1", "kind": "Process",
        "metadata": { "name": "l2o", "generation": 2 },
        "spec": {
            "image": "i", "definitionRef": { "id": "d", "tenantId": "t" },
            "temporal": { "namespace": "n", "taskQueue": "q" },
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [
                condition("Ready", "True"),
                condition("Reconciling", "False"),
                condition("example.com/Audited", "True"),
                condition("Degraded", "False"),
            ],
        },
    }))
    .expect("a Process");
    let old = process.status.clone().expect("a status");
    let failure = StepFailure::new(ErrorCategory::Unavailable, "etcd is slow");
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    let told = hindered(&old, &process, &failure, now);
    let shown: Vec<_> = told
        .iter()
        .map(|it| (it.type_.as_str(), it.status.as_str(), it.reason.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("Ready", "True", "Settled"),
            ("Reconciling", "True", "Unavailable"),
            ("Degraded", "True", "Unavailable"),
            ("DefinitionResolved", "Unknown", "Pending"),
            ("WorkersReady", "Unknown", "Pending"),
            ("DependenciesReady", "Unknown", "Pending"),
            ("MutableTag", "Unknown", "Pending"),
            ("TemporalReachable", "Unknown", "Pending"),
            ("Progressing", "Unknown", "Pending"),
            ("Draining", "Unknown", "Pending"),
            ("Stalled", "Unknown", "Pending"),
        ],
        "and what others have written is not ours"
    );
    let about_now = |it: &&Condition| it.observed_generation == Some(2);
    assert_eq!(told.iter().filter(about_now).count(), 10, "all but Ready");
    let again = ProcessStatus {
        conditions: told.clone(),
        ..old
    };
    assert_eq!(hindered(&again, &process, &failure, now), told, "told once");
}

#[test]
fn a_process_that_nobody_has_looked_at_is_not_ready_and_has_all_conditions() {
    let process: Process = serde_json::from_value(json!({
        "apiVersion": "ameide.io/v1", "kind": "Process",
        "metadata": { "name": "l2o", "generation": 1 },
        "spec": {
            "image": "i", "definitionRef": { "id": "d", "tenantId": "t" },
            "temporal": { "namespace": "n", "taskQueue": "q" },
        },
    }))
    .expect("a Process");
    let failure = StepFailure::new(ErrorCategory::Unavailable, "etcd is slow");
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    let told = hindered(&ProcessStatus::default(), &process, &failure, now);
    for kind in ConditionType::iter() {
        let expected = match kind {
            ConditionType::Ready => "False",
            ConditionType::Degraded | ConditionType::Reconciling => "True",
            _ => "Unknown",
        };
        let found = find(&told, kind).map(|it| it.status.as_str());
        assert_eq!(found, Some(expected), "{kind}");
    }
}

#[test]
fn of_draining_versions_as_many_are_published_as_the_schema_takes() {
    let version = |n: usize| VersionStatus {
        build_id: format!("v{n}"),
        ..VersionStatus::default()
    };
    let view = StatusView {
        draining: (0..=MAX_DRAINING).map(version).collect(),
        ..StatusView::default()
    };
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    let shown = render(&ProcessStatus::default(), &view, now).draining;
    let shown: Vec<&str> = shown.iter().map(|it| it.build_id.as_str()).collect();
    let expected: Vec<String> = (0..100).map(|n| format!("v{n}")).collect();
    assert_eq!(shown, expected);
}
