//! What is done to requests, seen from both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use process_operator_faultproxy::{Action, Answer, Hook, Outcome, RequestMatch, Verb};

use crate::support::apiserver::DEPLOYMENTS;
use crate::support::{A_WHILE, AGES, SOON, kube, until};

fn counter() -> (Arc<AtomicU32>, impl Fn() + Send + Sync + 'static) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    (count, move || {
        counted.fetch_add(1, Ordering::SeqCst);
    })
}

#[tokio::test]
async fn kill_before_never_reaches_the_server() {
    let kube = kube().await;
    let (killed, kill) = counter();
    let rule = kube
        .proxy
        .rule(RequestMatch::writes().nth(2), Action::kill_before(kill));
    assert_eq!(kube.client.create("first").await.unwrap().code, 201);
    assert!(kube.client.create("second").await.is_err());
    assert_eq!(killed.load(Ordering::SeqCst), 1);
    assert_eq!(rule.hits(), 1);
    assert_eq!(kube.server.names(), ["first"]);
    let record = &kube.proxy.records(..)[1];
    assert_eq!(
        (record.outcome, record.rule),
        (Outcome::Dropped, Some(rule.id()))
    );
    assert_eq!(kube.client.create("third").await.unwrap().code, 201);
}

#[tokio::test]
async fn kill_after_has_committed_before_the_hook_runs_and_gives_no_answer() {
    let kube = kube().await;
    let (seen, see) = counter();
    kube.proxy
        .rule(RequestMatch::writes().name("x"), Action::kill_after(see));
    assert!(kube.client.create("x").await.is_err());
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(kube.server.names(), ["x"]);
    assert_eq!(kube.proxy.records(..)[0].outcome, Outcome::Withheld(201));
}

#[tokio::test]
async fn a_hook_runs_to_its_end_even_when_the_killed_client_is_gone() {
    let kube = kube().await;
    let (ended, end) = counter();
    let (gone, is_gone) = tokio::sync::watch::channel(false);
    let end = Arc::new(end);
    let hook = Hook::future(move || {
        let (end, mut is_gone) = (Arc::clone(&end), is_gone.clone());
        async move {
            is_gone.wait_for(|gone| *gone).await.unwrap();
            end();
        }
    });
    let mut last = None;
    for action in [Action::KillBefore(hook.clone()), Action::KillAfter(hook)] {
        kube.proxy.clear_rules();
        let rule = kube.proxy.rule(RequestMatch::writes(), action);
        last = Some(rule.clone());
        let client = kube.client.clone();
        let dying = tokio::spawn(async move { client.create("x").await });
        rule.wait_hits(1, SOON).await.unwrap();
        dying.abort();
        assert!(dying.await.unwrap_err().is_cancelled());
    }
    let rule = last.unwrap();
    assert!(rule.wait_done(1, A_WHILE).await.is_err());
    gone.send_replace(true);
    rule.wait_done(1, SOON).await.unwrap();
    until(|| ended.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn answers_in_the_servers_place() {
    let kube = kube().await;
    let retry = Duration::from_mins(1);
    for (answer, code, reason) in [
        (Answer::conflict(), 409, "AlreadyExists"),
        (Answer::conflict().reason("Conflict"), 409, "Conflict"),
        (
            Answer::too_many_requests().retry_after(retry),
            429,
            "TooManyRequests",
        ),
        (Answer::status(500), 500, "InternalError"),
        (Answer::status(503), 503, "ServiceUnavailable"),
        (Answer::status(504), 504, "Timeout"),
        (Answer::status(422).message("no"), 422, "Invalid"),
    ] {
        kube.proxy.clear_rules();
        kube.proxy
            .rule(RequestMatch::writes(), Action::Answer(answer));
        let answered = kube.client.create("x").await.unwrap();
        let status = answered.json();
        assert_eq!(answered.code, code);
        assert_eq!(
            (&status["kind"], &status["code"]),
            (&"Status".into(), &code.into())
        );
        assert_eq!(status["reason"], reason);
        assert_eq!(status["details"]["kind"], "deployments");
        if code == 429 {
            assert_eq!(answered.headers["retry-after"], "60");
            assert_eq!(status["details"]["retryAfterSeconds"], 60);
        } else {
            assert!(!answered.headers.contains_key("retry-after"));
        }
        assert_eq!(
            kube.proxy.records(..).last().unwrap().outcome,
            Outcome::Injected(code)
        );
    }
    assert!(kube.server.requests().is_empty());

    kube.proxy.clear_rules();
    let page = Answer::raw(502, "text/html", "<h1>Bad Gateway</h1>");
    kube.proxy.rule(RequestMatch::any(), Action::Answer(page));
    let answered = kube.client.get(DEPLOYMENTS).await.unwrap();
    assert_eq!(
        (answered.code, &answered.body[..]),
        (502, &b"<h1>Bad Gateway</h1>"[..])
    );
    assert_eq!(answered.headers["content-type"], "text/html");
}

#[tokio::test]
async fn an_answer_instead_of_the_true_one() {
    let kube = kube().await;
    kube.proxy.rule(
        RequestMatch::writes(),
        Action::AnswerAfter(Answer::status(504)),
    );
    assert_eq!(kube.client.create("x").await.unwrap().code, 504);
    assert_eq!(kube.server.names(), ["x"]);
    let outcome = kube.proxy.records(..)[0].outcome;
    assert_eq!(
        outcome,
        Outcome::Replaced {
            upstream: 201,
            given: 504
        }
    );
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let kube = kube().await;
    kube.proxy.rule(RequestMatch::any(), Action::Reset);
    let mut stream = tokio::net::TcpStream::connect(kube.proxy.addr())
        .await
        .unwrap();
    stream
        .write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    // And an aborted request is an orderly end without an answer.
    kube.proxy.clear_rules();
    kube.proxy.rule(RequestMatch::any(), Action::Abort);
    let mut stream = tokio::net::TcpStream::connect(kube.proxy.addr())
        .await
        .unwrap();
    stream
        .write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_request_hangs_until_the_rule_is_removed_or_the_time_is_over() {
    let kube = kube().await;
    let rule = kube.proxy.rule(RequestMatch::writes(), Action::Hang(None));
    let hanging = kube.client.create("x");
    tokio::pin!(hanging);
    assert!(
        tokio::time::timeout(A_WHILE, hanging.as_mut())
            .await
            .is_err()
    );
    // Others are not held up.
    assert_eq!(kube.client.get(DEPLOYMENTS).await.unwrap().code, 200);
    rule.remove();
    assert!(hanging.await.is_err());

    kube.proxy
        .rule(RequestMatch::writes(), Action::Hang(Some(A_WHILE)));
    let started = Instant::now();
    assert!(kube.client.create("x").await.is_err());
    assert!(started.elapsed() >= A_WHILE);
    assert!(kube.server.names().is_empty());
}

#[tokio::test]
async fn a_client_that_gives_up_is_recorded_and_nothing_is_forwarded_for_it() {
    let kube = kube().await;
    kube.proxy.rule(RequestMatch::writes(), Action::Delay(AGES));
    assert!(
        tokio::time::timeout(A_WHILE, kube.client.create("x"))
            .await
            .is_err()
    );
    let gone = kube
        .proxy
        .wait_for(|r| r.outcome == Outcome::ClientGone, SOON)
        .await
        .unwrap();
    assert_eq!(gone.request.name, "x");
    kube.proxy.clear_rules();
    assert!(kube.server.requests().is_empty());
}

#[tokio::test]
async fn requests_and_answers_can_be_late() {
    let kube = kube().await;
    let late = kube
        .proxy
        .rule(RequestMatch::writes(), Action::Delay(A_WHILE));
    let started = Instant::now();
    assert_eq!(kube.client.create("x").await.unwrap().code, 201);
    assert!(started.elapsed() >= A_WHILE);
    late.remove();

    // The server has long done it while the client still waits for the answer.
    let rule = kube
        .proxy
        .rule(RequestMatch::writes(), Action::DelayAnswer(AGES));
    let client = kube.client.clone();
    let waiting = tokio::spawn(async move { client.create("y").await });
    rule.wait_hits(1, SOON).await.unwrap();
    until(|| kube.server.names() == ["x", "y"]).await;
    assert!(!waiting.is_finished());
    rule.remove();
    assert_eq!(waiting.await.unwrap().unwrap().code, 201);
}

#[tokio::test]
async fn the_body_of_an_answer_can_come_bit_by_bit() {
    let kube = kube().await;
    kube.server.put("x", 1);
    let list = || kube.client.open("GET", DEPLOYMENTS, String::new());
    let whole = list().await.unwrap().into_body().collect().await.unwrap();
    let lists = RequestMatch::any().verb(Verb::List);
    kube.proxy.rule(lists, Action::Trickle(A_WHILE));
    let started = Instant::now();
    let response = list().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let (mut parts, mut got) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        got.extend_from_slice(&frame.unwrap().into_data().unwrap());
        parts += 1;
    }
    assert!(parts > 1, "{parts}");
    assert!(started.elapsed() >= A_WHILE.mul_f64(0.8));
    assert_eq!(got, whole.to_bytes());
}

#[tokio::test]
async fn an_answer_is_cut_after_so_many_bytes() {
    let kube = kube().await;
    kube.server.put("x", 1);
    kube.proxy
        .rule(RequestMatch::any().verb(Verb::List), Action::CutAfter(30));
    let response = kube
        .client
        .open("GET", DEPLOYMENTS, String::new())
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut got = Vec::new();
    while let Ok(frame) = body.frame().await.expect("an error, not the end") {
        got.extend_from_slice(&frame.into_data().unwrap());
    }
    assert_eq!(got.len(), 30);
}

#[tokio::test]
async fn a_request_can_arrive_twice() {
    let kube = kube().await;
    kube.proxy.rule(RequestMatch::writes(), Action::Duplicate);
    assert_eq!(kube.client.create("x").await.unwrap().code, 201);
    assert_eq!(kube.server.requests().len(), 2);
}

#[tokio::test]
async fn rules_choose_by_what_and_which_and_for_how_long() {
    let kube = kube().await;
    let fail = || Action::Answer(Answer::status(503));
    let path = format!("{DEPLOYMENTS}/x/status");
    kube.proxy.rule(
        RequestMatch::writes()
            .resource("deployments.apps")
            .subresource("status"),
        fail(),
    );
    assert_eq!(
        kube.client
            .send("PUT", &path, "{}".into())
            .await
            .unwrap()
            .code,
        503
    );
    assert_eq!(kube.client.create("x").await.unwrap().code, 201);

    kube.proxy.clear_rules();
    kube.proxy.rule(
        RequestMatch::writes().namespace("a").name("y").from_nth(2),
        fail(),
    );
    let mut codes = Vec::new();
    for name in ["y", "z", "y", "y"] {
        codes.push(kube.client.create(name).await.unwrap().code);
    }
    assert_eq!(codes, [201, 201, 503, 503]);

    kube.proxy.clear_rules();
    kube.proxy.rule(
        RequestMatch::any().when(|r| r.field_manager == "tests"),
        fail(),
    );
    assert_eq!(kube.client.create("x").await.unwrap().code, 503);
    assert_eq!(kube.client.get(DEPLOYMENTS).await.unwrap().code, 200);

    // For a time: as soon as it is over, the same request goes through.
    kube.proxy.clear_rules();
    kube.proxy
        .rule(RequestMatch::writes().lasting(A_WHILE), fail());
    let started = Instant::now();
    while kube.client.create("x").await.unwrap().code == 503 {}
    assert!(started.elapsed() >= A_WHILE);
}

#[tokio::test]
async fn an_exception_precedes_the_rule_it_is_from() {
    let kube = kube().await;
    kube.proxy
        .rule(RequestMatch::writes().name("x"), Action::Pass);
    kube.proxy
        .rule(RequestMatch::writes(), Action::lose_answer());
    assert_eq!(kube.client.create("x").await.unwrap().code, 201);
    assert!(kube.client.create("y").await.is_err());
    assert_eq!(kube.server.names(), ["x", "y"]);
}
