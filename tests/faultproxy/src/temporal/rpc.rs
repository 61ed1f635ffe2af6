//! Remote calls as they are recorded and matched, and errors as gRPC carries them.

use std::fmt;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::body::{Body, full};
use crate::matcher::Matcher;

/// One remote call.
#[derive(Clone)]
pub struct Rpc {
    /// The service, e.g. `temporal.api.workflowservice.v1.WorkflowService`.
    pub service: String,
    /// The method, e.g. `SignalWithStartWorkflowExecution`.
    pub method: String,
    /// Who asks, as the header `authorization` says; empty without one.
    pub authorization: String,
    /// The request message in protobuf, uncompressed.
    pub message: Bytes,
}

impl Rpc {
    pub(crate) fn new(path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        let (service, method) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or(("", path));
        Self {
            service: service.to_owned(),
            method: method.to_owned(),
            authorization: text(headers, "authorization"),
            message: first_message(body).unwrap_or_default(),
        }
    }

    /// Whether a text, such as a workflow id, stands in the request message. Protobuf keeps
    /// strings as they are, so this needs no knowledge of the message.
    pub fn mentions(&self, text: &str) -> bool {
        let text = text.as_bytes();
        text.is_empty()
            || self
                .message
                .windows(text.len())
                .any(|window| window == text)
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.method)
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// The first message of a gRPC body: a flag for compression, a length, the message.
fn first_message(body: &[u8]) -> Option<Bytes> {
    let (head, rest) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let message = rest.get(..usize::try_from(length).ok()?)?;
    if head[0] == 0 {
        return Some(Bytes::copy_from_slice(message));
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(message)
        .read_to_end(&mut plain)
        .ok()?;
    Some(plain.into())
}

/// A matcher of remote calls.
pub type RpcMatch = Matcher<Rpc>;

impl Matcher<Rpc> {
    /// Calls of this method.
    pub fn method(method: &str) -> Self {
        let method = method.to_owned();
        Self::any().when(move |rpc| rpc.method == method)
    }

    /// Calls whose message contains a text, such as a workflow id or a namespace.
    #[must_use]
    pub fn mentioning(self, text: &str) -> Self {
        let text = text.to_owned();
        self.when(move |rpc| rpc.mentions(&text))
    }
}

/// The status codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum GrpcCode {
    /// No error.
    Ok = 0,
    /// The caller cancelled.
    Cancelled = 1,
    /// Nothing more is known.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// Too late; the server may have done it all the same.
    DeadlineExceeded = 4,
    /// Nothing of that name.
    NotFound = 5,
    /// Something of that name is there.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// A quota or rate limit is used up.
    ResourceExhausted = 8,
    /// The state of things does not allow it.
    FailedPrecondition = 9,
    /// Someone else got in between.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// The server is broken.
    Internal = 13,
    /// The server cannot at present.
    Unavailable = 14,
    /// Something was lost for good.
    DataLoss = 15,
    /// The caller did not say who it is.
    Unauthenticated = 16,
}

/// An error that the proxy answers in the server's place.
#[derive(Clone, Debug)]
pub struct GrpcError {
    code: GrpcCode,
    message: String,
    details: Option<Bytes>,
}

/// What percent-encoding leaves alone in a `grpc-message`: printable ASCII but `%`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

impl GrpcError {
    /// An error with this code and message.
    pub fn new(code: GrpcCode, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
            details: None,
        }
    }

    /// An encoded `google.rpc.Status` with details, such as Temporal's `NamespaceNotFoundFailure`.
    #[must_use]
    pub fn details(mut self, status: impl Into<Bytes>) -> Self {
        self.details = Some(status.into());
        self
    }

    pub(crate) fn code(&self) -> u16 {
        self.code as u16
    }

    /// An answer without a body, whose headers are its trailers.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(full(Bytes::new()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", self.code().into());
        let message = utf8_percent_encode(&self.message, ESCAPED).to_string();
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
        if let Some(details) = &self.details
            && let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(details))
        {
            headers.insert("grpc-status-details-bin", details);
        }
        response
    }
}

/// The status in an answer's trailers, or in its headers if it has no body.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let mut body = vec![flag];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        body
    }

    #[test]
    fn a_call_is_named_by_its_path_and_its_message_can_be_searched() {
        let rpc = Rpc::new(
            "/a.b.v1.Service/Do",
            &HeaderMap::new(),
            &framed(0, b"\x0a\x05order"),
        );
        assert_eq!(
            (rpc.service.as_str(), rpc.method.as_str()),
            ("a.b.v1.Service", "Do")
        );
        assert!(rpc.mentions("order") && !rpc.mentions("orders"));
    }

    #[test]
    fn compressed_messages_can_be_searched_too() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"process/ns/name").unwrap();
        let rpc = Rpc::new(
            "/s/m",
            &HeaderMap::new(),
            &framed(1, &gzip.finish().unwrap()),
        );
        assert!(rpc.mentions("process/ns/name"));
    }

    #[test]
    fn a_broken_message_is_an_empty_one() {
        for body in [&b""[..], b"\0\0", b"\0\0\0\0\x09short", b"\x01\0\0\0\x02xx"] {
            assert!(
                Rpc::new("/s/m", &HeaderMap::new(), body).message.is_empty(),
                "{body:?}"
            );
        }
    }

    #[test]
    fn an_error_is_all_headers() {
        let error = GrpcError::new(GrpcCode::NotFound, "no 100 % ü").details(vec![1, 2, 3]);
        let response = error.response();
        assert_eq!(grpc_status(response.headers()), Some(5));
        assert_eq!(response.headers()["grpc-message"], "no 100 %25 %C3%BC");
        assert_eq!(response.headers()["grpc-status-details-bin"], "AQID");
    }
}
