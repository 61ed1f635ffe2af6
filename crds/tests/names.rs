//! Names are frozen: what is written here is carried by objects and workflows of running systems.
//! If one of these tests fails, do not change the expectation; change the code back, or write a
//! migration.

use process_operator_crds::{
    Process, ProcessSpec,
    names::{
        BuildId, MAX_BUILD_ID, MAX_PROCESS_NAME, ManagerIdentity, ProcessKey, Version, WorkflowId,
        annotation, env, finalizer, label, manager, queue, selector, version_hash, version_input,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

const UID: &str = "72b3aa7f-db86-42a7-9721-1ee72be8526f";

fn minimal() -> Value {
    json!({
        "image": "registry.example/worker:v1",
        "definitionRef": {"id": "L2O_v3", "tenantId": "t123"},
        "temporal": {"namespace": "default", "taskQueue": "case"},
    })
}

fn specification() -> Value {
    json!({
        "image": "ghcr.io/ameide/l2o-process:0.7.0",
        "imagePullPolicy": "IfNotPresent",
        "definitionRef": {"id": "L2O_v3", "tenantId": "t123"},
        "temporal": {"namespace": "sales-process", "taskQueue": "l2o-tq"},
        "rollout": {"strategy": "RollingUpdate", "maxConcurrencyPerTenant": 100},
        "observability": {"metricsTags": {"processType": "L2O"}},
    })
}

/// All fields of the first release.
fn everything() -> Value {
    serde_json::from_str(include_str!("golden/everything.json")).expect("JSON")
}

fn spec(value: Value) -> ProcessSpec {
    serde_json::from_value(value).expect("a spec")
}

fn with(mut base: Value, field: &str, value: Value) -> ProcessSpec {
    base[field] = value;
    spec(base)
}

fn hash(spec: &ProcessSpec) -> String {
    version_hash(spec).expect("a spec is JSON").to_string()
}

fn key() -> ProcessKey {
    ProcessKey {
        namespace: "sales".into(),
        name: "l2o".into(),
        uid: UID.into(),
    }
}

#[test]
fn versions() {
    for (name, manifest, build_id, deployment) in [
        ("minimal", minimal(), "v1-0b4acdd7", "case-0b4acdd7"),
        (
            "specification",
            specification(),
            "0.7.0-2f9aa27c",
            "case-2f9aa27c",
        ),
        (
            "everything",
            everything(),
            "sha256-0123456789ab-7023c8ef",
            "case-7023c8ef",
        ),
    ] {
        let version = Version::new("case", &spec(manifest)).expect("a spec is JSON");
        assert_eq!(
            (version.build_id.as_str(), version.deployment_name.as_str()),
            (build_id, deployment),
            "{name}"
        );
        assert_eq!(version.build_id.hash(), Some(version.hash), "{name}");
    }
}

#[test]
fn what_is_hashed() {
    assert_eq!(
        version_input(&spec(specification())).expect("a spec is JSON"),
        concat!(
            r#"{"definitionRef":{"id":"L2O_v3","tenantId":"t123"},"#,
            r#""image":"ghcr.io/ameide/l2o-process:0.7.0","maxConcurrencyPerTenant":100,"#,
            r#""observability":{"metricsTags":{"processType":"L2O"}},"#,
            r#""temporal":{"namespace":"sales-process","taskQueue":"l2o-tq"}}"#
        )
    );
}

#[test]
fn ids() {
    let build_id = BuildId::from_observed("0.7.0-3f2a91bc");
    let key = key();
    assert_eq!(key.worker_deployment(), "sales/l2o");
    for (id, text) in [
        (
            key.lifecycle(),
            "process/sales/l2o/72b3aa7f-db86-42a7-9721-1ee72be8526f",
        ),
        (
            key.rollout(&build_id, 1),
            "rollout/sales/l2o/72b3aa7f-db86-42a7-9721-1ee72be8526f/0.7.0-3f2a91bc/1",
        ),
        (
            key.drain(&build_id, 12),
            "drain/sales/l2o/72b3aa7f-db86-42a7-9721-1ee72be8526f/0.7.0-3f2a91bc/12",
        ),
    ] {
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
    }
    let identity = ManagerIdentity::new("c1", UID);
    assert_eq!(
        identity.to_string(),
        "process-operator/c1/72b3aa7f-db86-42a7-9721-1ee72be8526f"
    );
    assert_eq!(identity.to_string().parse(), Ok(identity));
    assert_eq!(
        selector("l2o", &build_id),
        "ameide.io/process=l2o,ameide.io/build-id=0.7.0-3f2a91bc"
    );
}

#[test]
fn fixed_words() {
    assert_eq!(label::PROCESS, "ameide.io/process");
    assert_eq!(label::BUILD_ID, "ameide.io/build-id");
    assert_eq!(label::PROCESS_UID, "ameide.io/process-uid");
    assert_eq!(annotation::VERSION_HASH, "ameide.io/version-hash");
    assert_eq!(finalizer::PROCESS, "ameide.io/process-operator");
    assert_eq!(
        (manager::OPERATOR, manager::WATCHER),
        ("process-operator", "process-operator-watcher")
    );
    assert_eq!(
        (queue::MAIN, queue::WAITS, queue::ROUTING),
        (
            "process-operator",
            "process-operator-waits",
            "process-operator-routing"
        )
    );
}

#[test]
fn the_operators_variables_are_reserved() {
    for name in [
        env::TEMPORAL_ADDRESS,
        env::TEMPORAL_NAMESPACE,
        env::TASK_QUEUE,
        env::TEMPORAL_TASK_QUEUE,
        env::TEMPORAL_DEPLOYMENT_NAME,
        env::TEMPORAL_WORKER_BUILD_ID,
        env::TEMPORAL_API_KEY,
        env::PROCESS_NAME,
        env::PROCESS_DEFINITION_ID,
        env::PROCESS_TENANT_ID,
        env::MAX_CONCURRENCY_PER_TENANT,
        env::METRICS_TAGS,
        env::METRICS_PORT,
    ] {
        assert!(env::is_reserved(name), "{name}");
    }
    assert!(!env::is_reserved("MY_TASK_QUEUE"));
}

/// Each of these is written differently and means the same, or does not reach the pods.
#[test]
fn what_does_not_make_a_version() {
    let expected = hash(&spec(minimal()));
    for (field, value) in [
        ("imagePullPolicy", json!("IfNotPresent")),
        ("imagePullSecrets", json!([])),
        ("replicas", json!(7)),
        ("suspend", json!(true)),
        (
            "cronJobs",
            json!([{"name": "sla", "purpose": "SLACheck", "schedule": "@daily", "args": ["check"]}]),
        ),
        ("dependencies", json!({})),
        ("dependencies", json!({"eventing": {}})),
        (
            "dependencies",
            json!({"eventing": {"clusters": [], "bindings": []}}),
        ),
        (
            "drain",
            json!({ "timeoutSeconds": 5, "onTimeout": "Cancel", "deleteDelaySeconds": 0 }),
        ),
        ("rollout", json!({})),
        (
            "rollout",
            json!({"strategy": "RollingUpdate", "versioning": "WorkerVersioning"}),
        ),
        ("rollout", json!({"progressDeadlineSeconds": 30})),
        (
            "deletion",
            json!({"timeoutSeconds": 1, "onTimeout": "Terminate", "pauseSchedules": false}),
        ),
        ("observability", json!({})),
        ("observability", json!({"metricsTags": {}})),
        ("worker", json!({})),
        ("worker", Value::Null),
        (
            "worker",
            json!({"env": [], "resources": {}, "securityContext": {}, "podLabels": {}}),
        ),
        ("aFieldOfALaterRelease", json!({"x": 1})),
    ] {
        assert_eq!(
            hash(&with(minimal(), field, value.clone())),
            expected,
            "{field}: {value}"
        );
    }
}

#[test]
fn what_makes_a_version() {
    let mut seen = vec![hash(&spec(minimal()))];
    for (field, value) in [
        ("image", json!("registry.example/worker:v2")),
        ("imagePullPolicy", json!("Always")),
        ("imagePullSecrets", json!([{"name": "a"}])),
        ("definitionRef", json!({"id": "L2O_v4", "tenantId": "t123"})),
        ("definitionRef", json!({"id": "L2O_v3", "tenantId": "t124"})),
        (
            "temporal",
            json!({"namespace": "default", "taskQueue": "other"}),
        ),
        (
            "temporal",
            json!({"namespace": "default", "taskQueue": "case", "connectionSecretRef": {"name": "s"}}),
        ),
        ("rollout", json!({"maxConcurrencyPerTenant": 1})),
        ("rollout", json!({"versioning": "TaskQueuePerVersion"})),
        ("rollout", json!({"versioning": "None"})),
        ("observability", json!({"metricsPort": 9464})),
        (
            "dependencies",
            json!({"eventing": {"clusters": [{"name": "main", "bootstrapServers": "bus:9092"}]}}),
        ),
        ("observability", json!({"metricsTags": {"a": "b"}})),
        ("worker", json!({"args": ["a"]})),
        ("worker", json!({"args": ["a", ""]})),
        ("worker", json!({"command": ["a"]})),
        ("worker", json!({"env": [{"name": "A", "value": "1"}]})),
        ("worker", json!({"env": [{"name": "A", "value": ""}]})),
        (
            "worker",
            json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
        ),
        ("worker", json!({"affinity": {"podAntiAffinity": {}}})),
        ("worker", json!({"resources": {"limits": {"cpu": 1}}})),
        ("worker", json!({"terminationGracePeriodSeconds": 0})),
    ] {
        let hash = hash(&with(minimal(), field, value.clone()));
        assert!(!seen.contains(&hash), "{field}: {value}");
        seen.push(hash);
    }
}

/// Its content does, by its checksum.
#[test]
fn where_a_definition_is_fetched_from_makes_no_version() {
    let registry = json!({"url": "https://registry.example/l2o", "refreshSeconds": 60});
    let named = json!({"id": "L2O_v3", "tenantId": "t123", "registry": registry});
    assert_eq!(
        hash(&with(minimal(), "definitionRef", named)),
        hash(&spec(minimal()))
    );
}

#[test]
fn a_number_and_the_same_quantity_as_text_are_one_version() {
    let number = with(
        minimal(),
        "worker",
        json!({"resources": {"limits": {"cpu": 2}}}),
    );
    let text = with(
        minimal(),
        "worker",
        json!({"resources": {"limits": {"cpu": "2"}}}),
    );
    assert_eq!(hash(&number), hash(&text));
}

#[test]
fn a_process_knows_its_key_and_version_once_it_is_stored() {
    let mut process = Process::new("l2o", spec(specification()));
    assert_eq!(ProcessKey::of(&process), None);
    process.metadata.namespace = Some("sales".into());
    process.metadata.uid = Some(UID.into());
    assert_eq!(ProcessKey::of(&process), Some(key()));
    let version = Version::of(&process).expect("a spec is JSON");
    assert_eq!(
        version,
        Version::new("l2o", &process.spec).expect("a spec is JSON")
    );
}

/// Names that the definition admits.
fn process_name() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"
}

fn process_key() -> impl Strategy<Value = ProcessKey> {
    (
        "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        process_name(),
        "[0-9a-f]{8}-[0-9a-f]{4}",
    )
        .prop_map(|(namespace, name, uid)| ProcessKey {
            namespace,
            name,
            uid,
        })
}

/// Images that the definition admits, and some that it does not.
fn image() -> impl Strategy<Value = String> {
    prop_oneof![
        r"[a-z0-9./-]{1,30}(:[0-9]{2,5}/[a-z]{1,9})?(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?",
        r"\PC{0,200}",
    ]
}

fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_dns_label(text: &str, max: usize) -> bool {
    is_label_value(text)
        && text.len() <= max
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

proptest! {
    #[test]
    fn every_image_gives_valid_names(image in image(), name in process_name()) {
        let version = Version::new(&name, &with(minimal(), "image", json!(image))).expect("a spec is JSON");
        let build_id = version.build_id.as_str();
        prop_assert!(is_label_value(build_id), "{build_id:?}");
        prop_assert!(build_id.len() <= MAX_BUILD_ID);
        prop_assert!(name.len() <= MAX_PROCESS_NAME);
        prop_assert!(is_dns_label(&version.deployment_name, MAX_PROCESS_NAME + 9), "{}", version.deployment_name);
        prop_assert_eq!(version.build_id.hash(), Some(version.hash));
    }

    #[test]
    fn different_images_have_different_build_ids(a in image(), b in image()) {
        let one = Version::new("p", &with(minimal(), "image", json!(a))).expect("a spec is JSON");
        let other = Version::new("p", &with(minimal(), "image", json!(b))).expect("a spec is JSON");
        prop_assert_eq!(a == b, one.build_id == other.build_id);
        prop_assert_eq!(a == b, one.deployment_name == other.deployment_name);
    }

    #[test]
    fn different_variables_are_different_versions(
        a in prop::collection::vec(("[A-Z]{1,3}", "\\PC{0,5}"), 0..4),
        b in prop::collection::vec(("[A-Z]{1,3}", "\\PC{0,5}"), 0..4),
    ) {
        let worker = |env: &[(String, String)]| {
            let env: Vec<Value> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            with(minimal(), "worker", json!({"env": env}))
        };
        let (one, other) = (worker(&a), worker(&b));
        prop_assert_eq!(a == b, version_input(&one).expect("JSON") == version_input(&other).expect("JSON"));
        prop_assert_eq!(a == b, hash(&one) == hash(&other));
    }

    #[test]
    fn workflow_ids_can_be_read_back(key in process_key(), image in image(), n in 0..u32::MAX) {
        let version = Version::new(&key.name, &with(minimal(), "image", json!(image))).expect("a spec is JSON");
        for id in [key.lifecycle(), key.rollout(&version.build_id, n), key.drain(&version.build_id, n)] {
            let text = id.to_string();
            prop_assert!(text.len() <= 512, "the limit of status.workflow.id");
            prop_assert_eq!(id.process(), &key);
            prop_assert_eq!(text.parse::<WorkflowId>(), Ok(id));
        }
    }

    #[test]
    fn different_processes_share_no_name(a in process_key(), b in process_key()) {
        prop_assert_eq!(a == b, a.lifecycle() == b.lifecycle());
        prop_assert_eq!(a == b, a.lifecycle().to_string() == b.lifecycle().to_string());
        let same_place = a.namespace == b.namespace && a.name == b.name;
        prop_assert_eq!(same_place, a.worker_deployment() == b.worker_deployment());
    }

    #[test]
    fn no_text_is_read_as_an_id_it_is_not(text in "(process|rollout|drain|x)(/[a-z0-9+]{0,3}){0,7}") {
        if let Ok(id) = text.parse::<WorkflowId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
