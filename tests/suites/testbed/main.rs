//! The testbed keeps its promises: the other suites rely on them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use process_operator_tests::testbed::{PrivateTemporal, Testbed};

/// Polls until `condition` holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        sleep(Duration::from_millis(100));
    }
}

/// For tests that end a component of the testbed, or say of each that it runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A namespace of the test's own, deleted at its end.
struct Namespace<'a>(&'a Testbed, String);

impl<'a> Namespace<'a> {
    fn new(testbed: &'a Testbed, name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        testbed.create_namespace(&name).unwrap();
        Self(testbed, name)
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = self.0.kubectl();
        command.args(["--namespace", &self.1]).args(args);
        command
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        self.kubectl(&["delete", "namespace", &self.1, "--wait=false"])
            .output()
            .ok();
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn apply(namespace: &Namespace<'_>, object: &str) -> bool {
    let mut kubectl = namespace
        .kubectl(&["create", "--filename=-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = kubectl.stdin.take().unwrap();
    stdin.write_all(object.as_bytes()).unwrap();
    drop(stdin);
    kubectl.wait().unwrap().success()
}

fn http(base: &str, path: &str) -> Option<String> {
    let mut response = ureq::get(format!("{base}{path}")).call().ok()?;
    response.body_mut().read_to_string().ok()
}

#[test]
fn a_pod_reaches_temporal_by_its_service_name() {
    let testbed = Testbed::current().unwrap();
    let namespace = Namespace::new(&testbed, "testbed-pod");
    let pod = format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "worker"}}, "spec": {{
            "automountServiceAccountToken": false,
            "securityContext": {{"runAsNonRoot": true, "seccompProfile": {{"type": "RuntimeDefault"}}}},
            "containers": [{{"name": "worker", "image": "localhost/process-example-worker:v1",
                "imagePullPolicy": "IfNotPresent",
                "env": [
                    {{"name": "TEMPORAL_ADDRESS", "value": "{}"}},
                    {{"name": "TEMPORAL_NAMESPACE", "value": "temporal-system"}},
                    {{"name": "TASK_QUEUE", "value": "{}"}}],
                "securityContext": {{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {{"drop": ["ALL"]}}}}}}]}}}}"#,
        testbed.state().temporal_pod_address,
        namespace.1
    );
    // The controller that gives a namespace its service account is not waited
    // for by whoever makes the namespace.
    eventually("the pod is accepted", || apply(&namespace, &pod));
    eventually("the worker polls", || {
        output(&mut namespace.kubectl(&["logs", "worker"])).contains("\"polling\"")
    });
}

#[test]
fn every_namespace_enforces_restricted() {
    let testbed = Testbed::current().unwrap();
    let labelled = Namespace::new(&testbed, "testbed-restricted");
    // Without labels the API server's default holds.
    for namespace in [labelled.1.as_str(), "default"] {
        let root = [
            "--namespace",
            namespace,
            "run",
            "root",
            "--image=localhost/process-example-worker:v1",
            "--dry-run=server",
        ];
        // The account of pods may not be there yet, without which none is looked at.
        eventually("a pod is refused", || {
            let answer = output(testbed.kubectl().args(root));
            assert!(!answer.contains("created"), "{namespace}: {answer}");
            answer.contains("violates PodSecurity \"restricted")
        });
    }
}

#[test]
fn a_namespace_is_waited_for_only_where_somebody_deletes_it() {
    let testbed = Testbed::current().unwrap();
    let namespace = Namespace::new(&testbed, "testbed-left");
    let begun = Instant::now();
    let error = testbed.await_no_namespace(&namespace.1).unwrap_err();
    assert!(error.to_string().contains("nobody deletes it"), "{error:#}");
    assert!(begun.elapsed() < Duration::from_mins(1), "at once");
    output(&mut namespace.kubectl(&["delete", "namespace", &namespace.1, "--wait=false"]));
    testbed.await_no_namespace(&namespace.1).unwrap();
}

#[test]
fn a_service_account_is_itself_and_its_requests_are_in_the_audit_log() {
    let testbed = Testbed::current().unwrap();
    let namespace = Namespace::new(&testbed, "testbed-account");
    output(&mut namespace.kubectl(&["create", "serviceaccount", "somebody"]));
    let kubeconfig = testbed
        .service_account_kubeconfig(&namespace.1, "somebody", None)
        .unwrap();
    let as_somebody = |args: &[&str]| {
        let mut command = Command::new(&testbed.state().kubectl);
        output(command.arg("--kubeconfig").arg(&kubeconfig).args(args))
    };
    let user = format!("system:serviceaccount:{}:somebody", namespace.1);
    assert!(as_somebody(&["auth", "whoami"]).contains(&user));
    assert!(as_somebody(&["get", "secrets"]).contains("forbidden"));
    let log = testbed.state().audit_log.clone().unwrap();
    eventually("the refused read is in the audit log", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().any(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            event["user"]["username"] == user.as_str()
                && event["verb"] == "list"
                && event["objectRef"]["resource"] == "secrets"
                && event["responseStatus"]["code"] == 403
        })
    });
}

#[test]
fn a_private_temporal_remembers_across_stop_and_kill_and_leaves_nothing() {
    let mut temporal = PrivateTemporal::start_new("memory").unwrap();
    let log = temporal.log().to_path_buf();
    let http_address = temporal.http_url();
    let registered = ureq::post(format!("{http_address}/api/v1/namespaces"))
        .content_type("application/json")
        .send(r#"{"namespace": "kept", "workflowExecutionRetentionPeriod": "86400s"}"#);
    registered.unwrap();
    let kept = || http(&http_address, "/api/v1/namespaces/kept").is_some();
    assert!(kept());
    temporal.stop().unwrap();
    assert!(!kept());
    temporal.start().unwrap();
    assert!(kept());
    temporal.kill().unwrap();
    assert!(!kept());
    temporal.start().unwrap();
    assert!(kept());
    drop(temporal);
    assert!(!kept());
    assert!(!Path::new(&log).exists());
}

#[test]
fn a_component_can_be_held_stopped_and_started() {
    let _alone = alone();
    let testbed = Testbed::current().unwrap();
    let url = testbed.state().ui_url.clone().unwrap();
    let answers = || {
        ureq::get(format!("{url}/healthz"))
            .config()
            .timeout_global(Some(Duration::from_millis(500)))
            .build()
            .call()
            .is_ok()
    };
    testbed.pause_component("temporal-ui").unwrap();
    assert!(!answers());
    testbed.resume_component("temporal-ui").unwrap();
    eventually("the component goes on", answers);
    testbed.stop_component("temporal-ui").unwrap();
    assert!(!answers());
    testbed.start_component("temporal-ui").unwrap();
    assert!(answers());
}
