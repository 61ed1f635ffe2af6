//! What options change in what is asked of the API server, and in what is printed.

use std::sync::{Arc, Mutex};

use clap::Parser as _;
use http::request::Parts;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use process_operator_crds::names;
use serde_json::{Value, json};

use super::{completion, get, list, on};
use crate::args::{Cli, Command};
use crate::cluster::Cluster;
use crate::samples::{V1, change, settled};

/// An API server that has one Process and its pods, and does what it is asked for at once.
#[derive(Clone)]
struct Server(Arc<Mutex<Known>>);

struct Known {
    process: Value,
    pods: Value,
    /// Each request: method, address and body, or what a verb has written into the annotation.
    asked: Vec<String>,
}

impl Server {
    fn new() -> Self {
        let objects = settled();
        Self(Arc::new(Mutex::new(Known {
            process: serde_json::to_value(&objects.process).expect("JSON"),
            pods: serde_json::to_value(&objects.pods).expect("JSON"),
            asked: Vec::new(),
        })))
    }

    fn cluster(&self) -> Cluster {
        let known = Arc::clone(&self.0);
        let service = tower::service_fn(move |request: Request<Body>| {
            let known = Arc::clone(&known);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let body = String::from_utf8_lossy(&body);
                let answer = known.lock().expect("no panic").answer(&head, &body);
                Ok::<_, kube::Error>(Response::new(Body::from(answer.into_bytes())))
            }
        });
        Cluster {
            client: Client::new(service, "shop"),
            namespace: "shop".into(),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().expect("no panic").asked.clone()
    }
}

impl Known {
    fn answer(&mut self, head: &Parts, body: &str) -> String {
        let path = head.uri.path();
        self.asked
            .push(format!("{} {} {body}", head.method, head.uri));
        if head.method == Method::PATCH {
            self.request(body);
        }
        if path.ends_with("/log") {
            return "a line\n".into();
        }
        if path.ends_with("/processes/l2o") {
            return self.process.to_string();
        }
        if path.ends_with("/selfsubjectreviews") {
            return json!({ "status": { "userInfo": { "username": "ada" } } }).to_string();
        }
        let items = match path.rsplit('/').next() {
            Some("processes") => json!([self.process]),
            Some("pods") => self.pods.clone(),
            _ => json!([]),
        };
        let list = json!({
            "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": items,
        });
        list.to_string()
    }

    /// Accepts a verb.
    fn request(&mut self, patch: &str) {
        let patch: Value = serde_json::from_str(patch).expect("JSON");
        let request = &patch["metadata"]["annotations"][names::annotation::REQUEST];
        let request = request.as_str().expect("a request");
        self.asked.push(format!("request {request}"));
        let request: Value = serde_json::from_str(request).expect("JSON");
        self.process["status"]["lastRequest"] = json!({
            "id": request["id"], "verb": request["verb"], "result": "Accepted", "message": "done",
            "time": "2026-11-29T12:00:00Z",
        });
    }
}

/// A command line, and what one request that it makes has in it.
const REQUESTS: [(&str, &[&str]); 8] = [
    (
        "undo l2o --yes --to v0-00000000",
        &["request ", r#""verb":"undo""#, r#""buildId":"v0-00000000""#],
    ),
    // Nobody is asked: the request is made.
    ("abort l2o -y", &["request ", r#""verb":"abort""#]),
    (
        "drain l2o --force -y --build-id v1-b2050a7a",
        &[
            "request ",
            r#""verb":"forceCancelDrain""#,
            r#""buildId":"v1-b2050a7a""#,
            r#""action":"Cancel""#,
        ],
    ),
    (
        "drain l2o --force -y --action MoveToCurrent",
        &[
            "request ",
            r#""verb":"forceCancelDrain""#,
            r#""buildId":"""#,
            r#""action":"MoveToCurrent""#,
        ],
    ),
    (
        "logs l2o --since 10m",
        &["/namespaces/shop/pods/l2o-", "/log?", "sinceSeconds=600"],
    ),
    (
        "gather l2o --tail 7 -o /dev/null",
        &["/namespaces/shop/pods/l2o-", "/log?", "tailLines=7"],
    ),
    (
        "list -l team=sales",
        &["/namespaces/shop/processes?", "labelSelector=team%3Dsales"],
    ),
    (
        "verify l2o --operator-namespace ops",
        &["/namespaces/ops/leases"],
    ),
];

fn parsed(line: &str) -> Command {
    let words = line.split_whitespace();
    let cli = Cli::try_parse_from(std::iter::once("kubectl-process").chain(words));
    cli.expect(line).command
}

#[tokio::test]
async fn options_are_in_the_requests_that_are_made() {
    for (line, parts) in REQUESTS {
        let server = Server::new();
        let ended = Box::pin(on(&server.cluster(), parsed(line))).await;
        let asked = server.asked();
        assert!(
            asked
                .iter()
                .any(|request| parts.iter().all(|part| request.contains(part))),
            "{line}: no {parts:?} in {asked:#?}, {ended:?}"
        );
    }
}

/// What is printed by `get` or `list` with `-o`, of two Processes in the case of `list`.
fn told(line: &str) -> String {
    let objects = settled();
    let told = match parsed(line) {
        Command::Get(args) => get::told(&objects, args.output.output.expect("a form")),
        Command::List(args) => {
            let mut other = settled();
            change(&mut other, |process| {
                process["metadata"]["name"] = "billing".into();
            });
            let found = [objects.process, other.process];
            list::told(&found, args.output.output.expect("a form"))
        }
        other => panic!("{other:?}"),
    };
    told.expect("text")
}

#[test]
fn other_forms_tell_the_same() {
    let names = "process.ameide.io/billing\nprocess.ameide.io/l2o\n";
    assert_eq!(told("list -o name"), names);
    assert_eq!(told("get l2o -o name"), "process.ameide.io/l2o\n");
    for (command, first_line) in [
        ("list", "- namespace: shop"),
        ("get l2o", "namespace: shop"),
    ] {
        let yaml = told(&format!("{command} -o yaml"));
        assert_eq!(yaml.lines().next(), Some(first_line), "{yaml}");
        assert!(yaml.contains(V1), "{yaml}");
        let json = told(&format!("{command} -o json"));
        let yaml: Value = serde_yaml_ng::from_str(&yaml).expect("YAML");
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(yaml, json, "{command}");
    }
}

#[test]
fn each_shell_is_given_a_script_of_its_own() {
    for (shell, begin) in [
        ("elvish", "edit:completion:arg-completer[kubectl-process]"),
        ("powershell", "Register-ArgumentCompleter -Native"),
    ] {
        let Command::Completion { shell: asked } = parsed(&format!("completion {shell}")) else {
            panic!("{shell}");
        };
        let script = completion(asked);
        for part in [begin, "promote", "--force"] {
            assert!(script.contains(part), "{shell}: no {part} in {script}");
        }
    }
}
