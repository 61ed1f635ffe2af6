//! How a definition is read out of an answer.

use http::{HeaderMap, StatusCode, header};
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::Value;

use super::{Definition, Failure, MAX_BYTES, Source, Trouble};
use crate::build::definition::number;

/// Header with the version, a whole number, beside a definition that is the answer itself.
pub(super) const VERSION: &str = "definition-version";

/// Longest `ETag` that is remembered.
const MAX_ETAG: usize = 1024;
/// Longest text of a registry that is shown to people.
const MAX_SHOWN: usize = 200;

/// A definition that is the body itself.
pub(super) fn plain(headers: &HeaderMap, body: Vec<u8>) -> Result<Definition, Failure> {
    let file = file_name(headers);
    let version = text(headers, VERSION).unwrap_or_default();
    complete(headers, file, body, version)
}

fn file_name(headers: &HeaderMap) -> String {
    if let Some(name) = text(headers, header::CONTENT_DISPOSITION.as_str()).and_then(named) {
        return name;
    }
    let extension = match media_type(headers).as_str() {
        "application/json" => ".json",
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => ".yaml",
        "application/bpmn+xml" => ".bpmn",
        "application/xml" | "text/xml" => ".xml",
        other if other.ends_with("+json") => ".json",
        other if other.ends_with("+yaml") => ".yaml",
        other if other.ends_with("+xml") => ".xml",
        _ => "",
    };
    format!("definition{extension}")
}

/// `filename` of a `Content-Disposition`.
fn named(text: &str) -> Option<String> {
    let of = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let same = key.trim().eq_ignore_ascii_case("filename");
        same.then(|| value.trim().trim_matches('"').to_owned())
    };
    text.split(';').find_map(of)
}

/// Content type without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let full = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let bare = full.split(';').next().unwrap_or_default();
    bare.trim().to_ascii_lowercase()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn complete(
    headers: &HeaderMap,
    file: String,
    content: Vec<u8>,
    said: &str,
) -> Result<Definition, Failure> {
    let unusable = |message: String| Err(Failure::new(Trouble::Unusable, message));
    if content.is_empty() {
        return unusable("the registry answered with an empty definition".to_owned());
    }
    if content.len() > MAX_BYTES {
        return Err(too_large());
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if file.is_empty() || file.len() > 253 || file.starts_with("..") || file == "." {
        return unusable("the registry gave a file name that no ConfigMap can have".to_owned());
    }
    if !file.chars().all(legal) {
        return unusable(
            "the registry gave a file name with other than letters, digits, '-', '_' and '.'"
                .to_owned(),
        );
    }
    let etag = text(headers, header::ETAG.as_str());
    let version = number(said);
    let odd = version.is_none() && !said.is_empty();
    Ok(Definition {
        file,
        content,
        version,
        unversioned: odd.then(|| said.to_owned()),
        etag: etag
            .filter(|etag| etag.len() <= MAX_ETAG)
            .map(str::to_owned),
    })
}

/// More than a ConfigMap can hold.
pub(super) fn too_large() -> Failure {
    Failure::new(
        Trouble::Unusable,
        format!(
            "the definition has more than {MAX_BYTES} bytes, which is what a ConfigMap can hold beside the \
             rest; have the registry serve a smaller one"
        ),
    )
}

/// The message that a Connect procedure answers with, as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Message {
    /// The definition as text.
    content: String,
    /// The definition as bytes, when it is not text.
    binary_content: Option<ByteString>,
    /// Name of its file.
    file_name: String,
    /// Its version: a 64-bit number is a string in this form.
    version: Value,
}

/// A definition in the message of a Connect procedure.
pub(super) fn message(headers: &HeaderMap, body: &[u8]) -> Result<Definition, Failure> {
    let kind = media_type(headers);
    if kind != "application/json" {
        let kind = shown(&kind, None);
        return Err(Failure::new(
            Trouble::Unusable,
            format!(
                "the registry answered with {kind:?} where Connect has application/json; correct \
                 spec.definitionRef.registry.url or protocol"
            ),
        ));
    }
    let read: Message = serde_json::from_slice(body).map_err(|error| {
        // Its own words may repeat what is in the body.
        let (line, column) = (error.line(), error.column());
        Failure::new(
            Trouble::Unusable,
            format!("the registry's message cannot be read at line {line}, column {column}"),
        )
    })?;
    let content = match read.binary_content {
        Some(bytes) if read.content.is_empty() => bytes.0,
        _ => read.content.into_bytes(),
    };
    let file = if read.file_name.is_empty() {
        "definition".to_owned()
    } else {
        read.file_name
    };
    let version = match read.version {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    complete(headers, file, content, &version)
}

/// What an HTTP status says that is no success.
pub(super) fn status(source: &Source, status: StatusCode) -> Failure {
    let host = source.shown();
    let code = status.as_u16();
    match code {
        300..=399 => Failure::new(
            Trouble::Unusable,
            format!(
                "{host} answered {code}: redirects are not followed; set spec.definitionRef.registry.url to \
                 the address of the definition itself"
            ),
        ),
        401 | 403 => refused(&host, &format!("answered {code}")),
        404 | 410 => Failure::new(
            Trouble::NotFound,
            format!(
                "{host} answered {code}: it has no such definition; publish it or correct \
                 spec.definitionRef.registry.url"
            ),
        ),
        408 | 425 | 429 | 500..=599 => Failure::new(
            Trouble::Unavailable,
            format!("{host} answered {code}; it is asked again"),
        ),
        _ => Failure::new(
            Trouble::Unusable,
            format!("{host} answered {code}; correct spec.definitionRef.registry.url"),
        ),
    }
}

fn refused(host: &str, what: &str) -> Failure {
    Failure::new(
        Trouble::Refused,
        format!(
            "{host} does not let the operator in ({what}); check the token that the operator's flag \
             --definition-registry-token-file names"
        ),
    )
}

/// An error of the Connect protocol.
#[derive(Debug, Default, Deserialize)]
struct ConnectError {
    code: String,
    #[serde(default)]
    message: String,
}

/// What an error of a Connect procedure says. Without one in the body the status tells its code, as the
/// protocol has it.
pub(super) fn error(
    source: &Source,
    http: StatusCode,
    body: &[u8],
    secret: Option<&str>,
) -> Failure {
    if http.is_redirection() {
        return status(source, http);
    }
    let told: Option<ConnectError> = serde_json::from_slice(body).ok();
    let told = told.unwrap_or_else(|| ConnectError {
        code: inferred(http).to_owned(),
        message: format!("HTTP status {}", http.as_u16()),
    });
    let host = source.shown();
    let code = shown(&told.code, secret);
    let words = shown(&told.message, secret);
    let what = format!("answered {code}: {words}");
    match told.code.as_str() {
        "not_found" => {
            let (id, tenant) = source.asks.clone().unwrap_or_default();
            Failure::new(
                Trouble::NotFound,
                format!(
                    "{host} {what}; publish definition {id} of tenant {tenant}, or correct spec.definitionRef"
                ),
            )
        }
        "unauthenticated" | "permission_denied" => refused(&host, &what),
        "invalid_argument"
        | "failed_precondition"
        | "out_of_range"
        | "unimplemented"
        | "already_exists" => Failure::new(
            Trouble::Unusable,
            format!("{host} {what}; correct spec.definitionRef.registry.url, id or tenantId"),
        ),
        _ => Failure::new(
            Trouble::Unavailable,
            format!("{host} {what}; it is asked again"),
        ),
    }
}

fn inferred(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "internal",
        401 => "unauthenticated",
        403 => "permission_denied",
        404 => "unimplemented",
        429 | 502..=504 => "unavailable",
        _ => "unknown",
    }
}

/// A registry's own words, short, in one line, and without the token should they repeat it.
pub(super) fn shown(text: &str, secret: Option<&str>) -> String {
    let text = match secret.filter(|secret| !secret.is_empty()) {
        Some(secret) => text.replace(secret, "…"),
        None => text.to_owned(),
    };
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().map(clean).take(MAX_SHOWN).collect();
    if text.chars().count() > MAX_SHOWN {
        short.push('…');
    }
    short
}
