//! Answers in the form kube-apiserver would give them.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::{Body, full};
use crate::kube::request::{KubeRequest, Verb};

/// An answer of the proxy's own.
#[derive(Clone, Debug)]
pub struct Answer {
    code: u16,
    reason: Option<String>,
    message: String,
    retry_after: Option<u64>,
    raw: Option<(String, Bytes)>,
}

impl Answer {
    /// A `Status` body with the reason that belongs to the code.
    pub fn status(code: u16) -> Self {
        let message = "injected by the fault proxy".to_owned();
        Self {
            code,
            reason: None,
            message,
            retry_after: None,
            raw: None,
        }
    }

    /// 409 Conflict: someone else wrote first.
    pub fn conflict() -> Self {
        Self::status(409).message(
            "the object has been modified; please apply your changes to the latest version",
        )
    }

    /// 429 Too Many Requests.
    pub fn too_many_requests() -> Self {
        Self::status(429).message("too many requests, please try again later")
    }

    /// 410 Expired: a resource version that is too old to watch or list from.
    pub fn expired() -> Self {
        Self::status(410).message("too old resource version: 1 (2)")
    }

    /// A body that is no `Status`, such as the page of a load balancer.
    pub fn raw(code: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            raw: Some((content_type.to_owned(), body.into())),
            ..Self::status(code)
        }
    }

    /// Another reason than the code's usual one.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// The message.
    #[must_use]
    pub fn message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }

    /// A `Retry-After` header, and `retryAfterSeconds` in the body. Whole seconds, as in HTTP.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time.as_secs());
        self
    }

    pub(crate) fn code(&self) -> u16 {
        self.code
    }

    /// The `Status` object for an answer to this request.
    pub(crate) fn body(&self, request: &KubeRequest) -> Value {
        let reason = match &self.reason {
            Some(reason) => reason.as_str(),
            None => usual_reason(self.code, request.verb),
        };
        let mut details =
            json!({"name": request.name, "group": request.group, "kind": request.resource});
        if let Some(seconds) = self.retry_after {
            details["retryAfterSeconds"] = seconds.into();
        }
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": reason,
            "details": details,
            "code": self.code,
        })
    }

    pub(crate) fn response(&self, request: &KubeRequest) -> Response<Body> {
        let (content_type, body) = match &self.raw {
            Some((content_type, body)) => (content_type.as_str(), body.clone()),
            None => ("application/json", self.body(request).to_string().into()),
        };
        let mut response = json_response(self.code, body);
        if let Ok(value) = HeaderValue::from_str(content_type) {
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

pub(crate) fn json_response(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    stream_response(code, full(body))
}

pub(crate) fn stream_response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn usual_reason(code: u16, verb: Verb) -> &'static str {
    match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        409 if verb == Verb::Create => "AlreadyExists",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    }
}
