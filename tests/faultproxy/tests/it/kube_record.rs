//! What the proxy forwards and what it remembers.

use process_operator_faultproxy::{Outcome, Verb};

use crate::support::apiserver::DEPLOYMENTS;
use crate::support::{SOON, kube};

#[tokio::test]
async fn requests_pass_as_they_are_with_the_clients_credentials() {
    let kube = kube().await;
    let created = kube.client.create("x").await.unwrap();
    assert_eq!(
        (created.code, &created.json()["metadata"]["name"]),
        (201, &"x".into())
    );
    let headers = kube.server.last_headers();
    assert_eq!(headers["authorization"], "Bearer secret");
    assert_eq!(headers["user-agent"], "process-operator/0.1");
    assert!(!headers.contains_key("accept-encoding"));
    assert!(headers["host"].to_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(kube.client.list().await, ["x"]);
    let missing = kube
        .client
        .get(&format!("{DEPLOYMENTS}/none?a=b%20c"))
        .await
        .unwrap();
    assert_eq!(missing.code, 404);
    assert_eq!(
        kube.server.requests()[2],
        format!("GET {DEPLOYMENTS}/none?a=b%20c")
    );
}

#[tokio::test]
async fn every_request_is_recorded_and_counted() {
    let kube = kube().await;
    kube.client.create("x").await.unwrap();
    kube.client.list().await;
    let mark = kube.proxy.mark();
    kube.client
        .get(&format!("{DEPLOYMENTS}/none"))
        .await
        .unwrap();
    kube.client
        .send("DELETE", &format!("{DEPLOYMENTS}/x"), String::new())
        .await
        .unwrap();

    let records = kube.proxy.records(..);
    assert_eq!(
        records.iter().map(|r| r.seq).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let told: Vec<_> = records
        .iter()
        .map(|r| (r.request.verb, r.outcome))
        .collect();
    assert_eq!(
        told,
        [
            (Verb::Create, Outcome::Answered(201)),
            (Verb::List, Outcome::Answered(200)),
            (Verb::Get, Outcome::Answered(404)),
            (Verb::Delete, Outcome::Answered(200)),
        ]
    );
    assert!(records.iter().all(|r| r.took.is_some() && r.rule.is_none()));
    assert!(records.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert_eq!(kube.proxy.reads_and_writes(..), (2, 2));
    assert_eq!(kube.proxy.reads_and_writes(mark..), (1, 1));
    assert_eq!(kube.proxy.reads_and_writes(..mark), (1, 1));
    assert_eq!(kube.proxy.count(.., |r| r.request.name == "x"), 2);
    let by_verb = kube.proxy.requests_by(|r| r.request.verb.as_str());
    assert_eq!(by_verb["get"], 1);
    assert_eq!(by_verb.values().sum::<u64>(), 4);
}

#[tokio::test]
async fn a_learning_run_lists_the_writes() {
    let kube = kube().await;
    kube.client.create("early").await.unwrap();
    let mark = kube.proxy.mark();
    kube.client.list().await;
    kube.client.create("x").await.unwrap();
    kube.client.create("y").await.unwrap();
    let status = format!("{DEPLOYMENTS}/x/status?fieldManager=status");
    let body = r#"{"metadata":{"name":"x"}}"#.to_owned();
    kube.client.send("PUT", &status, body).await.unwrap();
    let report = kube.proxy.writes(mark..);
    assert_eq!(report.len(), 3);
    assert_eq!(
        report.writes[2].to_string(),
        "update deployments.apps/status by status: a/x"
    );
    assert_eq!(report.writes[0].code, Some(201));
    assert_eq!(
        report.to_string(),
        "3 writes\n     2  create deployments.apps by tests\n     1  update deployments.apps/status by status\n"
    );
    assert!(kube.proxy.writes(kube.proxy.mark()..).is_empty());
}

#[tokio::test]
async fn waiting_for_a_request_to_come_and_for_its_answer() {
    let kube = kube().await;
    let (seen, created) = tokio::join!(
        kube.proxy.wait_for(|r| r.outcome.code() == Some(201), SOON),
        kube.client.create("x"),
    );
    assert_eq!(created.unwrap().code, 201);
    assert_eq!(seen.unwrap().request.name, "x");
    // One that is past is found at once, unless only later ones are meant.
    kube.proxy
        .wait_for(|r| r.request.verb == Verb::Create, SOON)
        .await
        .unwrap();
    let error = kube
        .proxy
        .wait_for_since(
            kube.proxy.mark(),
            |r| r.request.verb == Verb::Create,
            std::time::Duration::ZERO,
        )
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("0 requests since the mark"),
        "{error}"
    );
    let error = kube
        .proxy
        .wait_for(|_| false, std::time::Duration::ZERO)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("create /apis/apps/v1"),
        "{error}"
    );
    assert!(error.to_string().contains("Answered(201)"), "{error}");
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let kube = kube().await;
    let mut stream = tokio::net::TcpStream::connect(kube.proxy.addr())
        .await
        .unwrap();
    for _ in 0..2 {
        stream
            .write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 404"));
    }
    assert_eq!(kube.server.requests().len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_gives_no_answer() {
    let kube = kube().await;
    drop(kube.server);
    while kube.client.get("/version").await.is_ok() {}
    assert_eq!(
        kube.proxy.records(..).last().unwrap().outcome,
        Outcome::Unreachable
    );
}
