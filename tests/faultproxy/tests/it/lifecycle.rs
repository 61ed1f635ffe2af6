//! Proxies that start, go away, come back and end.

use std::io::ErrorKind;
use std::net::SocketAddr;

use process_operator_faultproxy::{Action, KubeProxy, KubeProxyConfig, RequestMatch};
use tokio::net::TcpStream;

use crate::support::apiserver::DEPLOYMENTS;
use crate::support::{SOON, kube};

async fn refused(addr: SocketAddr) -> bool {
    TcpStream::connect(addr)
        .await
        .is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn a_server_goes_away_and_comes_back() {
    let kube = kube().await;
    let mut watch = kube.client.watch(0).await;
    kube.proxy.down().await;
    assert!(refused(kube.proxy.addr()).await);
    assert!(watch.next().await.is_err());
    kube.proxy.down().await;
    kube.proxy.up().await.unwrap();
    kube.proxy.up().await.unwrap();
    assert_eq!(kube.client.get(DEPLOYMENTS).await.unwrap().code, 200);
}

#[tokio::test]
async fn a_graceful_end_closes_watches_and_lets_answers_finish() {
    let kube = kube().await;
    let addr = kube.proxy.addr();
    let mut watch = kube.client.watch(0).await;
    let rule = kube.proxy.rule(
        RequestMatch::writes(),
        Action::DelayAnswer(std::time::Duration::from_millis(100)),
    );
    let client = kube.client.clone();
    let creating = tokio::spawn(async move { client.create("x").await });
    rule.wait_hits(1, SOON).await.unwrap();
    kube.proxy.stop().await;
    // The event of what was created may have come before the end, which is a proper one.
    while watch.next().await.unwrap().is_some() {}
    assert_eq!(creating.await.unwrap().unwrap().code, 201);
    assert!(refused(addr).await);
}

#[tokio::test]
async fn dropping_a_proxy_ends_everything() {
    let kube = kube().await;
    let addr = kube.proxy.addr();
    let mut watch = kube.client.watch(0).await;
    drop(kube.proxy);
    let ended = watch.next().await;
    assert!(matches!(ended, Ok(None) | Err(_)), "{ended:?}");
    let closed = async { while !refused(addr).await {} };
    tokio::time::timeout(SOON, closed).await.unwrap();
}

#[tokio::test]
async fn a_proxy_listens_where_it_is_told_to() {
    let server = crate::support::apiserver::ApiServer::start().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let other = SocketAddr::from(([127, 0, 0, 2], 0));
    let config = KubeProxyConfig::new(&server.url(), server.ca_pem());
    let proxy = KubeProxy::start(config.clone().listen(&[any, other]))
        .await
        .unwrap();
    assert_eq!(proxy.addrs().len(), 2);
    assert_eq!(proxy.url(), format!("http://{}", proxy.addr()));
    for addr in proxy.addrs() {
        let client = crate::support::client::Client::new(*addr);
        assert_eq!(client.get(DEPLOYMENTS).await.unwrap().code, 200);
    }
    let taken = std::net::TcpListener::bind(any).unwrap();
    let taken = taken.local_addr().unwrap();
    let error = KubeProxy::start(config.listen(&[taken])).await.unwrap_err();
    assert!(error.to_string().contains("cannot listen"), "{error}");
}

#[tokio::test]
async fn a_config_that_cannot_work_is_refused() {
    let bad_ca = KubeProxyConfig::new("https://127.0.0.1:1", "no PEM");
    let proxy = KubeProxy::start(bad_ca).await;
    assert!(proxy.unwrap_err().to_string().contains("CA"));
    assert!(
        KubeProxy::start(KubeProxyConfig::new("127.0.0.1", ""))
            .await
            .is_err()
    );
    let nowhere = KubeProxyConfig::new("http://127.0.0.1:1", "").listen(&[]);
    assert!(
        KubeProxy::start(nowhere)
            .await
            .unwrap_err()
            .to_string()
            .contains("address")
    );
}
