use serde_json::{Value, json};

use super::*;

const OPERATOR: &str = "system:serviceaccount:process-operator:process-operator";

/// A line of the log about `<resource>/<name>[/<subresource>]`, with what was sent and what came back.
fn line(verb: &str, about: &str, code: u16, asked: &Value, answered: &Value) -> Value {
    let mut about = about.split('/');
    let mut part = || about.next().unwrap_or_default();
    let manager = match verb {
        "delete" => "",
        _ => "?fieldManager=process-operator",
    };
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse",
        "auditID": "a", "stage": "ResponseComplete", "requestURI": format!("/x{manager}"),
        "verb": verb, "user": { "username": OPERATOR },
        "objectRef": { "resource": part(), "namespace": "shop", "name": part(), "subresource": part() },
        "responseStatus": { "metadata": {}, "code": code },
        "requestObject": asked, "responseObject": answered,
        "requestReceivedTimestamp": "2026-03-01T10:00:00.000001Z",
        "stageTimestamp": "2026-03-01T10:00:00.012345Z",
    })
}

fn held(lines: &[Value]) -> Result<()> {
    let entries = lines
        .iter()
        .map(|line| Entry::read(line.to_string().as_bytes())?.context("complete"))
        .collect::<Result<Vec<_>>>()?;
    judge(&entries, &[("other".to_owned(), "q".to_owned())])
}

fn owned_by(name: &str, uid: &str) -> Value {
    json!([
        { "apiVersion": "ameide.io/v1", "kind": "Process", "name": name, "uid": uid, "controller": true },
        { "apiVersion": "v1", "kind": "Namespace", "name": "shop", "uid": "n" },
    ])
}

/// The finalizer of a Process is added in this version.
fn finalizer(uid: &str, version: &str) -> Value {
    let asked = json!([
        { "op": "test", "path": "/metadata/uid", "value": uid },
        { "op": "add", "path": "/metadata/finalizers", "value": ["f"] },
    ]);
    let answered = json!({
        "kind": "Process", "metadata": { "uid": uid, "resourceVersion": version }, "status": {},
    });
    line("patch", "processes/l2o", 200, &asked, &answered)
}

/// A Deployment is applied as one of l2o with this uid, and is that of `owners` then.
fn applied(code: u16, uid: &str, of: &str, owners: &Value, version: &str) -> Value {
    let asked = json!({ "kind": "Deployment", "metadata": {
        "uid": (!uid.is_empty()).then_some(uid), "ownerReferences": owned_by("l2o", of),
    }});
    let answered = json!({ "kind": "Deployment", "metadata": {
        "uid": if uid.is_empty() { "d" } else { uid }, "resourceVersion": version,
        "labels": { "ameide.io/process": "l2o" }, "ownerReferences": owners,
    }});
    line("patch", "deployments/l2o-1f", code, &asked, &answered)
}

fn ours(code: u16, uid: &str, version: &str) -> Value {
    applied(code, uid, "p", &owned_by("l2o", "p"), version)
}

fn deleted(uid: Option<&str>) -> Value {
    let asked =
        json!({ "kind": "DeleteOptions", "preconditions": uid.map(|uid| json!({ "uid": uid })) });
    let answered =
        json!({ "kind": "Status", "status": "Success", "details": { "uid": uid.unwrap_or("d") } });
    line("delete", "deployments/l2o-1f", 200, &asked, &answered)
}

fn published(version: Option<&str>, workflow: &str) -> Value {
    let asked = json!({
        "kind": "Process", "metadata": { "name": "l2o", "resourceVersion": version },
        "status": { "workflow": { "id": workflow } },
    });
    let answered = json!({
        "kind": "Process", "metadata": { "uid": "p", "resourceVersion": "19" }, "status": {},
    });
    line("patch", "processes/l2o/status", 200, &asked, &answered)
}

/// A change that claims nothing.
fn changed(uid: Option<&str>, owners: &Value) -> Value {
    let asked = json!({ "metadata": { "uid": uid }, "spec": { "replicas": 0 } });
    let answered = json!({ "kind": "Deployment", "metadata": {
        "uid": "d", "resourceVersion": "20", "ownerReferences": owners,
    }});
    line("patch", "deployments/l2o-1f", 200, &asked, &answered)
}

#[test]
fn what_an_operator_does_for_a_process_holds() {
    let refused = json!({ "kind": "Status", "metadata": {}, "status": "Failure" });
    let event = json!({ "kind": "Event" });
    let lines = [
        finalizer("p", "10"),
        ours(201, "", "11"),
        published(Some("10"), "process/shop/l2o/p"),
        // The one before was not heard of.
        ours(200, "", "11"),
        ours(200, "d", "12"),
        changed(Some("d"), &owned_by("l2o", "p")),
        line("create", "events/l2o.1", 201, &event, &event),
        line(
            "delete",
            "deployments/other",
            409,
            &json!({ "kind": "DeleteOptions", "preconditions": { "uid": "e" } }),
            &refused,
        ),
        deleted(Some("d")),
    ];
    held(&lines).unwrap();
}

#[test]
fn what_a_predecessor_has_left_is_taken_over_and_never_taken_back() {
    let second = |version| applied(200, "d", "p2", &owned_by("l2o", "p2"), version);
    let mut lines = vec![
        finalizer("p", "10"),
        ours(201, "", "11"),
        finalizer("p2", "20"),
        second("21"),
    ];
    held(&lines).unwrap();
    // An answer that was taken late is told late.
    lines.push(ours(200, "d", "12"));
    held(&lines).unwrap();
    lines.push(ours(200, "d", "22"));
    let error = format!("{:#}", held(&lines).unwrap_err());
    assert!(error.contains("went from p2"), "{error}");
}

#[test]
fn an_orphan_has_no_owner_any_more() {
    let asked = json!({ "metadata": {
        "uid": "d", "resourceVersion": "11", "ownerReferences": [],
        "labels": { "ameide.io/process-uid": null },
    }});
    let answered = json!({ "kind": "PartialObjectMetadata", "metadata": {
        "uid": "d", "resourceVersion": "12", "labels": { "ameide.io/process": "l2o" },
    }});
    let orphaned = line("patch", "deployments/l2o-1f", 200, &asked, &answered);
    held(&[finalizer("p", "10"), ours(201, "", "11"), orphaned.clone()]).unwrap();
    let error = format!("{:#}", held(&[finalizer("p", "10"), orphaned]).unwrap_err());
    assert!(error.contains("nobody's"), "{error}");
}

#[test]
fn what_the_server_did_not_tell_may_have_been_made() {
    let away = json!({ "kind": "Status", "metadata": {}, "status": "Failure" });
    let mut unclear = ours(504, "", "");
    unclear["responseObject"] = away;
    held(&[finalizer("p", "10"), unclear, deleted(Some("d"))]).unwrap();
}

#[test]
fn each_write_that_could_reach_what_is_anothers_is_found() {
    let both = {
        let mut owners = owned_by("l2o", "p");
        let other = owned_by("other", "q")[0].clone();
        owners.as_array_mut().unwrap().push(other);
        owners
    };
    let mut metadata_only = ours(200, "d", "12");
    metadata_only
        .as_object_mut()
        .unwrap()
        .remove("responseObject");
    let mut elsewhere = ours(200, "d", "12");
    elsewhere["responseObject"]["metadata"]["uid"] = json!("e");
    let mut untested = finalizer("p", "12");
    untested["requestObject"] = json!({ "metadata": { "finalizers": ["f"] } });
    let pod = json!({ "metadata": { "uid": "x" } });
    for (wrong, why) in [
        (
            applied(200, "d", "p", &owned_by("other", "q"), "12"),
            "claimed for",
        ),
        (applied(200, "d", "p", &both, "12"), "two owners"),
        (applied(200, "d", "p", &json!([]), "12"), "claimed for"),
        (
            applied(200, "d", "x", &owned_by("l2o", "x"), "12"),
            "no Process has",
        ),
        (
            applied(200, "d", "q", &owned_by("l2o", "q"), "12"),
            "no uid of l2o",
        ),
        (changed(None, &owned_by("l2o", "p")), "neither an owner"),
        (changed(Some("d"), &owned_by("other", "q")), "went from p"),
        (elsewhere, "meant for d and done to e"),
        (deleted(None), "does not name the uid"),
        (deleted(Some("z")), "no operator has made it"),
        (untested, "does not name the uid"),
        (published(None, "process/shop/l2o/p"), "the version"),
        (published(Some("10"), "process/shop/l2o/p0"), "has told of"),
        (metadata_only, "an earlier policy"),
        (
            line("delete", "pods/x", 200, &json!({}), &pod),
            "nothing of the kind",
        ),
        (
            line(
                "deletecollection",
                "deployments/",
                200,
                &json!({}),
                &json!({}),
            ),
            "nothing of the kind",
        ),
    ] {
        let lines = [finalizer("p", "10"), ours(201, "", "11"), wrong];
        let error = format!("{:#}", held(&lines).unwrap_err());
        assert!(
            error.starts_with("I2: ") && error.contains(why),
            "{why}: {error}"
        );
    }
}

#[test]
fn an_apply_that_was_to_make_something_does_not_land_on_what_others_have_made() {
    let lines = [finalizer("p", "10"), ours(200, "", "11")];
    let error = format!("{:#}", held(&lines).unwrap_err());
    assert!(error.contains("it was to be made"), "{error}");
}

#[test]
fn who_does_not_write_by_a_name_of_the_operator_is_somebody_else() {
    let mut lines = [finalizer("p", "10"), deleted(None)];
    lines[1]["user"]["username"] = json!("system:serviceaccount:shop:releaser");
    held(&lines).unwrap();
    let mut lines = [finalizer("p", "10"), changed(None, &json!([]))];
    lines[1]["user"]["username"] = json!("admin");
    held(&lines).unwrap();
}
