//! The gRPC side: calls pass whole, and each can be disturbed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use http_body_util::BodyExt;
use process_operator_faultproxy::{Action, GrpcCode, GrpcError, Outcome, RpcMatch, TemporalProxy};

use crate::support::grpc::{Frontend, GrpcClient, framed};
use crate::support::{A_WHILE, AGES, SOON, until};

const START: &str = "StartWorkflowExecution";
const POLL: &str = "PollWorkflowTaskQueue";

async fn temporal() -> (Frontend, TemporalProxy, GrpcClient) {
    let frontend = Frontend::start().await;
    let proxy = frontend.proxy().await;
    let client = GrpcClient::connect(proxy.addr()).await.unwrap();
    (frontend, proxy, client)
}

#[tokio::test]
async fn calls_pass_with_their_trailers_and_are_recorded_by_method() {
    let (frontend, proxy, client) = temporal().await;
    let called = client.call(START, "order-1").await.unwrap();
    assert_eq!((called.status, called.message.as_str()), (0, "order-1"));
    assert_eq!(called.fields["x-trailer"], "kept");
    let missing = client.call("DescribeNamespace", "none").await.unwrap();
    assert_eq!(missing.status, 5);
    assert_eq!(
        frontend.calls(),
        ["StartWorkflowExecution order-1", "DescribeNamespace none"]
    );

    let records = proxy.records(..);
    let told: Vec<_> = records
        .iter()
        .map(|r| (r.request.method.as_str(), r.outcome))
        .collect();
    assert_eq!(
        told,
        [
            (START, Outcome::Answered(0)),
            ("DescribeNamespace", Outcome::Answered(5)),
        ]
    );
    assert!(records[0].request.mentions("order-1"));
    let counts = proxy.requests_by(|r| r.request.method.clone());
    assert_eq!((counts[START], counts.len()), (1, 2));
}

#[tokio::test]
async fn long_polls_wait_while_others_pass_on_the_same_connection() {
    let (frontend, proxy, client) = temporal().await;
    let poll = client.call(POLL, "queue");
    tokio::pin!(poll);
    assert!(tokio::time::timeout(A_WHILE, poll.as_mut()).await.is_err());
    assert_eq!(client.call(START, "x").await.unwrap().status, 0);
    assert_eq!(proxy.records(..)[0].outcome, Outcome::Open);
    frontend.task.notify_one();
    assert_eq!(poll.await.unwrap().message, "queue");
    assert_eq!(proxy.records(..)[0].outcome, Outcome::Answered(0));
}

#[tokio::test]
async fn a_poll_that_is_given_up_is_given_up_at_the_server() {
    let (frontend, proxy, client) = temporal().await;
    assert!(
        tokio::time::timeout(A_WHILE, client.call(POLL, "queue"))
            .await
            .is_err()
    );
    tokio::time::timeout(SOON, frontend.abandoned.notified())
        .await
        .unwrap();
    proxy
        .wait_for(|r| r.outcome == Outcome::ClientGone, SOON)
        .await
        .unwrap();
    assert_eq!(client.call(START, "x").await.unwrap().status, 0);
}

#[tokio::test]
async fn streams_flow_both_ways_at_once() {
    let (_frontend, _proxy, client) = temporal().await;
    let (input, mut output) = client.echo().await;
    for text in ["one", "two"] {
        input.send(framed(text)).unwrap();
        let frame = tokio::time::timeout(SOON, output.frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), framed(text));
    }
    drop(input);
    let trailers = output
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_trailers()
        .unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(output.frame().await.is_none());
}

#[tokio::test]
async fn kill_before_and_after() {
    let (frontend, proxy, client) = temporal().await;
    let kills = Arc::new(AtomicU32::new(0));
    let kill = {
        let kills = Arc::clone(&kills);
        move || {
            kills.fetch_add(1, Ordering::SeqCst);
        }
    };
    proxy.rule(
        RpcMatch::method(START).nth(2),
        Action::kill_before(kill.clone()),
    );
    assert_eq!(client.call(START, "1").await.unwrap().status, 0);
    assert!(client.call(START, "2").await.is_err());
    assert_eq!(
        (kills.load(Ordering::SeqCst), frontend.calls().len()),
        (1, 1)
    );
    assert!(
        client.call("Other", "").await.is_err(),
        "the connection is gone with its calls"
    );

    let client = GrpcClient::connect(proxy.addr()).await.unwrap();
    proxy.rule(
        RpcMatch::method(START).mentioning("3"),
        Action::kill_after(kill),
    );
    assert!(client.call(START, "3").await.is_err());
    assert_eq!(kills.load(Ordering::SeqCst), 2);
    assert_eq!(
        frontend.calls(),
        ["StartWorkflowExecution 1", "StartWorkflowExecution 3"]
    );
    let outcomes: Vec<_> = proxy.records(..).iter().map(|r| r.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Answered(0), Outcome::Dropped, Outcome::Withheld(0)]
    );
}

#[tokio::test]
async fn errors_in_the_servers_place() {
    let (frontend, proxy, client) = temporal().await;
    for (code, number) in [
        (GrpcCode::ResourceExhausted, 8),
        (GrpcCode::Unavailable, 14),
        (GrpcCode::DeadlineExceeded, 4),
        (GrpcCode::NotFound, 5),
        (GrpcCode::PermissionDenied, 7),
    ] {
        proxy.clear_rules();
        let error = GrpcError::new(code, "Namespace \"ü\" is not found");
        proxy.rule(RpcMatch::method(START), Action::Answer(error));
        let called = client.call(START, "x").await.unwrap();
        assert_eq!(called.status, number);
        assert_eq!(
            called.fields["grpc-message"],
            "Namespace \"%C3%BC\" is not found"
        );
        assert_eq!(
            proxy.records(..).last().unwrap().outcome,
            Outcome::Injected(number)
        );
    }
    assert!(frontend.calls().is_empty());

    proxy.clear_rules();
    let late = GrpcError::new(GrpcCode::DeadlineExceeded, "late");
    proxy.rule(RpcMatch::any(), Action::AnswerAfter(late));
    assert_eq!(client.call(START, "x").await.unwrap().status, 4);
    assert_eq!(frontend.calls(), ["StartWorkflowExecution x"]);
}

#[tokio::test]
async fn one_call_is_aborted_or_the_connection_reset() {
    let (_frontend, proxy, mut client) = temporal().await;
    proxy.rule(RpcMatch::method(START).nth(1), Action::Abort);
    assert!(client.call(START, "x").await.is_err());
    assert_eq!(
        client.call(START, "y").await.unwrap().status,
        0,
        "on the same connection"
    );
    proxy.rule(RpcMatch::method(START), Action::Reset);
    assert!(client.call(START, "z").await.is_err());
    client.closed().await;
    assert!(client.is_closed());
}

#[tokio::test]
async fn a_call_hangs_or_is_late() {
    let (frontend, proxy, client) = temporal().await;
    let hang = proxy.rule(RpcMatch::method(START), Action::Hang(None));
    let call = client.call(START, "x");
    tokio::pin!(call);
    assert!(tokio::time::timeout(A_WHILE, call.as_mut()).await.is_err());
    assert_eq!(client.call("Other", "").await.unwrap().status, 0);
    hang.remove();
    assert!(call.await.is_err());

    let late = proxy.rule(RpcMatch::method(START), Action::Delay(A_WHILE));
    let started = Instant::now();
    assert_eq!(client.call(START, "y").await.unwrap().status, 0);
    assert!(started.elapsed() >= A_WHILE);
    late.remove();

    proxy.rule(RpcMatch::method(START), Action::DelayAnswer(AGES));
    assert!(
        tokio::time::timeout(A_WHILE, client.call(START, "z"))
            .await
            .is_err()
    );
    assert_eq!(frontend.calls().last().unwrap(), "StartWorkflowExecution z");
}

#[tokio::test]
async fn a_call_can_arrive_twice_or_its_answer_half() {
    let (frontend, proxy, client) = temporal().await;
    let twice = proxy.rule(RpcMatch::method(START), Action::Duplicate);
    assert_eq!(client.call(START, "x").await.unwrap().message, "x");
    assert_eq!(
        frontend.calls(),
        ["StartWorkflowExecution x", "StartWorkflowExecution x"]
    );
    twice.remove();
    proxy.rule(RpcMatch::method(START), Action::CutAfter(3));
    assert!(client.call(START, "y").await.is_err());
}

#[tokio::test]
async fn temporal_goes_away_and_comes_back() {
    let (frontend, proxy, mut client) = temporal().await;
    let polling = tokio::spawn({
        let client = client.clone();
        async move { client.call(POLL, "queue").await }
    });
    until(|| !frontend.calls().is_empty()).await;
    proxy.down().await;
    assert!(polling.await.unwrap().is_err());
    client.closed().await;
    let error = GrpcClient::connect(proxy.addr()).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    // The server behind is told, as if its client's host were gone.
    tokio::time::timeout(SOON, frontend.abandoned.notified())
        .await
        .unwrap();
    proxy.heal().await.unwrap();
    let client = GrpcClient::connect(proxy.addr()).await.unwrap();
    assert_eq!(client.call(START, "x").await.unwrap().status, 0);
}

#[tokio::test]
async fn a_frontend_that_restarts_ends_its_clients_connections() {
    let (mut frontend, proxy, mut client) = temporal().await;
    let polling = tokio::spawn({
        let client = client.clone();
        async move { client.call(POLL, "queue").await }
    });
    until(|| !frontend.calls().is_empty()).await;
    frontend.restart().await;
    assert!(polling.await.unwrap().is_err());
    client.closed().await;
    let client = GrpcClient::connect(proxy.addr()).await.unwrap();
    assert_eq!(client.call(START, "x").await.unwrap().status, 0);
    assert_eq!(proxy.frontend(), frontend.proxy().await.frontend());
}
