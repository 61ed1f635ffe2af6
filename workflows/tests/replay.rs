//! Replays every stored history against the present workflow code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use process_operator_workflows::drain::ProcessDrain;
use process_operator_workflows::lifecycle::ProcessLifecycle;
use process_operator_workflows::rollout::{ProcessRollout, RolloutInput};
use sha2::{Digest as _, Sha256};
use temporalio_client::WorkflowHistory;
use temporalio_common::protos::coresdk::common::decode_change_marker_details;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};

/// A history that does not replay may leave the replayer waiting.
const LIMIT: Duration = Duration::from_secs(60);

fn stored(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the folder of histories") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            stored(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            found.push(path);
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/histories")
}

fn histories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    stored(&folder(), &mut found);
    found.sort();
    found
}

fn replayer() -> WorkflowReplayer {
    let mut options = WorkflowReplayerOptions::new().build();
    options
        .register_workflow::<ProcessLifecycle>()
        .expect("registration")
        .register_workflow::<ProcessRollout>()
        .expect("registration")
        .register_workflow::<ProcessDrain>()
        .expect("registration");
    WorkflowReplayer::new(options).expect("replayer")
}

async fn replay(bytes: &[u8]) -> Result<(), String> {
    let history = WorkflowHistory::from_json(bytes).expect("a stored history");
    match tokio::time::timeout(LIMIT, replayer().replay_workflow(history)).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no result in {} s", LIMIT.as_secs())),
    }
}

#[tokio::test]
async fn every_stored_history_replays() {
    let stored = histories();
    assert!(!stored.is_empty(), "no histories are stored");
    let mut failed = Vec::new();
    for path in stored {
        if let Err(why) = replay(&fs::read(&path).expect("a file")).await {
            failed.push(format!("{}: {why}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn a_history_of_other_code_is_refused() {
    let path = histories()
        .into_iter()
        .find(|path| path.to_string_lossy().contains("ProcessRollout"))
        .expect("a rollout");
    let other = fs::read_to_string(path)
        .expect("a file")
        .replace("wait-serving", "wait-something");
    let why = replay(other.as_bytes())
        .await
        .expect_err("it must not replay");
    assert!(why.contains("TMPRL1100"), "{why}");
}

/// What stands in the list of stored histories but is not so: `sha256sum` says the same, but for what is not in the list.
fn unlike(list: &str, files: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut listed = BTreeMap::new();
    for line in list.lines() {
        let (sum, name) = line.split_once("  ").unwrap_or(("", line));
        if listed.insert(name, sum).is_some() {
            wrong.push(format!("{name} is in the list twice"));
        }
    }
    for (name, content) in files {
        let sum = format!("{:x}", Sha256::digest(content));
        match listed.remove(name.as_str()) {
            Some(known) if known == sum => {}
            Some(_) => wrong.push(format!("{name} was changed")),
            None => wrong.push(format!("{name} is not in the list")),
        }
    }
    wrong.extend(listed.keys().map(|name| format!("{name} was removed")));
    wrong
}

#[test]
fn stored_histories_are_what_they_were_when_they_were_added() {
    let folder = folder();
    let list = fs::read_to_string(folder.join("SHA256SUMS")).expect("the list");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&folder).expect("a file in it");
        let name = name.to_string_lossy().into_owned();
        (name, fs::read(path).expect("a file"))
    };
    let files: Vec<_> = histories().into_iter().map(read).collect();
    let wrong = unlike(&list, &files);
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\nA stored history is neither changed nor removed: somebody's workflows have it. Take it back with \
         `git restore tests/histories`. How to add one is in tests/histories/README.md."
    );
}

#[test]
fn a_history_that_was_changed_removed_or_forgotten_is_named() {
    let file = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    let line = |name: &str, content: &str| format!("{:x}  {name}\n", Sha256::digest(content));
    let list = [line("1/a.json", "a"), line("1/b.json", "b")].concat();
    let kept = [file("1/a.json", "a"), file("1/b.json", "b")];
    assert_eq!(unlike(&list, &kept), [""; 0]);
    let others = [file("1/a.json", "other"), file("1/c.json", "c")];
    let wrong = [
        "1/a.json was changed",
        "1/c.json is not in the list",
        "1/b.json was removed",
    ];
    assert_eq!(unlike(&list, &others), wrong);
    let again = [list, line("1/a.json", "other")].concat();
    let wrong = ["1/a.json is in the list twice", "1/a.json was changed"];
    assert_eq!(unlike(&again, &kept), wrong);
}

/// What each release must have left: the three workflows that its histories are of.
const TYPES: [&str; 3] = ["ProcessLifecycle", "ProcessRollout", "ProcessDrain"];

#[test]
fn the_present_release_has_histories_of_each_workflow() {
    let release = format!("/{}/", env!("CARGO_PKG_VERSION"));
    let own: Vec<String> = histories()
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| path.contains(&release))
        .collect();
    for type_ in TYPES {
        assert!(
            own.iter().any(|path| path.contains(&format!("-{type_}-"))),
            "tests/histories{release} has none of {type_}: RECORD_HISTORIES=1 cargo xtask test recorded"
        );
    }
}

/// The events of all stored histories whose files are named so.
async fn decoded(part: &str) -> Vec<Vec<HistoryEvent>> {
    let mut all = Vec::new();
    for path in histories() {
        if path.to_string_lossy().contains(part) {
            let bytes = fs::read(&path).expect("a file");
            let history = WorkflowHistory::from_json(&bytes).expect("a stored history");
            all.push(history.into_events().await.expect("its events"));
        }
    }
    all
}

/// The changes of workflow code that are behind `ctx.patched(..)`.
const CHANGES: [&str; 1] = ["other-grace"];

#[tokio::test]
async fn each_change_behind_a_marker_stands_in_a_stored_history() {
    let mut found = BTreeSet::new();
    for event in decoded("").await.into_iter().flatten() {
        if let Some(Attributes::MarkerRecordedEventAttributes(marker)) = event.attributes {
            found.extend(decode_change_marker_details(&marker.details).map(|(id, _)| id));
        }
    }
    assert_eq!(found, BTreeSet::from(CHANGES.map(str::to_owned)));
}

/// What rollouts do.
const WORKS: [&str; 6] = [
    "judge",
    "run-gate",
    "set-current",
    "set-weight",
    "wait-serving",
    "watch-evidence",
];

/// Input of a rollout.
fn started_with(events: &[HistoryEvent]) -> Option<RolloutInput> {
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) =
        &events.first()?.attributes
    else {
        return None;
    };
    let payload = started.input.as_ref()?.payloads.first()?;
    serde_json::from_slice(&payload.data).ok()
}

/// Rollouts go different ways by how they were started: those of earlier operators do not show that today's replay.
#[tokio::test]
async fn rollouts_that_were_started_as_today_have_done_everything_that_rollouts_do() {
    let mut works = BTreeSet::new();
    let mut paused = false;
    for events in decoded("-ProcessRollout-").await {
        let input = started_with(&events).expect("the input of a rollout");
        if !(input.revised && input.own_timers) {
            continue;
        }
        paused |= input.paused;
        for event in events {
            if let Some(Attributes::ActivityTaskScheduledEventAttributes(work)) = event.attributes {
                works.extend(work.activity_type.map(|it| it.name));
            }
        }
    }
    assert_eq!(works, BTreeSet::from(WORKS.map(str::to_owned)));
    assert!(paused, "one has begun paused");
}

/// Commands by the number of their event, with another one that stands in its place.
const COMMANDS: [(u64, &str); 7] = [
    (10, "an activity"),
    (17, "a timer"),
    (25, "a local activity"),
    (29, "a child workflow"),
    (37, "a signal to another workflow"),
    (40, "search attributes"),
    (46, "a memo"),
];

type Event = serde_json::Value;

fn events(path: &Path) -> Vec<Event> {
    let history = fs::read(path).expect("a file");
    let history: serde_json::Value = serde_json::from_slice(&history).expect("a stored history");
    history["events"].as_array().expect("events").clone()
}

/// Stands for code that does something else at this place, or the same later: as the code is, the history
/// has been written by it.
#[tokio::test]
async fn code_without_one_of_its_commands_does_not_fit_what_is_stored() {
    let all: Vec<Vec<Event>> = histories().iter().map(|path| events(path)).collect();
    let first_of = |kind: u64| {
        all.iter().find_map(|events| {
            let at = events
                .iter()
                .position(|event| event["event_type"] == kind)?;
            Some((events.clone(), at))
        })
    };
    for (kind, what) in COMMANDS {
        let (mut events, at) = first_of(kind).unwrap_or_else(|| panic!("no history has {what}"));
        let instead = if kind == 17 { 40 } else { 17 };
        let (others, other) = first_of(instead).expect("another command");
        let id = events[at]["event_id"].clone();
        events[at] = others[other].clone();
        events[at]["event_id"] = id;
        let history = serde_json::json!({ "events": events });
        let refused = replay(history.to_string().as_bytes()).await.err();
        let why = refused.unwrap_or_else(|| panic!("without {what} it replays all the same"));
        assert!(why.contains("TMPRL1100"), "{what}: {why}");
    }
}
