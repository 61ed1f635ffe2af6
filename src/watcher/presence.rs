//! Whether the API server answers and knows `processes.ameide.io`: asked at the start, and again whenever a
//! watch is interrupted or the Lease cannot be read. While nothing is wrong nothing is asked.

use std::time::Duration;

use kube::Api;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use process_operator_crds::Process;

use super::{Shared, answered};
use crate::health::Part;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// Asks again after each interruption, for ever.
pub(super) async fn run(shared: &Shared) {
    loop {
        shared.interrupted.notified().await;
        there(shared).await;
    }
}

/// Asks until Processes can be listed: needs no right beyond the watcher's own.
pub(super) async fn there(shared: &Shared) {
    let api: Api<DeserializeGuard<Process>> = match shared.config.watch_namespaces.first() {
        Some(namespace) => Api::namespaced(shared.client.clone(), namespace),
        None => Api::all(shared.client.clone()),
    };
    let one = ListParams::default().limit(1);
    loop {
        let lacks = match answered(api.list(&one)).await {
            Ok(_) => Lacks::Nothing,
            Err(error) => {
                tracing::warn!("cannot list Processes: {error}; trying again");
                lacking(&error)
            }
        };
        show(shared, &lacks);
        if lacks == Lacks::Nothing {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What stands in the way of a list.
#[derive(Debug, PartialEq, Eq)]
enum Lacks {
    Nothing,
    /// An answer, or one that makes sense.
    Server(String),
    /// The definition of the kind. The 404 for a kind that is not served has no reason.
    Definition,
    /// Anything else that the server names, such as a right.
    List(String),
}

fn lacking(error: &kube::Error) -> Lacks {
    match error {
        kube::Error::Api(answer) if answer.code == 404 => Lacks::Definition,
        kube::Error::Api(answer) if answer.code == 401 => {
            Lacks::Server(format!("the operator's credentials are not taken: {error}"))
        }
        kube::Error::Api(answer) if answer.code != 429 && answer.code < 500 => {
            Lacks::List(error.to_string())
        }
        _ => Lacks::Server(error.to_string()),
    }
}

fn show(shared: &Shared, lacks: &Lacks) {
    let readiness = &shared.readiness;
    match lacks {
        Lacks::Server(why) => readiness.down(Part::ApiServer, why),
        Lacks::Nothing | Lacks::Definition | Lacks::List(_) => readiness.up(Part::ApiServer),
    }
    match lacks {
        Lacks::Nothing => {
            shared.metrics.crd_missing.set(0);
            readiness.up(Part::Crd);
        }
        Lacks::Definition => {
            shared.metrics.crd_missing.set(1);
            readiness.down(
                Part::Crd,
                "processes.ameide.io is not installed: kubectl apply -f crds/processes.ameide.io.yaml",
            );
        }
        Lacks::List(why) => readiness.down(Part::Crd, why),
        // Nothing is known about it.
        Lacks::Server(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("said so", "").with_code(code)))
    }

    #[test]
    fn what_is_lacking_is_told_apart() {
        assert_eq!(lacking(&answer(404)), Lacks::Definition);
        assert!(matches!(lacking(&answer(403)), Lacks::List(_)));
        for code in [401, 429, 500, 502, 503, 504] {
            assert!(matches!(lacking(&answer(code)), Lacks::Server(_)), "{code}");
        }
        let silent = kube::Error::Service("no answer in 10 s".into());
        assert_eq!(
            lacking(&silent),
            Lacks::Server(silent.to_string()),
            "nobody is there"
        );
    }
}
