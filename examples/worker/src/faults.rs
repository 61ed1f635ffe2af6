//! What the worker can be told to do wrong, so that tests can watch the operator notice.

use serde::{Deserialize, Serialize};

/// Faults, each switched on by an environment variable. See [`crate::config`] for the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools)] // Independent switches, not a state machine.
pub struct Faults {
    /// `FAIL_PERCENT`: the share of `Quick` runs that fail, 0 to 100.
    pub fail_percent: u8,
    /// `FAIL_TASK_PERCENT`: the share of `Quick` runs whose workflow *task* fails, again and
    /// again, so that the run neither ends nor fails.
    pub fail_task_percent: u8,
    /// `FAIL_VERIFY`: every `Verify` run fails, whatever its input says.
    pub fail_verify: bool,
    /// `CRASH_AT_START`: the process exits with 1 before it does anything.
    pub crash_at_start: bool,
    /// `CRASH_AFTER_MS`: how long after its start the process exits with 1; 0 for never.
    pub crash_after_ms: u64,
    /// `NEVER_POLL`: the pod is up and ready but takes no work.
    pub never_poll: bool,
    /// `IGNORE_VERSIONING`: polls as a worker that knows nothing of Worker Deployments.
    pub ignore_versioning: bool,
    /// `BREAK_DETERMINISM`: `WaitForSignal` issues other commands than without it, so that
    /// replaying a history written without it fails, and the other way round.
    pub break_determinism: bool,
    /// `START_DELAY_MS`: how long to wait before connecting.
    pub start_delay_ms: u64,
}

/// Whether the run with this id belongs to the given share of all runs.
///
/// A pure function of its arguments: a retry or a replay of the same run gets the same answer, and
/// a larger share only adds ids to a smaller one.
#[must_use]
pub fn in_share(workflow_id: &str, percent: u8) -> bool {
    // FNV-1a. The standard library's hasher promises no stable result across versions.
    let hash = workflow_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // Ids that differ only in their last characters differ little in FNV's low bits, which is what
    // the remainder looks at: mix the high bits in.
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::in_share;

    #[test]
    fn the_ends_of_the_range_are_exact() {
        for n in 0..500 {
            let id = format!("run-{n}");
            assert!(!in_share(&id, 0));
            assert!(in_share(&id, 100));
        }
    }

    #[test]
    fn the_share_is_about_right_for_ids_as_people_number_them() {
        for prefix in ["quick-", "order/2026/", "", "a-rather-long-workflow-id-"] {
            for percent in [5_u8, 20, 50, 80] {
                let hits = (0..2000)
                    .filter(|n| in_share(&format!("{prefix}{n}"), percent))
                    .count();
                let expected = usize::from(percent) * 20;
                assert!(
                    hits.abs_diff(expected) < 100,
                    "{prefix} at {percent} %: {hits} of 2000"
                );
            }
        }
    }

    #[test]
    fn a_larger_share_only_adds() {
        for n in 0..200 {
            let id = format!("run-{n}");
            for percent in 0..100 {
                assert!(!in_share(&id, percent) || in_share(&id, percent + 1));
            }
        }
    }

    #[test]
    fn the_answer_does_not_change_between_releases() {
        let hits: Vec<u32> = (0..20)
            .filter(|n| in_share(&format!("quick-{n}"), 20))
            .collect();
        assert_eq!(hits, [0, 4, 7, 8, 10, 12, 16]);
    }
}
