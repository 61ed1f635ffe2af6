use super::*;

const REQUIRED: [(&str, &str); 3] = [
    ("TEMPORAL_ADDRESS", "temporal:7233"),
    ("TEMPORAL_NAMESPACE", "default"),
    ("TASK_QUEUE", "orders"),
];

fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_lookup(|name| {
        vars.iter()
            .rev() // The last one wins, as in a shell.
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn with(extra: &[(&str, &str)]) -> Result<Config, ConfigError> {
    read(&[&REQUIRED[..], extra].concat())
}

#[test]
fn the_required_variables_are_enough() {
    let config = with(&[]).unwrap();
    assert_eq!(config.address, "temporal:7233");
    assert_eq!(config.namespace, "default");
    assert_eq!(config.task_queue, "orders");
    assert_eq!(config.version(), None);
    assert_eq!(config.max_activities, DEFAULT_MAX_ACTIVITIES);
    assert_eq!(config.metrics_port, None);
    assert_eq!(config.faults, Faults::default());
}

#[test]
fn each_missing_variable_is_named() {
    for (missing, _) in REQUIRED {
        let vars: Vec<_> = REQUIRED.into_iter().filter(|v| v.0 != missing).collect();
        let error = read(&vars).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn empty_means_unset() {
    let error = with(&[("TEMPORAL_NAMESPACE", "")]).unwrap_err();
    assert!(matches!(
        error,
        ConfigError::Missing {
            name: "TEMPORAL_NAMESPACE",
            ..
        }
    ));
    assert_eq!(with(&[("METRICS_PORT", "")]).unwrap().metrics_port, None);
}

#[test]
fn the_task_queue_has_two_names() {
    let both = with(&[("TEMPORAL_TASK_QUEUE", "other")]).unwrap();
    assert_eq!(both.task_queue, "orders");
    let second = with(&[("TASK_QUEUE", ""), ("TEMPORAL_TASK_QUEUE", "other")]).unwrap();
    assert_eq!(second.task_queue, "other");
}

#[test]
fn a_version_needs_both_names() {
    let name = ("TEMPORAL_DEPLOYMENT_NAME", "shop/orders");
    let build = ("TEMPORAL_WORKER_BUILD_ID", "v2-0a1b2c3d");
    assert_eq!(with(&[name]).unwrap().version(), None);
    assert_eq!(with(&[build]).unwrap().version(), None);

    let version = with(&[name, build]).unwrap().version().unwrap();
    assert_eq!(version.deployment_name, "shop/orders");
    assert_eq!(version.build_id, "v2-0a1b2c3d");
    assert_eq!(version.behavior, Behavior::Pinned);

    let config = with(&[name, build, ("VERSIONING_BEHAVIOR", "AutoUpgrade")]).unwrap();
    assert_eq!(config.version().unwrap().behavior, Behavior::AutoUpgrade);

    let ignoring = with(&[name, build, ("IGNORE_VERSIONING", "1")]).unwrap();
    assert_eq!(ignoring.version(), None);
    assert_eq!(ignoring.build_id, "v2-0a1b2c3d");
}

#[test]
fn the_faults_are_read() {
    let config = with(&[
        ("FAIL_PERCENT", "30"),
        ("FAIL_TASK_PERCENT", "100"),
        ("FAIL_VERIFY", "1"),
        ("CRASH_AT_START", "true"),
        ("CRASH_AFTER_MS", "9000"),
        ("NEVER_POLL", "1"),
        ("IGNORE_VERSIONING", "1"),
        ("BREAK_DETERMINISM", "1"),
        ("START_DELAY_MS", "1500"),
    ])
    .unwrap();
    assert_eq!(
        config.faults,
        Faults {
            fail_percent: 30,
            fail_task_percent: 100,
            fail_verify: true,
            crash_at_start: true,
            crash_after_ms: 9000,
            never_poll: true,
            ignore_versioning: true,
            break_determinism: true,
            start_delay_ms: 1500,
        }
    );
    assert_eq!(
        with(&[("NEVER_POLL", "0"), ("CRASH_AT_START", "false")])
            .unwrap()
            .faults,
        Faults::default()
    );
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_what_would_be() {
    for (name, value) in [
        ("FAIL_PERCENT", "101"),
        ("FAIL_PERCENT", "-1"),
        ("CRASH_AT_START", "yes please"),
        ("START_DELAY_MS", "1s"),
        ("CRASH_AFTER_MS", "soon"),
        ("METRICS_PORT", "70000"),
        ("HEALTH_PORT", "0"),
        ("MAX_CONCURRENCY_PER_TENANT", "0"),
        ("VERSIONING_BEHAVIOR", "pinned"),
        ("METRICS_TAGS", "tenant=a"),
        ("METRICS_TAGS", r#"{"tenant":1}"#),
    ] {
        let error = with(&[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert!(error.contains("must be"), "{error}");
    }
}

#[test]
fn numbers_and_ports_are_read() {
    let config = with(&[
        ("MAX_CONCURRENCY_PER_TENANT", "3"),
        ("METRICS_PORT", "9464"),
        ("HEALTH_PORT", "8080"),
    ])
    .unwrap();
    assert_eq!(config.max_activities, 3);
    assert_eq!(config.metrics_port, Some(9464));
    assert_eq!(config.health_port, Some(8080));
}

#[test]
fn metric_tags_become_label_names() {
    let tags = r#"{"tenant":"a-b","app.kubernetes.io/name":"x","9lives":"cat","namespace":"n"}"#;
    let labels = with(&[("METRICS_TAGS", tags)]).unwrap().metric_labels();
    let expected = [
        ("_9lives", "cat"),
        ("app_kubernetes_io_name", "x"),
        ("tag_namespace", "n"),
        ("tenant", "a-b"),
    ];
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(labels, expected);
}

#[test]
fn the_pod_name_wins_over_the_host_name() {
    let config = with(&[("POD_NAME", "orders-1"), ("HOSTNAME", "node")]).unwrap();
    assert_eq!(config.pod, "orders-1");
    assert!(config.identity().ends_with("@orders-1"));
    assert_eq!(with(&[("HOSTNAME", "node")]).unwrap().pod, "node");
    assert!(!with(&[]).unwrap().pod.is_empty());
}
