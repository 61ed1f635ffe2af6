//! Servers and clients of which every byte is under the tests' control.

pub(crate) mod apiserver;
pub(crate) mod client;
pub(crate) mod grpc;

use std::time::Duration;

use process_operator_faultproxy::{KubeProxy, KubeProxyConfig};

use self::apiserver::ApiServer;
use self::client::Client;

/// The deadline of whatever is expected to happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long something must not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(150);
/// More than any test takes: what is delayed by this is not seen at all.
pub(crate) const AGES: Duration = Duration::from_hours(1);

/// An API server with a proxy before it and a client before that.
pub(crate) struct Kube {
    pub(crate) server: ApiServer,
    pub(crate) proxy: KubeProxy,
    pub(crate) client: Client,
}

pub(crate) async fn kube() -> Kube {
    let server = ApiServer::start().await;
    let config = KubeProxyConfig::new(&server.url(), server.ca_pem());
    let proxy = KubeProxy::start(config).await.unwrap();
    let client = Client::new(proxy.addr());
    Kube {
        server,
        proxy,
        client,
    }
}

/// Waits until something is so that gives no notice of itself.
pub(crate) async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, waiting)
        .await
        .expect("to be so in time");
}
