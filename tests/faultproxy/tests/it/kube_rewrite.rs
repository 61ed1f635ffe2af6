//! Rewritten resources: the client sees other objects than the server stores.

use crate::support::apiserver::DEPLOYMENTS;
use crate::support::client::names;
use crate::support::kube;

#[tokio::test]
async fn a_resource_is_shown_otherwise_in_answers_and_watches_until_the_end() {
    let kube = kube().await;
    kube.server.put("x", 1);
    kube.proxy.rewrite("deployments.apps", |object| {
        object["metadata"]["generation"] = 7.into();
    });
    let one = format!("{DEPLOYMENTS}/x");
    let shown = kube.client.get(&one).await.unwrap().json();
    assert_eq!(shown["metadata"]["generation"], 7);
    let list = kube.client.get(DEPLOYMENTS).await.unwrap().json();
    assert_eq!(names(&list), ["x"]);
    assert_eq!(list["items"][0]["metadata"]["generation"], 7);
    let mut watch = kube.client.watch(0).await;
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!(event["object"]["metadata"]["generation"], 7);

    // What is no object stays as it is.
    let absent = kube.client.get(&format!("{DEPLOYMENTS}/y")).await.unwrap();
    assert_eq!(absent.code, 404);
    assert!(absent.json()["metadata"]["generation"].is_null());

    kube.proxy.show_as_stored("deployments.apps");
    let shown = kube.client.get(&one).await.unwrap().json();
    assert_eq!(shown["metadata"]["generation"], 1);
    kube.server.put("x", 2);
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!(event["object"]["metadata"]["generation"], 2);
}
