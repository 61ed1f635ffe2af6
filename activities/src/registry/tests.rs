//! How addresses, answers and errors are read.

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::*;

fn source(protocol: RegistryProtocol) -> Source {
    let registry = json!({ "url": "https://Registry.example/defs/l2o", "protocol": protocol });
    let reference = json!({ "id": "L2O_v3", "tenantId": "t123", "registry": registry });
    let reference = serde_json::from_value(reference).expect("a reference");
    Source::named(&reference).expect("a source")
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        })
        .collect()
}

#[test]
fn a_host_is_allowed_with_its_scheme_and_port_only() {
    let allowed = |text: &str, url: &str| {
        let host: Host = text.parse().expect(text);
        Host::of(url).is_ok_and(|of| of == host)
    };
    assert!(allowed("registry.example", "https://Registry.Example/a/b"));
    assert!(allowed("registry.example:443", "https://registry.example"));
    assert!(allowed("http://r:8080", "http://r:8080/x"));
    assert!(allowed("https://[::1]:8443", "https://[::1]:8443/x"));
    for (text, url) in [
        ("registry.example", "http://registry.example/"),
        ("registry.example", "https://registry.example:8443/"),
        ("registry.example", "https://registry.example.evil/"),
        ("http://r", "https://r"),
    ] {
        assert!(!allowed(text, url), "{text} {url}");
    }
    for text in [
        "",
        "https://",
        "*.example",
        "r/path",
        "u:p@r",
        "r:99999",
        "ftp://r",
    ] {
        assert!(text.parse::<Host>().is_err(), "{text}");
    }
}

#[test]
fn what_may_not_be_asked_says_field_and_flag() {
    let none = Registries::new(Settings::default()).expect("nothing to read");
    let why = none.forbids(&source(RegistryProtocol::Get)).expect("none");
    for part in [
        "spec.definitionRef.registry.url",
        "https://registry.example,",
        "--definition-registry",
    ] {
        assert!(why.contains(part), "{why}");
    }
    let settings = Settings {
        hosts: vec!["registry.example".parse().expect("a host")],
        ..Settings::default()
    };
    let some = Registries::new(settings).expect("certificates");
    assert_eq!(some.forbids(&source(RegistryProtocol::Get)), None);
}

#[test]
fn how_often_is_asked_makes_no_other_source() {
    let get = source(RegistryProtocol::Get);
    let often = Source {
        refresh: Duration::from_secs(10),
        ..get.clone()
    };
    assert_eq!(get.refresh, Duration::from_secs(300));
    assert_eq!(get.mark(), often.mark());
    let connect = source(RegistryProtocol::Connect);
    assert_ne!(get.mark(), connect.mark());
    let other = Source {
        asks: Some(("L2O_v3".into(), "t124".into())),
        ..connect.clone()
    };
    assert_ne!(connect.mark(), other.mark());
}

#[test]
fn requests_are_as_the_protocols_have_them() {
    let get = fetch::request(&source(RegistryProtocol::Get), Some("\"1\""), Some("abc"));
    let get = get.expect("a request");
    assert_eq!(get.method(), http::Method::GET);
    assert_eq!(get.headers()["if-none-match"], "\"1\"");
    assert_eq!(get.headers()["authorization"], "Bearer abc");
    assert!(get.headers()["authorization"].is_sensitive());
    let connect = fetch::request(&source(RegistryProtocol::Connect), None, None);
    let connect = connect.expect("a request");
    assert_eq!(connect.method(), http::Method::POST);
    assert_eq!(connect.headers()["connect-protocol-version"], "1");
    assert_eq!(connect.headers()["content-type"], "application/json");
    assert!(!connect.headers().contains_key("authorization"));
    let broken = fetch::request(&source(RegistryProtocol::Get), None, Some("a\nb"));
    assert!(!broken.expect_err("two lines").message.contains("a\nb"));
}

#[test]
fn a_plain_answer_is_the_definition_and_its_headers_name_it() {
    for (kind, file) in [
        ("application/bpmn+xml", "definition.bpmn"),
        ("text/xml; charset=utf-8", "definition.xml"),
        ("application/json", "definition.json"),
        ("application/vnd.x+yaml", "definition.yaml"),
        ("application/octet-stream", "definition"),
    ] {
        let read = answer::plain(&headers(&[("content-type", kind)]), b"x".to_vec());
        assert_eq!(read.expect(kind).file, file);
    }
    let full = headers(&[
        ("content-disposition", "attachment; filename=\"l2o.bpmn\""),
        ("definition-version", "7"),
        ("etag", "\"7\""),
    ]);
    let read = answer::plain(&full, b"<a/>".to_vec()).expect("a definition");
    let wanted = Definition {
        file: "l2o.bpmn".into(),
        content: b"<a/>".to_vec(),
        version: Some(7),
        unversioned: None,
        etag: Some("\"7\"".into()),
    };
    assert_eq!(read, wanted);
    for said in ["v7", "-1", "9007199254740992", "9223372036854775807"] {
        let odd = headers(&[("definition-version", said)]);
        let read = answer::plain(&odd, b"x".to_vec()).expect("a definition");
        assert_eq!(
            (read.version, read.unversioned.as_deref()),
            (None, Some(said))
        );
    }
}

#[test]
fn what_no_config_map_can_hold_is_unusable() {
    let path = headers(&[("content-disposition", "attachment; filename=\"../etc/x\"")]);
    for refused in [
        answer::plain(&path, b"x".to_vec()),
        answer::plain(&HeaderMap::new(), Vec::new()),
        answer::plain(&HeaderMap::new(), vec![b'x'; MAX_BYTES + 1]),
    ] {
        let failure = refused.expect_err("unusable");
        assert_eq!(failure.trouble, Trouble::Unusable, "{}", failure.message);
    }
    assert!(answer::plain(&HeaderMap::new(), vec![b'x'; MAX_BYTES]).is_ok());
}

#[test]
fn a_message_has_text_or_bytes_and_a_version_in_either_form() {
    let json = headers(&[("content-type", "application/json; charset=utf-8")]);
    let read = |message: serde_json::Value| answer::message(&json, message.to_string().as_bytes());
    let text = json!({ "content": "<a/>", "fileName": "a.bpmn", "version": "4", "more": {} });
    let text = read(text).expect("text");
    assert_eq!((text.file.as_str(), text.version), ("a.bpmn", Some(4)));
    let bytes = read(json!({ "binaryContent": "AP8=", "version": 5 })).expect("bytes");
    assert_eq!((bytes.content, bytes.version), (vec![0, 255], Some(5)));
    let version = |said: serde_json::Value| {
        let read = read(json!({ "content": "<a/>", "version": said })).expect("a definition");
        (read.version, read.unversioned)
    };
    let highest = 9_007_199_254_740_991_i64;
    assert_eq!(version(json!(highest)), (Some(highest), None));
    assert_eq!(version(json!("")), (None, None));
    assert_eq!(version(json!(null)), (None, None));
    for said in [json!(i64::MAX), json!(-1), json!(1.5), json!(true)] {
        assert_eq!(version(said.clone()), (None, Some(said.to_string())));
    }
    assert!(read(json!({ "version": 5 })).is_err(), "empty");
    let secret = read(json!({ "content": 5, "token": "abc" })).expect_err("no text");
    assert!(!secret.message.contains("abc"));
    let html = answer::message(&headers(&[("content-type", "text/html")]), b"<html>");
    assert!(html.expect_err("no JSON").message.contains("text/html"));
}

#[test]
fn errors_say_what_to_do() {
    let get = source(RegistryProtocol::Get);
    for (code, trouble) in [
        (302, Trouble::Unusable),
        (400, Trouble::Unusable),
        (401, Trouble::Refused),
        (403, Trouble::Refused),
        (404, Trouble::NotFound),
        (429, Trouble::Unavailable),
        (503, Trouble::Unavailable),
    ] {
        let status = StatusCode::from_u16(code).expect("a status");
        let failure = answer::status(&get, status);
        assert_eq!(failure.trouble, trouble, "{code}");
        assert!(failure.message.contains(&code.to_string()), "{code}");
    }
}

#[test]
fn errors_of_connect_are_told_by_code_and_else_by_status() {
    let connect = source(RegistryProtocol::Connect);
    let told = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).expect("a status");
        answer::error(&connect, status, body.as_bytes(), Some("abc"))
    };
    let missing = told(
        404,
        r#"{"code":"not_found","message":"none for abc\nhere"}"#,
    );
    assert_eq!(missing.trouble, Trouble::NotFound);
    for part in ["L2O_v3", "t123", "none for … here"] {
        assert!(missing.message.contains(part), "{}", missing.message);
    }
    for (status, body, trouble) in [
        (403, r#"{"code":"permission_denied"}"#, Trouble::Refused),
        (400, r#"{"code":"invalid_argument"}"#, Trouble::Unusable),
        (500, r#"{"code":"internal"}"#, Trouble::Unavailable),
        (404, "not JSON", Trouble::Unusable),
        (401, "", Trouble::Refused),
        (503, "", Trouble::Unavailable),
        (302, "", Trouble::Unusable),
    ] {
        assert_eq!(told(status, body).trouble, trouble, "{status} {body}");
    }
    let long = format!(r#"{{"code":"internal","message":"{}"}}"#, "x".repeat(5000));
    assert!(told(500, &long).message.len() < 500);
}
