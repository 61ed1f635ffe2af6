//! Requests by the annotation `ameide.io/request`.

use super::requests::{alice, ask, asked, at_stage, events, ramping, rolling};
use super::*;
use crate::contract::{Annotation, EventType, LastRequest, Stage, Verb, VerbArgs};

fn annotated(annotation: Annotation) -> Observation {
    ramping().change(|process| process.request = Some(annotation))
}

fn pause() -> Annotation {
    Annotation {
        id: "a1".into(),
        verb: "pause".into(),
        uid: "u1".into(),
        expires_at: Some(now() + SignedDuration::from_mins(5)),
        args: alice(),
        ..Annotation::default()
    }
}

#[test]
fn an_annotation_is_carried_out_once_and_remembered_in_status() {
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    let seen = annotated(pause());
    let plan = decide(&mut state, &seen);
    assert_eq!(orders(&plan), [("r", Order::Pause)]);
    let (kind, reason, _) = events(&plan)[0];
    assert_eq!((kind, reason), (EventType::Normal, "PauseRequested"));
    assert_eq!(state.history.last().unwrap().actor, "alice");
    let last = LastRequest {
        id: "a1".into(),
        verb: "pause".into(),
        accepted: true,
        message: "the share of new workflows stays as it is".into(),
        time: now(),
    };
    assert_eq!(status(&plan).last_request, Some(last.clone()));
    assert!(plan.answers.is_empty(), "nobody waits for an answer");

    // Resumed by hand; the manifest with the annotation is applied again.
    ask(&mut state, &seen, &asked(Verb::Resume));
    let again = decide(&mut state, &seen);
    assert!(orders(&again).is_empty() && events(&again).is_empty());
    assert_eq!(state.last_request, Some(last));
}

#[test]
fn an_annotation_with_a_new_id_is_a_new_request() {
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    decide(&mut state, &annotated(pause()));
    let resume = Annotation {
        id: "a2".into(),
        verb: "resume".into(),
        ..pause()
    };
    let plan = decide(&mut state, &annotated(resume));
    assert_eq!(orders(&plan), [("r", Order::Resume)]);
    // And the one before it is still known.
    let again = decide(&mut state, &annotated(pause()));
    assert!(orders(&again).is_empty() && events(&again).is_empty());
}

#[test]
fn what_the_last_request_was_outlives_the_memory() {
    let seen = Observation {
        history: ("an earlier run".into(), Vec::new()),
        last_request: Some(LastRequest {
            id: "a1".into(),
            accepted: true,
            ..LastRequest::default()
        }),
        ..annotated(pause())
    };
    let mut state = State::default();
    let plan = decide(&mut state, &seen);
    assert!(orders(&plan).is_empty() && events(&plan).is_empty());
    assert!(status(&plan).last_request.is_some());
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table is as long as it is")]
fn an_annotation_that_cannot_be_carried_out_is_refused_once() {
    let hours = |hours| Some(now() + SignedDuration::from_hours(hours));
    let cases = [
        (
            "of another uid, as after a restore from a backup",
            Annotation {
                uid: "another".into(),
                ..pause()
            },
            "metadata.uid, u1",
        ),
        (
            "expired",
            Annotation {
                expires_at: hours(-1),
                ..pause()
            },
            "in the past",
        ),
        (
            "expiring now",
            Annotation {
                expires_at: hours(0),
                ..pause()
            },
            "in the past",
        ),
        (
            "without an expiry",
            Annotation {
                expires_at: None,
                ..pause()
            },
            "expiresAt must be set",
        ),
        (
            "valid for too long",
            Annotation {
                expires_at: hours(24).map(|at| at + SignedDuration::from_secs(1)),
                ..pause()
            },
            "within 24 hours",
        ),
        (
            "with an unknown verb",
            Annotation {
                verb: "explode".into(),
                ..pause()
            },
            "verb must be pause",
        ),
        (
            "with the verb that stands for unknown ones",
            Annotation {
                verb: "unknown".into(),
                ..pause()
            },
            "verb must be pause",
        ),
        (
            "without an id",
            Annotation {
                id: String::new(),
                ..pause()
            },
            "id must have 1 to 128 characters",
        ),
        (
            "with an id that is too long",
            Annotation {
                id: "x".repeat(129),
                ..pause()
            },
            "id must have 1 to 128 characters",
        ),
        ("not JSON", Annotation::read("pause"), "not a JSON object"),
        (
            "JSON, but no object",
            Annotation::read("[]"),
            "not a JSON object",
        ),
        (
            "with a field of the wrong type",
            Annotation::read(r#"{"id": 7}"#),
            "not a JSON object",
        ),
        (
            "of a verb that does not fit",
            Annotation {
                verb: "retry".into(),
                ..pause()
            },
            "nothing has failed",
        ),
    ];
    for (name, annotation, words) in cases {
        let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
        let seen = annotated(annotation.clone());
        let plan = decide(&mut state, &seen);
        assert!(plan.orders.is_empty(), "{name}");
        let told = events(&plan);
        assert!(
            matches!(told[..], [(EventType::Warning, "RequestRefused", note)] if note.contains(words)),
            "{name}: {told:?}"
        );
        let last = state.last_request.clone().unwrap();
        assert_eq!((last.id, last.accepted), (annotation.id, false), "{name}");
        assert!(last.message.contains(words), "{name}: {}", last.message);
        let [line] = &state.history[..] else {
            panic!("{name}: {:?}", state.history);
        };
        assert_eq!(line.what, "RequestRefused", "{name}");
        assert!(line.reason.contains(words), "{name}: {}", line.reason);

        let before = state.clone();
        let again = decide(&mut state, &seen);
        assert_eq!(events(&again), [], "{name}: told once");
        assert_eq!(state, before, "{name}: the second look does nothing");
    }
}

#[test]
fn a_refusal_is_in_the_history_with_who_asked_and_why_and_once_however_often_it_is_asked_for() {
    let refused = |id: &str, verb: &str| {
        annotated(Annotation {
            id: id.into(),
            verb: verb.into(),
            ..pause()
        })
    };
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    let lines = |state: &State| -> Vec<String> {
        let history = state.history.iter();
        let text = history.map(|it| format!("{} {}, by {}", it.what, it.reason, it.actor));
        text.collect()
    };
    for id in ["a1", "a2", "a1"] {
        decide(&mut state, &refused(id, "retry"));
    }
    let retry = "RequestRefused retry: nothing has failed or was undone (ticket 7), by alice";
    assert_eq!(lines(&state), [retry]);
    assert_eq!(state.last_request.as_ref().unwrap().id, "a2");
    let plan = decide(&mut state, &refused("a3", "explode"));
    let all = lines(&state);
    assert_eq!(all.len(), 2);
    assert!(
        all[1].starts_with("RequestRefused annotation ameide.io/request: verb must be"),
        "{all:?}"
    );
    assert_eq!(status(&plan).history, state.history);
    // What else has happened in between is told between them.
    decide(&mut state, &refused("a4", "retry"));
    assert_eq!(lines(&state)[2..], [retry]);

    let long = Annotation {
        id: "a5".into(),
        verb: "retry".into(),
        args: VerbArgs {
            actor: "a".repeat(1000),
            reason: "r".repeat(5000),
            ..VerbArgs::default()
        },
        ..pause()
    };
    decide(&mut state, &annotated(long));
    let line = state.history.last().unwrap();
    assert_eq!((line.reason.len(), line.actor.len()), (1024, 256));
}

#[test]
fn an_annotation_may_be_valid_for_a_day() {
    let longest = Annotation {
        expires_at: Some(now() + SignedDuration::from_hours(24)),
        ..pause()
    };
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    decide(&mut state, &annotated(longest));
    assert!(state.last_request.unwrap().accepted);
}

#[test]
fn an_annotation_is_read_as_people_write_it() {
    let text = r#"{"id":"a1","verb":"undo","uid":"u1","expiresAt":"2026-01-01T00:05:00Z",
        "actor":"alice","reason":"ticket 7","buildId":"v0","full":true,"later":"field"}"#;
    let read = Annotation::read(text);
    let expected = Annotation {
        verb: "undo".into(),
        args: VerbArgs {
            build_id: "v0".into(),
            full: true,
            ..alice()
        },
        ..pause()
    };
    assert_eq!(read, expected);
    assert_ne!(
        Annotation::read("{").id,
        Annotation::read("[").id,
        "each unreadable text is a request of its own"
    );
}

#[test]
fn handled_requests_are_forgotten_in_the_end_oldest_first() {
    let mut state = rolling(None);
    for number in 0..=State::REQUESTS {
        let next = Annotation {
            id: format!("n{number}"),
            verb: "retry".into(),
            ..pause()
        };
        decide(&mut state, &annotated(next));
    }
    assert_eq!(state.handled.len(), State::REQUESTS);
    assert_eq!(state.handled[0], "n1");
}
