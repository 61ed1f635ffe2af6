//! Which version gets which share of new executions.

use std::fmt;

use process_operator_workflows::contract::Expected;
use temporalio_common::protos::temporal::api::deployment::v1::{
    WorkerDeploymentInfo, WorkerDeploymentVersion,
};

/// Who gets which share of new executions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shares {
    /// Build id of the Current version; empty when there is none.
    pub(crate) current: String,
    /// Build id of the Ramping version; empty when there is none.
    pub(crate) ramping: String,
    /// Its percentage.
    pub(crate) percent: f32,
}

pub(crate) fn build_id(version: Option<&WorkerDeploymentVersion>) -> String {
    version
        .map(|version| version.build_id.clone())
        .unwrap_or_default()
}

impl Shares {
    /// The ramp is at a percentage of ours. What lies between two is somebody else's.
    pub(super) fn is_at(&self, weight: i32) -> bool {
        (self.percent - percent(weight)).abs() < f32::EPSILON
    }

    /// A rollout of `build_id` finds them as it has left them. A ramp that is there before the rollout's
    /// first is not looked at: it is replaced.
    pub(crate) fn kept(&self, build_id: &str, expected: &Expected) -> bool {
        let mut weights = expected.or.iter().copied().chain([expected.weight]);
        let ramp_kept = expected.weight == 0
            || self.ramping == build_id && weights.any(|weight| self.is_at(weight));
        self.current == expected.current && ramp_kept
    }
}

/// For people.
impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none_or = |build_id: &str| match build_id {
            "" => "none".to_owned(),
            some => some.to_owned(),
        };
        let (current, ramping) = (none_or(&self.current), none_or(&self.ramping));
        write!(f, "{current} current, {ramping} ramping")?;
        if self.ramping.is_empty() {
            return Ok(());
        }
        write!(f, " at {} %", self.percent)
    }
}

/// The shares as the server has them.
pub(crate) fn shares(info: &WorkerDeploymentInfo) -> Shares {
    let Some(routing) = &info.routing_config else {
        return Shares::default();
    };
    Shares {
        current: build_id(routing.current_deployment_version.as_ref()),
        ramping: build_id(routing.ramping_deployment_version.as_ref()),
        percent: routing.ramping_version_percentage,
    }
}

#[allow(clippy::cast_precision_loss, reason = "a percentage is exact")]
pub(super) fn percent(weight: i32) -> f32 {
    weight as f32
}
