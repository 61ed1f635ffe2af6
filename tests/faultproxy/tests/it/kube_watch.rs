//! Watch streams: events pass at once, and each can be disturbed.

use std::time::Instant;

use process_operator_faultproxy::{
    Action, Answer, EventMatch, EventType, Outcome, RequestMatch, Verb, WatchAction, WatchEnd,
};
use serde_json::json;

use crate::support::apiserver::DEPLOYMENTS;
use crate::support::{A_WHILE, SOON, kube, until};

#[tokio::test]
async fn events_pass_at_once_one_by_one() {
    let kube = kube().await;
    let mut watch = kube.client.watch(0).await;
    for n in 1..=3 {
        kube.server.put("x", n);
        // Nothing else is sent before this one has arrived: there is no buffer to fill.
        let event = watch.next().await.unwrap().unwrap();
        assert_eq!(event["object"]["metadata"]["generation"], n);
    }
    let record = &kube.proxy.records(..)[0];
    assert_eq!(
        (record.request.verb, record.outcome),
        (Verb::Watch, Outcome::Answered(200))
    );
    assert_eq!(kube.proxy.open_watches().len(), 1);
}

#[tokio::test]
async fn every_nth_event_is_dropped() {
    let kube = kube().await;
    let rule = kube
        .proxy
        .watch_rule(EventMatch::events().every(2), WatchAction::Drop);
    let mut watch = kube.client.watch(0).await;
    for name in ["a", "b", "c", "d", "e"] {
        kube.server.put(name, 1);
    }
    let seen = [
        watch.event().await,
        watch.event().await,
        watch.event().await,
    ];
    assert_eq!(seen, ["ADDED a", "ADDED c", "ADDED e"]);
    assert_eq!(rule.hits(), 2);
}

#[tokio::test]
async fn a_rule_reaches_streams_that_are_open_until_it_is_removed() {
    let kube = kube().await;
    let mut watch = kube.client.watch(0).await;
    kube.server.put("x", 1);
    assert_eq!(watch.event().await, "ADDED x");
    let muted = kube.proxy.watch_rule(
        EventMatch::events().resource("deployments"),
        WatchAction::Drop,
    );
    kube.server.put("x", 2);
    kube.server.delete("x");
    muted.wait_hits(2, SOON).await.unwrap();
    muted.remove();
    kube.server.put("y", 1);
    assert_eq!(watch.event().await, "ADDED y");
}

#[tokio::test]
async fn the_generations_in_between_can_be_hidden() {
    let kube = kube().await;
    let hidden = EventMatch::events()
        .name("x")
        .namespace("a")
        .generations(2..5);
    kube.proxy.watch_rule(hidden, WatchAction::Drop);
    let mut watch = kube.client.watch(0).await;
    for generation in 1..=5 {
        kube.server.put("x", generation);
    }
    for generation in [1, 5] {
        let event = watch.next().await.unwrap().unwrap();
        assert_eq!(event["object"]["metadata"]["generation"], generation);
    }
}

#[tokio::test]
async fn an_event_becomes_a_bookmark() {
    let kube = kube().await;
    let deleted = EventMatch::any().event_type(EventType::Deleted);
    kube.proxy.watch_rule(deleted, WatchAction::ToBookmark);
    let version = kube.server.put("x", 1);
    let mut watch = kube.client.watch(version).await;
    kube.server.delete("x");
    let bookmark = watch.next().await.unwrap().unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"],
        json!({"resourceVersion": "1"})
    );
}

#[tokio::test]
async fn delayed_events_keep_their_order() {
    let kube = kube().await;
    let late = EventMatch::any().name("late");
    kube.proxy
        .watch_rule(late.first(1), WatchAction::Delay(A_WHILE));
    let mut watch = kube.client.watch(0).await;
    let started = Instant::now();
    kube.server.put("late", 1);
    kube.server.put("next", 1);
    assert_eq!(watch.event().await, "ADDED late");
    assert!(started.elapsed() >= A_WHILE);
    assert_eq!(watch.event().await, "ADDED next");
}

#[tokio::test]
async fn an_event_can_come_twice() {
    let kube = kube().await;
    kube.proxy
        .watch_rule(EventMatch::any(), WatchAction::Duplicate);
    let mut watch = kube.client.watch(0).await;
    kube.server.put("x", 1);
    assert_eq!(
        [watch.event().await, watch.event().await],
        ["ADDED x", "ADDED x"]
    );
}

#[tokio::test]
async fn gone_as_an_event_and_as_an_answer() {
    let kube = kube().await;
    kube.proxy
        .watch_rule(EventMatch::any().nth(2), WatchAction::Gone);
    let mut watch = kube.client.watch(0).await;
    kube.server.put("x", 1);
    kube.server.put("x", 2);
    assert_eq!(watch.event().await, "ADDED x");
    let error = watch.next().await.unwrap().unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"]),
        (&"ERROR".into(), &410.into())
    );
    assert_eq!(error["object"]["reason"], "Expired");
    assert!(watch.next().await.unwrap().is_none());

    kube.proxy
        .rule(RequestMatch::watches(), Action::Answer(Answer::expired()));
    let answer = kube
        .client
        .get(&format!("{DEPLOYMENTS}?watch=true"))
        .await
        .unwrap();
    assert_eq!(
        (answer.code, &answer.json()["reason"]),
        (410, &"Expired".into())
    );
}

#[tokio::test]
async fn open_watches_are_ended_without_an_event() {
    let kube = kube().await;
    for (how, last) in [
        (WatchEnd::Close, None),
        (WatchEnd::Gone, Some("ERROR -")),
        (WatchEnd::Cut, Some("cut")),
    ] {
        let mut watch = kube.client.watch(0).await;
        assert_eq!(
            kube.proxy
                .end_watches(&RequestMatch::watches().resource("pods"), how),
            0
        );
        assert_eq!(kube.proxy.end_watches(&RequestMatch::watches(), how), 1);
        match (watch.next().await, last) {
            (Ok(Some(event)), Some("ERROR -")) => {
                assert_eq!(event["object"]["code"], 410);
                assert!(watch.next().await.unwrap().is_none());
            }
            (Ok(None), None) | (Err(_), Some("cut")) => {}
            (seen, _) => panic!("{how:?}: {seen:?}"),
        }
        until(|| kube.proxy.open_watches().is_empty()).await;
    }
}

#[tokio::test]
async fn a_stream_is_cut_in_place_of_an_event() {
    let kube = kube().await;
    kube.proxy
        .watch_rule(EventMatch::any().nth(3), WatchAction::Cut);
    let mut watch = kube.client.watch(0).await;
    for name in ["a", "b", "c"] {
        kube.server.put(name, 1);
    }
    assert_eq!(
        [watch.event().await, watch.event().await],
        ["ADDED a", "ADDED b"]
    );
    assert!(watch.next().await.is_err());
}

#[tokio::test]
async fn a_watch_that_is_cut_by_bytes_or_opened_late() {
    let kube = kube().await;
    kube.server.put("x", 1);
    let cut = kube
        .proxy
        .rule(RequestMatch::watches(), Action::CutAfter(10));
    assert!(kube.client.watch(0).await.next().await.is_err());
    cut.remove();
    kube.proxy
        .rule(RequestMatch::watches(), Action::Delay(A_WHILE));
    let started = Instant::now();
    assert_eq!(kube.client.watch(0).await.event().await, "ADDED x");
    assert!(started.elapsed() >= A_WHILE);
}

#[tokio::test]
async fn the_end_of_a_client_ends_the_watch_at_the_server() {
    let kube = kube().await;
    let mut watch = kube.client.watch(0).await;
    kube.server.put("x", 1);
    watch.event().await;
    drop(watch);
    until(|| kube.proxy.open_watches().is_empty()).await;
}
