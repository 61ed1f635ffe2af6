//! What one run of a lifecycle hands over to the next.

use serde::{Deserialize, Serialize};

use super::rollout::is_default;
use super::{ChildFinished, DrainTold, ProcessKey, Request, State};

/// Input of [`crate::lifecycle::ProcessLifecycle`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LifecycleInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Memory of the previous run; absent for a first run.
    pub state: Option<State>,
    /// What had come in and was not taken in yet.
    #[serde(skip_serializing_if = "is_default")]
    pub carried: Carried,
}

/// What has come in and waits for a look that succeeds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Carried {
    /// Of children that ended.
    pub reports: Vec<ChildFinished>,
    /// Of drains under way.
    pub drained: Vec<DrainTold>,
    /// Signals that could not be understood, to be told in Events.
    pub refused: Vec<String>,
    /// Of people.
    pub requests: Vec<Request>,
    /// Verbs so far; the ids of `requests` are made of it.
    pub verbs: u32,
}

impl Carried {
    /// How many refusals are handed over: a failure that lasts for days must not fill the input.
    pub const REFUSED: usize = 20;

    /// The same in fewer words: of each drain the last that it told, with all that has happened.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        let mut drained: Vec<DrainTold> = Vec::new();
        for told in std::mem::take(&mut self.drained) {
            let same = |kept: &&mut DrainTold| kept.id == told.id && kept.build_id == told.build_id;
            let Some(kept) = drained.iter_mut().find(same) else {
                drained.push(told);
                continue;
            };
            kept.notes.extend(told.notes);
            if told.serial == 0 || told.serial >= kept.serial {
                (kept.progress, kept.serial) = (told.progress, told.serial);
            }
        }
        self.drained = drained;
        let excess = self.refused.len().saturating_sub(Self::REFUSED);
        self.refused.drain(..excess);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{DrainNote, DrainProgress};

    fn told(id: &str, serial: u32, open: u64, what: &str) -> DrainTold {
        DrainTold {
            id: id.into(),
            build_id: "v1".into(),
            progress: DrainProgress {
                open: Some(open),
                ..DrainProgress::default()
            },
            notes: vec![DrainNote {
                what: what.into(),
                ..DrainNote::default()
            }],
            serial,
        }
    }

    #[test]
    fn of_each_drain_the_latest_is_kept_and_all_that_has_happened() {
        let carried = Carried {
            drained: vec![
                told("a", 2, 9, "DrainTimedOut"),
                told("b", 1, 5, "DrainStarted"),
                told("a", 4, 3, "DrainEscalated"),
                told("a", 3, 7, "late"),
            ],
            refused: (0..30).map(|n| n.to_string()).collect(),
            ..Carried::default()
        };
        let short = carried.shortened();
        let [a, b] = short.drained.as_slice() else {
            panic!("{:?}", short.drained);
        };
        assert_eq!((a.serial, a.progress.open), (4, Some(3)));
        let notes: Vec<&str> = a.notes.iter().map(|note| note.what.as_str()).collect();
        assert_eq!(notes, ["DrainTimedOut", "DrainEscalated", "late"]);
        assert_eq!((b.id.as_str(), b.progress.open), ("b", Some(5)));
        assert_eq!(short.refused.len(), Carried::REFUSED);
        assert_eq!(short.refused.last().map(String::as_str), Some("29"));
    }

    #[test]
    fn an_input_of_an_earlier_release_reads_and_one_with_nothing_more_is_as_short() {
        let old = r#"{"key":{"namespace":"n","name":"l2o","uid":"u"},"state":null}"#;
        let read: LifecycleInput = serde_json::from_str(old).expect("it reads");
        assert_eq!(read.carried, Carried::default());
        assert_eq!(serde_json::to_string(&read).expect("it is written"), old);
    }
}
