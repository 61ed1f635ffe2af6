//! Frozen resources: the client sees the past, writes go through, and after the thaw it catches up.

use process_operator_faultproxy::{Outcome, Snapshot};
use serde_json::json;

use crate::support::apiserver::DEPLOYMENTS;
use crate::support::client::names;
use crate::support::kube;

#[tokio::test]
async fn gets_and_lists_stay_as_they_were_until_the_thaw() {
    let kube = kube().await;
    kube.server.put("old", 1);
    assert_eq!(kube.client.list().await, ["old"]);
    assert_eq!(kube.proxy.freeze("deployments").await.unwrap(), 1);
    kube.server.delete("old");
    kube.server.put("new", 1);

    let list = kube.client.get(DEPLOYMENTS).await.unwrap().json();
    assert_eq!(names(&list), ["old"]);
    assert_eq!(list["metadata"]["resourceVersion"], "1");
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&"DeploymentList".into(), &"apps/v1".into())
    );
    let old = kube
        .client
        .get(&format!("{DEPLOYMENTS}/old"))
        .await
        .unwrap()
        .json();
    assert_eq!(
        (&old["kind"], &old["metadata"]["generation"]),
        (&"Deployment".into(), &1.into())
    );
    let new = kube
        .client
        .get(&format!("{DEPLOYMENTS}/new"))
        .await
        .unwrap();
    assert_eq!((new.code, &new.json()["reason"]), (404, &"NotFound".into()));
    assert_eq!(
        kube.proxy.records(..).last().unwrap().outcome,
        Outcome::Injected(404)
    );

    // Writes are no part of the view.
    assert_eq!(kube.client.create("written").await.unwrap().code, 201);
    assert_eq!(kube.server.names(), ["new", "written"]);
    assert_eq!(kube.client.list().await, ["old"]);

    kube.proxy.thaw("deployments");
    assert_eq!(kube.client.list().await, ["new", "written"]);
}

#[tokio::test]
async fn watches_are_silent_and_then_catch_up() {
    let kube = kube().await;
    let mut open_before = kube.client.watch(0).await;
    kube.server.put("x", 1);
    assert_eq!(open_before.event().await, "ADDED x");
    kube.proxy.freeze("deployments.apps").await.unwrap();
    let mut opened_meanwhile = kube.client.watch(1).await;
    kube.server.put("x", 2);
    kube.server.delete("x");
    assert!(open_before.is_silent().await);
    assert!(opened_meanwhile.is_silent().await);
    kube.proxy.thaw("deployments.apps");
    for watch in [&mut open_before, &mut opened_meanwhile] {
        assert_eq!(
            [watch.event().await, watch.event().await],
            ["MODIFIED x", "DELETED x"]
        );
    }
}

#[tokio::test]
async fn a_watch_that_wants_the_objects_first_gets_those_of_the_view() {
    let kube = kube().await;
    kube.server.put("x", 1);
    kube.client.list().await;
    kube.proxy.freeze("deployments").await.unwrap();
    kube.server.put("y", 1);
    let path = format!(
        "{DEPLOYMENTS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut watch = kube.client.watch_path(&path).await;
    assert_eq!(watch.event().await, "ADDED x");
    let bookmark = watch.next().await.unwrap().unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    let annotations = &bookmark["object"]["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    assert!(watch.is_silent().await);
    kube.proxy.thaw("deployments");
    assert_eq!(watch.event().await, "ADDED y");
    let forwarded = kube.server.requests().last().unwrap().clone();
    assert!(
        forwarded.ends_with("?watch=true&allowWatchBookmarks=true&resourceVersion=1"),
        "{forwarded}"
    );
}

#[tokio::test]
async fn a_silent_watch_ends_when_its_time_is_over() {
    let kube = kube().await;
    kube.proxy
        .freeze_at(Snapshot::new("apps/v1", "Deployment", "deployments"));
    let mut watch = kube
        .client
        .watch_path(&format!("{DEPLOYMENTS}?watch=true&timeoutSeconds=1"))
        .await;
    assert!(watch.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_view_made_by_hand_is_selected_from() {
    let kube = kube().await;
    let object = |namespace: &str, name: &str, app: &str| {
        json!({"metadata": {
            "namespace": namespace, "name": name, "resourceVersion": "7",
            "deletionTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": app},
        }})
    };
    let view = Snapshot::new("apps/v1", "Deployment", "deployments")
        .object(object("a", "one", "x"))
        .object(object("a", "two", "y"))
        .object(object("b", "three", "x"));
    kube.proxy.freeze_at(view);
    for (path, expected) in [
        ("/apis/apps/v1/deployments", &["one", "two", "three"][..]),
        (DEPLOYMENTS, &["one", "two"]),
        (
            "/apis/apps/v1/deployments?labelSelector=app%3Dx",
            &["one", "three"],
        ),
        (
            "/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dtwo",
            &["two"],
        ),
    ] {
        let list = kube.client.get(path).await.unwrap().json();
        assert_eq!(names(&list), expected, "{path}");
        assert_eq!(list["metadata"]["resourceVersion"], "7");
    }
    let one = kube
        .client
        .get(&format!("{DEPLOYMENTS}/one/status"))
        .await
        .unwrap()
        .json();
    assert!(one["metadata"]["deletionTimestamp"].is_string());
    assert!(kube.server.requests().is_empty());
    kube.proxy.heal().await.unwrap();
    assert!(kube.client.list().await.is_empty());
}

#[tokio::test]
async fn a_resource_can_be_captured_now_and_served_later() {
    let kube = kube().await;
    kube.server.put("x", 1);
    kube.client.list().await;
    let then = kube.proxy.snapshot("deployments").await.unwrap();
    assert_eq!(then.objects().len(), 1);
    kube.server.delete("x");
    assert!(kube.client.list().await.is_empty());
    kube.proxy.freeze_at(then);
    assert_eq!(kube.client.list().await, ["x"]);
}

#[tokio::test]
async fn without_the_right_to_list_everything_the_namespaces_in_use_are_captured() {
    let kube = kube().await;
    kube.server.put("x", 1);
    kube.server.forbid_cluster_lists();
    let unknown = kube.proxy.freeze("deployments").await.unwrap_err();
    assert!(unknown.to_string().contains("never asked for"), "{unknown}");
    kube.client.list().await;
    assert_eq!(kube.proxy.freeze("deployments").await.unwrap(), 1);
    let asked = kube.server.requests();
    assert_eq!(asked[1], "GET /apis/apps/v1/deployments");
    assert_eq!(asked[2], format!("GET {DEPLOYMENTS}"));
    assert_eq!(kube.server.last_headers()["authorization"], "Bearer secret");
}

#[tokio::test]
async fn what_cannot_be_listed_cannot_be_frozen() {
    let kube = kube().await;
    kube.server.forbid_cluster_lists();
    kube.client.get("/apis/apps/v1/deployments").await.unwrap();
    let error = kube.proxy.freeze("deployments").await.unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
    assert_eq!(kube.client.list().await, [] as [&str; 0]);
}
