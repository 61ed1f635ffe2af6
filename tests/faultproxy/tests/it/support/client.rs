//! A client without retries and without a pool: it tells exactly what happened to one request.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::SOON;
use super::apiserver::DEPLOYMENTS;

#[derive(Clone)]
pub(crate) struct Client {
    addr: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    /// Sends a request on a connection of its own; the answer's head.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "kubernetes")
            .header("authorization", "Bearer secret")
            .header("user-agent", "process-operator/0.1")
            .header("accept-encoding", "gzip")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        sender.send_request(request).await
    }

    /// A whole exchange. An error means that no complete answer came.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<Answered, hyper::Error> {
        let exchange = async {
            let (head, body) = self.open(method, path, body).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answered {
                code: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        tokio::time::timeout(SOON, exchange)
            .await
            .expect("an answer or an error in time")
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answered, hyper::Error> {
        self.send("GET", path, String::new()).await
    }

    pub(crate) async fn create(&self, name: &str) -> Result<Answered, hyper::Error> {
        let object = json!({"metadata": {"name": name, "namespace": "a"}});
        self.send(
            "POST",
            &format!("{DEPLOYMENTS}?fieldManager=tests"),
            object.to_string(),
        )
        .await
    }

    /// The names in a list of deployments.
    pub(crate) async fn list(&self) -> Vec<String> {
        let list = self.get(DEPLOYMENTS).await.unwrap().json();
        names(&list)
    }

    pub(crate) async fn watch(&self, from: u64) -> Watch {
        self.watch_path(&format!("{DEPLOYMENTS}?watch=true&resourceVersion={from}"))
            .await
    }

    pub(crate) async fn watch_path(&self, path: &str) -> Watch {
        let response = self.open("GET", path, String::new()).await.unwrap();
        assert_eq!(response.status(), 200);
        Watch {
            body: response.into_body(),
            buffer: BytesMut::new(),
        }
    }
}

pub(crate) fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) struct Watch {
    body: Incoming,
    buffer: BytesMut,
}

impl Watch {
    /// The next event; nothing at a proper end; an error where the stream breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, hyper::Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Ok(Some(serde_json::from_slice(&line).unwrap()));
            }
            let frame = tokio::time::timeout(SOON, self.body.frame()).await;
            match frame.expect("an event or an end in time") {
                None => return Ok(None),
                Some(frame) => self.buffer.extend_from_slice(frame?.data_ref().unwrap()),
            }
        }
    }

    /// The next event as `TYPE name`.
    pub(crate) async fn event(&mut self) -> String {
        let event = self.next().await.unwrap().expect("an event, not the end");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
        format!("{} {name}", event["type"].as_str().unwrap())
    }

    /// That nothing comes for a while.
    pub(crate) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(super::A_WHILE, self.next())
            .await
            .is_err()
    }
}
