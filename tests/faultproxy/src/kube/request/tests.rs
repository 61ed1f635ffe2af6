use super::*;

fn parse(method: &str, uri: &str, headers: &[(&str, &str)], body: &'static str) -> KubeRequest {
    let mut request = hyper::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, body) = request
        .body(Bytes::from_static(body.as_bytes()))
        .unwrap()
        .into_parts();
    KubeRequest::parse(&parts, body)
}

/// verb group/version resource/subresource namespace/name
fn line(method: &str, uri: &str) -> String {
    let r = parse(method, uri, &[], "");
    format!(
        "{} {}/{} {}/{} {}/{}",
        r.verb, r.group, r.version, r.resource, r.subresource, r.namespace, r.name
    )
}

#[test]
fn paths_are_read_as_the_server_reads_them() {
    for (method, uri, expected) in [
        ("GET", "/api/v1/pods", "list /v1 pods/ /"),
        ("GET", "/api/v1/namespaces/a/pods/x", "get /v1 pods/ a/x"),
        (
            "GET",
            "/api/v1/namespaces/a/pods/x/log?follow=true",
            "get /v1 pods/log a/x",
        ),
        (
            "GET",
            "/apis/apps/v1/deployments?watch=true",
            "watch apps/v1 deployments/ /",
        ),
        (
            "GET",
            "/apis/apps/v1/deployments?watch=1",
            "watch apps/v1 deployments/ /",
        ),
        (
            "GET",
            "/apis/apps/v1/deployments?watch=false",
            "list apps/v1 deployments/ /",
        ),
        (
            "GET",
            "/apis/apps/v1/watch/namespaces/a/deployments",
            "watch apps/v1 deployments/ a/",
        ),
        ("GET", "/api/v1/namespaces", "list /v1 namespaces/ /"),
        ("GET", "/api/v1/namespaces/a", "get /v1 namespaces/ a/a"),
        (
            "PUT",
            "/api/v1/namespaces/a/finalize",
            "update /v1 namespaces/finalize a/a",
        ),
        (
            "POST",
            "/apis/x.io/v1/namespaces/a/things",
            "create x.io/v1 things/ a/",
        ),
        (
            "PUT",
            "/apis/x.io/v1/namespaces/a/things/n/status",
            "update x.io/v1 things/status a/n",
        ),
        (
            "PATCH",
            "/apis/x.io/v1/clusterthings/n",
            "patch x.io/v1 clusterthings/ /n",
        ),
        (
            "DELETE",
            "/apis/x.io/v1/namespaces/a/things/n",
            "delete x.io/v1 things/ a/n",
        ),
        (
            "DELETE",
            "/apis/x.io/v1/namespaces/a/things",
            "deletecollection x.io/v1 things/ a/",
        ),
        ("GET", "/version", "get / / /"),
        ("GET", "/apis/apps/v1", "get apps/v1 / /"),
        ("OPTIONS", "/api/v1/pods", "other /v1 pods/ /"),
    ] {
        assert_eq!(line(method, uri), expected, "{method} {uri}");
    }
}

#[test]
fn the_name_comes_from_the_body_of_a_create_or_a_field_selector() {
    let created = parse(
        "POST",
        "/api/v1/namespaces/a/events",
        &[],
        r#"{"metadata":{"name":"e"}}"#,
    );
    assert_eq!(created.name, "e");
    let watched = parse(
        "GET",
        "/api/v1/pods?watch=true&fieldSelector=metadata.name%3Dx",
        &[],
        "",
    );
    assert_eq!((watched.verb, watched.name.as_str()), (Verb::Watch, "x"));
}

#[test]
fn an_apply_is_told_by_its_content_type_and_names_its_manager() {
    let apply = parse(
        "PATCH",
        "/apis/apps/v1/namespaces/a/deployments/d?fieldManager=m&force=true",
        &[
            ("content-type", "application/apply-patch+yaml"),
            ("user-agent", "agent/1.0 (x)"),
        ],
        "{}",
    );
    assert_eq!(
        (apply.verb, apply.field_manager.as_str()),
        (Verb::Apply, "m")
    );
    let merge = parse(
        "PATCH",
        "/apis/apps/v1/namespaces/a/deployments/d",
        &[
            ("content-type", "application/merge-patch+json"),
            ("user-agent", "agent/1.0 (x)"),
        ],
        "{}",
    );
    assert_eq!(
        (merge.verb, merge.field_manager.as_str()),
        (Verb::Patch, "agent")
    );
}

#[test]
fn reads_dry_runs_and_reviews_are_no_writes() {
    for (method, uri, write) in [
        ("GET", "/api/v1/pods", false),
        ("POST", "/api/v1/namespaces/a/pods", true),
        ("POST", "/api/v1/namespaces/a/pods?dryRun=All", false),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            false,
        ),
        (
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/s/token",
            false,
        ),
        ("POST", "/api/v1/namespaces/a/serviceaccounts", true),
        ("DELETE", "/api/v1/namespaces/a/pods", true),
    ] {
        assert_eq!(
            parse(method, uri, &[], "").is_write(),
            write,
            "{method} {uri}"
        );
    }
}

#[test]
fn a_resource_may_be_named_with_its_group() {
    let request = parse("GET", "/apis/apps/v1/deployments", &[], "");
    assert!(request.is_about("deployments") && request.is_about("deployments.apps"));
    assert!(!request.is_about("deployments.extensions") && !request.is_about("pods"));
    assert_eq!(request.full_resource(), "deployments.apps");
}
