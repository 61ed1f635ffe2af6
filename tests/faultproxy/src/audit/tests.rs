use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const OPERATOR: &str = "system:serviceaccount:process-operator-system:process-operator";

/// A line as kube-apiserver writes it, with the parts that the tests vary.
fn line(stage: &str, verb: &str, uri: &str, object: &str, code: u16) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"7a4c","stage":"{stage}","requestURI":"{uri}","verb":"{verb}","user":{{"username":"{OPERATOR}","uid":"b1","groups":["system:serviceaccounts","system:authenticated"],"extra":{{"authentication.kubernetes.io/credential-id":["JTI=1"]}}}},"sourceIPs":["127.0.0.1"],"userAgent":"process-operator/0.1.0","objectRef":{object},"responseStatus":{{"metadata":{{}},"code":{code}}},"requestReceivedTimestamp":"2026-03-01T10:00:00.000001Z","stageTimestamp":"2026-03-01T10:00:00.012345Z","annotations":{{"authorization.k8s.io/decision":"allow"}}}}"#
    ) + "\n"
}

const DEPLOYMENT: &str = r#"{"resource":"deployments","namespace":"shop","name":"order-1f","apiGroup":"apps","apiVersion":"v1"}"#;
const STATUS: &str = r#"{"resource":"processes","namespace":"shop","name":"order","uid":"u","apiGroup":"ameide.io","apiVersion":"v1","resourceVersion":"12","subresource":"status"}"#;

fn apply() -> String {
    line(
        "ResponseComplete",
        "patch",
        "/apis/apps/v1/namespaces/shop/deployments/order-1f?force=true&fieldManager=process-operator",
        DEPLOYMENT,
        200,
    )
}

struct Log {
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("audit-{}-{n}.log", std::process::id()));
        std::fs::write(&path, "").unwrap();
        Self { path }
    }

    fn append(&self, text: &str) {
        let mut file = File::options().append(true).open(&self.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn open(&self) -> AuditLog {
        AuditLog::open(&self.path).unwrap()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn entries_since_a_mark() {
    let file = Log::new();
    file.append(&apply());
    let log = file.open();
    let mark = log.mark().unwrap();
    assert!(log.since(mark).unwrap().is_empty());
    file.append(&line(
        "ResponseComplete",
        "update",
        "/apis/ameide.io/v1/namespaces/shop/processes/order/status",
        STATUS,
        409,
    ));
    let entries = log.since(mark).unwrap();
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    let object = entry.object_ref.as_ref().unwrap();
    assert_eq!(
        (entry.verb.as_str(), entry.code(), entry.user()),
        ("update", 409, OPERATOR)
    );
    assert_eq!(
        (object.name.as_str(), object.subresource.as_str()),
        ("order", "status")
    );
    assert_eq!(entry.request_received_timestamp.subsec_microsecond(), 1);
    assert_eq!(log.since(log.start().unwrap()).unwrap().len(), 2);
}

#[test]
fn only_completed_requests_and_complete_lines_count() {
    let file = Log::new();
    let log = file.open();
    let mark = log.mark().unwrap();
    file.append(&line(
        "ResponseStarted",
        "watch",
        "/api/v1/pods?watch=true",
        DEPLOYMENT,
        200,
    ));
    let apply = apply();
    let (first_half, second_half) = apply.split_at(100);
    file.append(first_half);
    assert!(log.since(mark).unwrap().is_empty());
    file.append(second_half);
    assert_eq!(log.since(mark).unwrap().len(), 1);
}

#[test]
fn mutating_leaves_out_reads_dry_runs_and_reviews() {
    let review = r#"{"resource":"selfsubjectaccessreviews","apiGroup":"authorization.k8s.io","apiVersion":"v1"}"#;
    for (verb, uri, object, mutating) in [
        ("patch", "/x?fieldManager=m", DEPLOYMENT, true),
        ("create", "/x", DEPLOYMENT, true),
        ("update", "/x", STATUS, true),
        ("delete", "/x", DEPLOYMENT, true),
        ("deletecollection", "/x", DEPLOYMENT, true),
        ("get", "/x", DEPLOYMENT, false),
        ("list", "/x", DEPLOYMENT, false),
        ("watch", "/x", DEPLOYMENT, false),
        ("patch", "/x?dryRun=All", DEPLOYMENT, false),
        ("create", "/x", review, false),
    ] {
        let line = line("ResponseComplete", verb, uri, object, 200);
        let entry = Entry::read(line.as_bytes()).unwrap().unwrap();
        assert_eq!(entry.is_mutating(), mutating, "{verb} {uri}");
        assert_eq!(
            AuditFilter::mutating().matches(&entry),
            mutating,
            "{verb} {uri}"
        );
    }
}

#[test]
fn filters_are_conjunctions() {
    let apply = Entry::read(apply().as_bytes()).unwrap().unwrap();
    assert_eq!(
        apply.param("fieldManager").as_deref(),
        Some("process-operator")
    );
    let any = AuditFilter::any;
    for (filter, expected) in [
        (any(), true),
        (any().user(OPERATOR), true),
        (
            any().service_account("process-operator-system", "process-operator"),
            true,
        ),
        (any().user("admin"), false),
        (any().verb("create").verb("patch"), true),
        (any().verb("create"), false),
        (any().resource("deployments"), true),
        (any().resource("deployments.apps"), true),
        (any().resource("deployments.other"), false),
        (any().namespace("shop").name("order-1f"), true),
        (any().namespace("shop").name("other"), false),
        (any().namespace("other"), false),
        (any().subresource(""), true),
        (any().subresource("status"), false),
        (any().code(200), true),
        (any().code(409), false),
        (any().user_agent("process-operator/"), true),
        (any().user_agent("kubectl"), false),
    ] {
        assert_eq!(filter.matches(&apply), expected, "{filter:?}");
    }
}

#[test]
fn who_acted_as_another_is_that_other() {
    let line = apply().replace(
        r#""sourceIPs""#,
        r#""impersonatedUser":{"username":"jane"},"sourceIPs""#,
    );
    assert_eq!(
        Entry::read(line.as_bytes()).unwrap().unwrap().user(),
        "jane"
    );
}

#[test]
fn requests_about_no_resource_have_no_object() {
    let line = apply().replace(&format!(r#""objectRef":{DEPLOYMENT},"#), "");
    let entry = Entry::read(line.as_bytes()).unwrap().unwrap();
    assert!(entry.object_ref.is_none());
    assert!(!AuditFilter::any().resource("deployments").matches(&entry));
}

#[test]
fn a_rotated_or_cut_log_does_not_pass_for_silence() {
    let file = Log::new();
    file.append(&apply());
    let log = file.open();
    let mark = log.mark().unwrap();
    File::options()
        .write(true)
        .truncate(true)
        .open(&file.path)
        .unwrap();
    let error = log.since(mark).unwrap_err();
    assert!(error.to_string().contains("rotated or cut"), "{error}");

    let mark = log.mark().unwrap();
    let rotated = file.path.with_extension("old");
    std::fs::rename(&file.path, &rotated).unwrap();
    std::fs::write(&file.path, apply()).unwrap();
    let error = log.since(mark).unwrap_err();
    std::fs::remove_file(rotated).unwrap();
    assert!(error.to_string().contains("rotated or cut"), "{error}");
}

#[test]
fn what_is_no_audit_line_is_an_error_with_the_line() {
    let file = Log::new();
    file.append("garbage\n");
    let log = file.open();
    let error = format!("{:#}", log.since(log.start().unwrap()).unwrap_err());
    assert!(error.contains("garbage"), "{error}");
    assert!(AuditLog::open("/nowhere/audit.log").is_err());
}

#[tokio::test]
async fn waiting_for_an_entry() {
    let file = Log::new();
    let log = file.open();
    let mark = log.mark().unwrap();
    let filter = AuditFilter::mutating().name("order-1f");
    let late = log
        .wait_for(mark, &filter, Duration::from_millis(30))
        .await
        .unwrap_err();
    assert!(late.to_string().contains("order-1f"), "{late}");
    let (found, ()) = tokio::join!(
        log.wait_for(mark, &filter, Duration::from_secs(10)),
        async { file.append(&apply()) },
    );
    assert_eq!(found.unwrap().verb, "patch");
}

#[test]
fn a_mark_set_while_a_line_is_being_written_comes_before_it() {
    let file = Log::new();
    file.append(&apply());
    let second = apply();
    let (begin, end) = second.split_at(100);
    file.append(begin);
    let log = file.open();
    let mark = log.mark().unwrap();
    file.append(end);
    assert_eq!(log.since(mark).unwrap().len(), 1);
}

#[test]
fn a_mark_comes_after_a_line_however_long_it_is() {
    let file = Log::new();
    file.append(&apply());
    let object = r#""requestObject":{"data":{"text":""#.to_owned() + &"a".repeat(300_000);
    let line = apply().replace(r#""sourceIPs""#, &(object.clone() + r#""}},"sourceIPs""#));
    let (begin, end) = line.split_at(object.len());
    file.append(begin);
    let log = file.open();
    let first = log.mark().unwrap();
    file.append(end);
    let second = log.mark().unwrap();
    assert_eq!(log.since(first).unwrap().len(), 1);
    assert!(log.since(second).unwrap().is_empty());
    file.append(&apply());
    assert_eq!(log.since(second).unwrap().len(), 1);
}

/// What is read of a request with an object, or a patch, and of its answer.
fn objects(asked: &str, answered: &str) -> (Object, Object) {
    let objects = format!(
        r#""requestObject":{asked},"responseObject":{answered},"requestReceivedTimestamp""#
    );
    let line = apply().replace(r#""requestReceivedTimestamp""#, &objects);
    let entry = Entry::read(line.as_bytes()).unwrap().unwrap();
    (
        entry.request_object.unwrap(),
        entry.response_object.unwrap(),
    )
}

#[test]
fn an_object_is_read_with_its_owners() {
    let owner = r#"{"apiVersion":"ameide.io/v1","kind":"Process","name":"order","uid":"p","controller":true,"blockOwnerDeletion":false}"#;
    let (asked, answered) = objects(
        &format!(
            r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"order-1f","uid":"d","labels":{{"a":"b","c":null}},"ownerReferences":[{owner}]}},"spec":{{"replicas":1}}}}"#
        ),
        &format!(
            r#"{{"kind":"Deployment","apiVersion":"apps/v1","metadata":{{"name":"order-1f","uid":"d","resourceVersion":"12","creationTimestamp":null,"ownerReferences":[{owner}]}},"status":{{"replicas":1,"conditions":[]}}}}"#
        ),
    );
    let owners = Some(vec![Owner {
        kind: "Process".into(),
        name: "order".into(),
        uid: "p".into(),
        controller: Some(true),
    }]);
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    assert_eq!(
        (asked.kind.as_str(), asked.uid.as_str(), &asked.labels),
        ("Deployment", "d", &labels)
    );
    assert_eq!((&asked.owners, &answered.owners), (&owners, &owners));
    assert_eq!(
        (answered.uid.as_str(), answered.resource_version.as_str()),
        ("d", "12")
    );
    let (change, _) = objects(r#"{"metadata":{"uid":null},"spec":{"replicas":0}}"#, "{}");
    assert_eq!(change, Object::default(), "nothing is said of owners");
}

#[test]
fn what_must_be_so_is_read_from_a_deletion_and_from_a_patch() {
    let (asked, answered) = objects(
        r#"{"kind":"DeleteOptions","apiVersion":"meta.k8s.io/v1","preconditions":{"uid":"d"},"propagationPolicy":"Background"}"#,
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"order-1f","group":"apps","kind":"deployments","uid":"d"}}"#,
    );
    assert_eq!((asked.uid.as_str(), answered.uid.as_str()), ("d", "d"));
    assert_eq!(
        (answered.kind.as_str(), answered.workflow.as_str()),
        ("Status", "")
    );
    let (asked, _) = objects(
        r#"[{"op":"test","path":"/metadata/uid","value":"p"},{"op":"test","path":"/metadata/finalizers","value":null},{"op":"add","path":"/metadata/finalizers","value":["f"]}]"#,
        "{}",
    );
    assert_eq!(
        (asked.uid.as_str(), asked.resource_version.as_str()),
        ("p", "")
    );
    let (asked, _) = objects(
        r#"{"metadata":{"name":"order","resourceVersion":"7"},"status":{"workflow":{"namespace":"control","id":"process/shop/order/p"}}}"#,
        "{}",
    );
    assert_eq!(
        (asked.resource_version.as_str(), asked.workflow.as_str()),
        ("7", "process/shop/order/p")
    );
}
